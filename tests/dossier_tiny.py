"""A tiny model, three SAEs and short texts of a few words, for tests of the dossier."""

import numpy as np
import pytest

from core.corpus.documents import Corpus, Document, digest_of
from core.dossier import hides, scoring, shared
from tests.builders import make_sae

TEXT = "the river runs under bridges of the city and a drink in the store for Mary"
WORDS = tuple(TEXT.split(" "))
RELEASE, HOOK = "tiny", "blocks.1.hook_resid_pre"


def corpus(seed: int, n: int = 60) -> Corpus:
    """Texts of words in random order, some of them repeated."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 40)) + "." for _ in range(n)]
    documents = [Document(f"text {i}", text) for i, text in enumerate(texts)]
    return Corpus(f"words {seed}", digest_of("words", seed, n), lambda: iter(documents))


def tiny_saes() -> dict:
    """One of 48 latents, a wider one at its site, and one a layer earlier, by (release, id)."""
    made = {
        name: make_sae("topk", d_in=32, d_sae=width, hook_name=hook, seed=seed)
        for seed, (name, hook, width) in enumerate(
            (("own", HOOK, 48), ("wide", HOOK, 96), ("before", "blocks.0.hook_resid_pre", 48))
        )
    }
    return {(RELEASE, name): sae for name, sae in made.items()}


def little_text(patch: pytest.MonkeyPatch) -> None:
    """Little text for every part."""
    for module, name, value in (
        (shared, "HELD_OUT_TOKENS", 1500),
        (shared, "SAMPLE_TOKENS", 2000),
        (hides, "SITE_TOKENS", 3000),
        (scoring, "SCORE_TOKENS", 3000),
    ):
        patch.setattr(module, name, value)
    patch.setattr(shared, "docs_sample", lambda packages: corpus(9))
