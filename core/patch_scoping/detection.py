"""Can somebody who has only the text tell where the latent fires? Detection, as in autointerp.

A judge sees the text and unmarked examples, and says in which of them the latent is active. Without
a chat model, the judge goes by the words: an example that holds a word of the text is active. That
judge is deaf to paraphrase, so its score is a lower bound on what the text is worth.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sae_lens import SAE

from core.autointerp import AutoInterp, AutoInterpConfig, Judged
from core.autointerp.example import Example
from core.autointerp.gather import TokenSource
from core.autointerp.roles import Explained, Judge
from core.corpus.token_set import TokenSet
from core.jobs.progress import Progress
from core.llm import ChatEndpoint
from core.models import Model
from core.patch_scoping.faithfulness import named_tokens
from core.store import Store

_WORDS = re.compile(r"[^\W\d_]+")


class NamingJudge:
    """Takes an example for active when the text names one of its words."""

    async def judge(self, explained: Explained, examples: Sequence[Example]) -> Judged:
        """Numbers, from 1, of the examples that hold a word of the text."""
        found = [
            number
            for number, example in enumerate(examples, start=1)
            if any(named_tokens(explained.text, _WORDS.findall("".join(example.str_toks))))
        ]
        return Judged(found)


def detection_check(
    model: Model,
    sae: SAE,
    act_store: TokenSource | TokenSet,
    texts: Mapping[int, str],
    *,
    total_tokens: int = 50_000,
    judge: Judge | None = None,
    endpoint: ChatEndpoint | None = None,
    store: Store | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[int, dict[str, Any]]:
    """Score the texts of latents by detection: what `AutoInterp.run` gives for each latent.

    Args:
        model: the model that the SAE reads.
        sae: any SAE of it.
        act_store: rows of tokens in which the latents are looked for.
        texts: what is said of each latent.
        total_tokens: tokens to run.
        judge: who judges; None for a chat model at `endpoint`, or else for `NamingJudge`.
        endpoint: the chat model; its answers cost money and are kept in `store`.
        store: keeps answers.
        seed: of the examples.
        progress: tokens, then latents.

    Raises:
        ValueError: no texts; else as `AutoInterp.gather_data`.
    """
    if not texts:
        raise ValueError("There are no texts to check; explain a latent first.")
    prepared = detection(
        model,
        sae,
        act_store,
        list(texts),
        total_tokens=total_tokens,
        judge=judge,
        endpoint=endpoint,
        store=store,
        seed=seed,
    )
    return prepared.run(explanations=texts, progress=progress)


def detection(
    model: Model,
    sae: SAE,
    act_store: TokenSource | TokenSet,
    latents: Sequence[int],
    *,
    total_tokens: int = 50_000,
    judge: Judge | None = None,
    endpoint: ChatEndpoint | None = None,
    store: Store | None = None,
    seed: int = 0,
) -> AutoInterp:
    """The check before it runs, for who holds the model only while examples are gathered."""
    cfg = AutoInterpConfig(
        latents=list(latents), scoring=True, total_tokens=total_tokens, seed=seed
    )
    if judge is None and endpoint is None:
        judge = NamingJudge()
    return AutoInterp(cfg, model, sae, act_store, endpoint=endpoint, store=store, judge=judge)
