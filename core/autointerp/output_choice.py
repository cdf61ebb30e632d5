"""Output metric: which of three sets of steered texts fits the description?

After Gur-Arieh et al. 2025 (arXiv 2501.08319): one set was written while the latent was made
stronger, the others while two other latents were. A description of what a latent does to the output
leads to its set; knowing nothing is right in one of three. Detection asks the opposite question,
where the latent fires, and the two often disagree.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from core.autointerp.chat import THINKING_TOKENS, ask_and_read, list_request, text_of
from core.autointerp.examples import Example
from core.autointerp.parsing import UnreadableAnswer, parse_predictions
from core.autointerp.prompts import CHOICE_AGAIN, choice_prompts
from core.autointerp.roles import Explained, Judged, Material, NoScore, Scored
from core.llm import ChatRequest, ChatSession

N_SETS, N_TRIALS = 3, 3
"""Sets that are shown at a time, and times that a latent's is among two others'."""

Set = Sequence[Example]
"""Texts that were written under one latent."""


class SetJudge(Protocol):
    """Says which set fits an explanation."""

    async def choose(self, explained: Explained, sets: Sequence[Set]) -> Judged:
        """Numbers, from 1, of the sets that fit best: one, or several that fit alike.

        Raises FailedAnswer, or ChatError.
        """


class ChatSetJudge:
    """Shows the texts of all sets."""

    def __init__(self, session: ChatSession, *, thinking_tokens: int = THINKING_TOKENS) -> None:
        """`thinking_tokens`: room for thoughts before the answer."""
        self._session, self._room = session, thinking_tokens

    def request(self, explanation: str, sets: Sequence[Sequence[str]]) -> ChatRequest:
        """The first question."""
        return list_request(choice_prompts(explanation, sets), 1, self._room)

    async def choose(self, explained: Explained, sets: Sequence[Set]) -> Judged:
        """Raises FailedAnswer, or ChatError."""
        texts = [[example.to_str() for example in one] for one in sets]

        def read(answer: str) -> list[int]:
            found = parse_predictions(answer, n_examples=len(sets))
            if len(found) != 1:
                raise UnreadableAnswer(f"The answer names {len(found)} sets instead of one.")
            return found

        demand = CHOICE_AGAIN.format(n=len(sets))
        request = self.request(explained.text, texts)
        asked = await ask_and_read(self._session, request, text_of(read), demand)
        return Judged(asked.value, asked.messages, asked.raw, asked.unreadable)


class OutputChoice:
    """Share of the trials in which the latent's own set is told from those of two others."""

    name = "output"

    def __init__(
        self, judge: SetJudge, sets: Mapping[int, Set], *, n_trials: int = N_TRIALS, seed: int = 0
    ) -> None:
        """`sets` by latent, those of other latents of the SAE among them."""
        self.judge, self._sets, self._n, self._seed = judge, sets, n_trials, seed

    def trials(self, latent: int) -> list[tuple[int, ...]]:
        """Which latents' sets are shown, in order, each time.

        Raises NoScore where the latent or two others have no texts.
        """
        if not self._sets.get(latent):
            raise NoScore(
                "No score: at no strength does this latent change the predictions enough."
            )
        others = [it for it, texts in self._sets.items() if texts and it != latent]
        if len(others) < N_SETS - 1:
            raise NoScore("No score: there are no texts of two other latents.")
        rng = np.random.default_rng([self._seed, latent])
        drawn = [rng.choice(others, N_SETS - 1, replace=False) for _ in range(self._n)]
        return [
            tuple(int(it) for it in rng.permutation([latent, *map(int, some)])) for some in drawn
        ]

    def expected(self, explanation: str) -> list[ChatRequest]:
        """Questions about a latent, as long as they may be; none where no chat model judges."""
        from core.autointerp.steered import N_SAMPLES, NEW_TOKENS
        from core.steering.scores import NEUTRAL_PROMPTS

        if not isinstance(self.judge, ChatSetJudge):
            return []
        text = "word " * NEW_TOKENS
        sets = [[text] * (N_SAMPLES * len(NEUTRAL_PROMPTS))] * N_SETS
        return [self.judge.request(explanation, sets)] * self._n

    async def score(self, explained: Explained, material: Material) -> Scored:
        """Share of right choices, one that fits alike with others counted as a part; 1/3 is
        chance. Raises NoScore where there is nothing to choose from."""
        latent = material.evidence.latent
        rows: list[dict[str, Any]] = []
        parts: list[float] = []
        raw: list[str] = []
        unreadable = 0
        judged = Judged([])
        for number, shown in enumerate(self.trials(latent), 1):
            judged = await self.judge.choose(explained, [self._sets[it] for it in shown])
            raw += judged.raw
            unreadable += judged.unreadable
            own = 1 + shown.index(latent)
            parts.append((own in judged.predictions) / max(1, len(judged.predictions)))
            rows += [
                {
                    "text": " / ".join(example.to_str() for example in self._sets[it]),
                    "source": f"trial {number}, latent {it}",
                    "truth": it == latent,
                    "predicted": place in judged.predictions,
                }
                for place, it in enumerate(shown, 1)
            ]
        numbers = {"right": float(sum(parts)), "trials": float(len(parts))}
        score = float(np.mean(parts))
        return Scored(score, 1 / N_SETS, numbers, rows, judged.messages, tuple(raw), unreadable)
