"""Can somebody who has only the text tell where the latent fires? Detection, as in autointerp.

A judge sees the text and unmarked examples, and says in which of them the latent is active. Without
a chat model, the judge goes by the words: an example that holds a word of the text is active. That
judge is deaf to paraphrase, so its score is a lower bound on what the text is worth.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.autointerp.config import AutoInterpConfig
from core.autointerp.example import Example
from core.autointerp.pipeline import AutoInterp
from core.autointerp.roles import Explained, Judged
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.jobs.progress import PartProgress
from core.lease import Lease
from core.patch_scoping.faithfulness import named_tokens
from core.store import Store

SAMPLE_TOKENS = 40_000
"""Tokens in which examples are looked for: little enough for one turn of some seconds."""
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


def detection_by_words(
    lease: Lease, store: Store, corpus: Corpus, texts: Mapping[int, str]
) -> dict[int, dict[str, Any]]:
    """Score the texts of latents by detection on a sample of the corpus, judged by words.

    What `AutoInterp.run` gives for each latent. Raises ValueError for no texts, or a corpus that
    cannot be read.
    """
    if not texts:
        raise ValueError("There are no texts to check; explain a latent first.")
    with lease.turn() as (model, (sae,)):
        packing = default_packing(model, sae, max_tokens=SAMPLE_TOKENS)
    tokens = load_token_set(corpus, lease.tokenizer, packing, store=store, progress=lease.progress)
    lease.progress.update(0, None, message="Looking for examples")
    cfg = AutoInterpConfig(latents=list(texts), scoring=True, total_tokens=SAMPLE_TOKENS)
    with lease.turn() as (model, (sae,)):
        check = AutoInterp(cfg, model, sae, tokens, judge=NamingJudge())
        data = check.gather_data(progress=PartProgress(lease.progress, silent=True))
    return check.run(data=data, explanations=texts, progress=lease.progress)
