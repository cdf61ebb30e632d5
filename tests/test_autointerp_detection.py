"""Texts scored by detection with a judge that only looks for their words."""

import numpy as np
import pytest
from sae_lens import SAE

from core.autointerp import lexical
from core.autointerp.lexical import NamingJudge, detection_by_words
from core.corpus.documents import pasted_text
from core.lease import PlainLease
from core.models import Model
from core.store import Store

WORDS = ("the", "tower", "Paris", "river", "store", "drink", "Mary", "returns", "in 1998", "city")


def test_detection_by_the_words_of_a_text(
    tiny_model: Model, tiny_sae: SAE, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "SAMPLE_TOKENS", 1500)
    generator = np.random.default_rng(5)
    corpus = pasted_text(" ".join(generator.choice(WORDS, size=900)))
    lease, store = PlainLease(tiny_model, [tiny_sae]), Store(tmp_path)
    texts = {latent: "zzz" if latent % 2 else "the tower" for latent in range(30)}
    found = detection_by_words(lease, store, corpus, texts)
    assert found.keys() == texts.keys()
    scored = {latent: one for latent, one in found.items() if one["status"] == "scored"}
    assert {one["status"] for one in found.values()} <= {"scored", "unscored"}
    assert len({latent % 2 for latent in scored}) == 2
    for one in found.values():
        # Most latents of this model fire in every text.
        assert (one["score"] is None) == (one["status"] == "unscored")
    for latent, result in scored.items():
        assert result["explanation"] == texts[latent]
        assert latent % 2 == 0 or result["predictions"] == []
        n = result["numbers"]["n"]
        right = set(result["predictions"]) ^ set(result["correct seqs"])
        assert result["score"] == pytest.approx(1 - len(right) / n)
    with pytest.raises(ValueError, match="no texts"):
        detection_by_words(lease, store, corpus, {})


def test_the_judge_takes_what_names_a_word(tiny_model: Model) -> None:
    import asyncio

    from core.autointerp.examples import Example
    from core.autointerp.roles import Explained

    def example(text: str) -> Example:
        ids = tiny_model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Example(ids, [0.0] * len(ids), 0.5, tiny_model)

    shown = [example("the Eiffel tower"), example("a river"), example("towers of Paris")]
    judged = asyncio.run(NamingJudge().judge(Explained("about a tower", []), shown))
    assert judged.predictions == [1, 3]
