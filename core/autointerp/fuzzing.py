"""Fuzzing: which marks are right? Tests whether an explanation finds the token, not just the text.

After EleutherAI's fuzzing score (Paulo et al. 2024, arXiv 2410.13928): active examples are shown
with marks, some on the tokens at which the latent is active and some on others, and the judge says
which marks are right. Here every example comes twice, once with each kind of marks, so that no
example gives itself away by its text.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

import numpy as np

from core.autointerp.chat import THINKING_TOKENS, ask_for_list, list_request
from core.autointerp.detection_statistics import detection_statistics, without_nan
from core.autointerp.examples import Example
from core.autointerp.prompts import fuzzing_prompts
from core.autointerp.roles import Explained, Judged, Material, NoScore, Scored
from core.llm import ChatRequest, ChatSession

Marks = list[bool]
"""Which tokens of an example are marked."""


class MarksJudge(Protocol):
    """Says which marks are right, without seeing any activation."""

    async def judge_marks(
        self, explained: Explained, examples: Sequence[Example], marks: Sequence[Marks]
    ) -> Judged:
        """Numbers, from 1, of the examples marked right. Raises FailedAnswer, or ChatError."""


class ChatMarksJudge:
    """Shows all marked examples at once."""

    def __init__(self, session: ChatSession, *, thinking_tokens: int = THINKING_TOKENS) -> None:
        """`thinking_tokens`: room for thoughts before the answer."""
        self._session, self._room = session, thinking_tokens

    def request(
        self, explanation: str, examples: Sequence[Example], marks: Sequence[Marks]
    ) -> ChatRequest:
        """The first question."""
        texts = [example.marked(some) for example, some in zip(examples, marks, strict=True)]
        return list_request(fuzzing_prompts(explanation, texts), len(texts), self._room)

    async def judge_marks(
        self, explained: Explained, examples: Sequence[Example], marks: Sequence[Marks]
    ) -> Judged:
        """Raises FailedAnswer, or ChatError."""
        request = self.request(explained.text, examples, marks)
        return await ask_for_list(self._session, request, len(examples))


class Fuzzing:
    """Balanced accuracy of telling right marks from wrong ones."""

    name = "fuzzing"

    def __init__(self, judge: MarksJudge, *, seed: int = 0) -> None:
        """`seed` of the wrong marks and of the order."""
        self.judge, self._seed = judge, seed

    async def score(self, explained: Explained, material: Material) -> Scored:
        """Balanced accuracy; 0.5 is chance. Raises NoScore where there is nothing to mark."""
        items = fuzzing_items(material, seed=self._seed)
        if not any(example.is_active for example in material.scoring):
            raise NoScore("No score: the test set had no positives (no scoring example is active).")
        if not items:
            raise NoScore("No score: in every active example too few tokens are silent to mark.")
        examples, marks, right = map(list, zip(*items, strict=True))
        judged = await self.judge.judge_marks(explained, examples, marks)
        predicted = [number in judged.predictions for number in range(1, len(items) + 1)]
        numbers = without_nan(asdict(detection_statistics(right, predicted, seed=self._seed)))
        rows = [
            {"text": ex.marked(some), "source": ex.source, "truth": truth, "predicted": guess}
            for ex, some, truth, guess in zip(examples, marks, right, predicted, strict=True)
        ]
        score = numbers["balanced_accuracy"]
        raw = judged.messages, judged.raw, judged.unreadable
        return Scored(score, 0.5, numbers, rows, *raw)


def fuzzing_items(material: Material, *, seed: int = 0) -> list[tuple[Example, Marks, bool]]:
    """(example, marks, whether they are right), shuffled: each active scoring example twice.

    Wrong marks are as many as the right ones, on tokens at which the latent is silent; examples
    with too few of those are left out.
    """
    rng = np.random.default_rng([seed, material.evidence.latent])
    items: list[tuple[Example, Marks, bool]] = []
    for example in material.scoring:
        silent = np.flatnonzero(~np.array(example.toks_are_active, dtype=bool))
        n = sum(example.toks_are_active)
        if not example.is_active or len(silent) < n:
            continue
        wrong = np.zeros(len(example.toks), dtype=bool)
        wrong[rng.choice(silent, n, replace=False)] = True
        items += [(example, list(example.toks_are_active), True), (example, wrong.tolist(), False)]
    return [items[i] for i in rng.permutation(len(items))]
