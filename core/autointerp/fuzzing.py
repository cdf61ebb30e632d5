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

from core.autointerp.chat_roles import ask_and_read
from core.autointerp.example import Example
from core.autointerp.numbers import detection_numbers, without_nan
from core.autointerp.parsing import parse_predictions
from core.autointerp.prompts import fuzzing_prompts, reminder_for_list
from core.autointerp.roles import Explained, FailedAnswer, Judged, Material, Scored
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

    def __init__(self, session: ChatSession) -> None:
        self._session = session

    def request(
        self, explanation: str, examples: Sequence[Example], marks: Sequence[Marks]
    ) -> ChatRequest:
        """The first question."""
        texts = [example.marked(some) for example, some in zip(examples, marks, strict=True)]
        return ChatRequest(fuzzing_prompts(explanation, texts), 2 * len(texts) + 5)

    async def judge_marks(
        self, explained: Explained, examples: Sequence[Example], marks: Sequence[Marks]
    ) -> Judged:
        """Raises FailedAnswer, or ChatError."""
        request, n = self.request(explained.text, examples, marks), len(examples)
        predictions, messages, raw = await ask_and_read(
            self._session,
            request.messages,
            request.max_tokens,
            lambda answer: parse_predictions(answer, n_examples=n),
            lambda asked, answer: reminder_for_list(asked, answer, n),
        )
        return Judged(predictions, messages, raw)


class Fuzzing:
    """Balanced accuracy of telling right marks from wrong ones."""

    name = "fuzzing"

    def __init__(self, judge: MarksJudge, *, seed: int = 0) -> None:
        """`seed` of the wrong marks and of the order."""
        self.judge, self._seed = judge, seed

    async def score(self, explained: Explained, material: Material) -> Scored:
        """Balanced accuracy; 0.5 is chance."""
        items = fuzzing_items(material, seed=self._seed)
        if not items:
            raise FailedAnswer("No scoring example is active.", messages=[], raw=[])
        examples, marks, right = map(list, zip(*items, strict=True))
        judged = await self.judge.judge_marks(explained, examples, marks)
        predicted = [number in judged.predictions for number in range(1, len(items) + 1)]
        numbers = without_nan(asdict(detection_numbers(right, predicted, seed=self._seed)))
        rows = [
            {"text": ex.marked(some), "source": ex.source, "truth": truth, "predicted": guess}
            for ex, some, truth, guess in zip(examples, marks, right, predicted, strict=True)
        ]
        return Scored(numbers["balanced_accuracy"], 0.5, numbers, rows, judged.messages, judged.raw)


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
