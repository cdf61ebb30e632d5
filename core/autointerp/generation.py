"""Generation: write texts from the explanation, and let the local model tell whether it fires.

The writer sees nothing but the explanation, so an explanation that is too broad is found out: texts
that fit it leave the latent silent. Those texts can be shown to the explainer, which then revises
its explanation.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from core.autointerp.chat import THINKING_TOKENS, ask_and_read, text_of
from core.autointerp.detection_statistics import detection_statistics, without_nan
from core.autointerp.examples import Example
from core.autointerp.gather import latent_activations
from core.autointerp.parsing import parse_explanation, parse_texts
from core.autointerp.prompts import (
    SENTENCE_AGAIN,
    TEXTS_AGAIN,
    revision_prompts,
    writing_prompts,
)
from core.autointerp.roles import Explained, Material, Scored
from core.corpus.prompt import prompt_for
from core.lease import Lease
from core.llm import ChatRequest, ChatSession

Prober = Callable[[int, Sequence[str]], list[Example]]
"""Runs the model: (latent, texts) to examples with real activations. Called in a thread."""

_TOKENS_A_TEXT = 45
_MOST_SHOWN = 8


@dataclass(frozen=True)
class ModelProber:
    """Runs texts through the model of a lease, one latent after the other."""

    lease: Lease
    """The model, and the latents' SAE."""
    thresholds: Mapping[int, float]
    """Above which a latent counts as active."""
    _turn: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)
    """Latents are scored side by side in threads, and a hooked model serves one at a time."""

    def __call__(self, latent: int, texts: Sequence[str]) -> list[Example]:
        """One example for each text, without what stands in front of it, cut where room ends."""
        threshold = self.thresholds[latent]
        examples = []
        with self._turn, self.lease.turn() as (model, (sae,)):
            for text in texts:
                prompt = prompt_for(model, [sae], text)
                ids, first = prompt.tokens.cpu().numpy(), prompt.n_leading
                front = np.arange(ids.shape[1])[None] < first
                [acts] = latent_activations(model, [(sae, [latent])], ids, ignored=front)
                row, values = ids[0, first:].tolist(), acts[0, first:, 0].tolist()
                examples.append(Example(row, values, threshold, model, source="written"))
        return examples


class Generation:
    """Balanced accuracy of an explanation as a recipe for texts."""

    name = "generation"

    def __init__(
        self,
        session: ChatSession,
        prober: Prober,
        *,
        n_texts: int = 5,
        thinking_tokens: int = THINKING_TOKENS,
    ) -> None:
        """`n_texts` that should fire and as many that should not, after room for thoughts.

        Raises ValueError below 1.
        """
        if n_texts < 1:
            raise ValueError(f"n_texts is {n_texts}; write at least one.")
        self._session, self._prober, self._n = session, prober, n_texts
        self._room = thinking_tokens

    def request(self, explanation: str) -> ChatRequest:
        """The first question."""
        messages = writing_prompts(explanation, self._n)
        return ChatRequest(messages, 2 * _TOKENS_A_TEXT * self._n + self._room)

    async def score(self, explained: Explained, material: Material) -> Scored:
        """Balanced accuracy; 0.5 is chance."""
        asked = await ask_and_read(
            self._session,
            self.request(explained.text),
            text_of(parse_texts),
            TEXTS_AGAIN.format(n=self._n),
        )
        yes, no = asked.value
        yes, no = yes[: self._n], no[: self._n]
        loop, latent = asyncio.get_running_loop(), material.evidence.latent
        # The model is used by others as well: waiting for it must not hold up the questions.
        examples = await loop.run_in_executor(None, self._prober, latent, [*yes, *no])
        fires = [example.is_active for example in examples]
        should = [True] * len(yes) + [False] * len(no)
        numbers = without_nan(asdict(detection_statistics(fires, should)))
        # What is predicted here is the latent, from the texts: told right among those that should
        # fire and among those that should not.
        right = np.equal(fires, should)
        score = (right[: len(yes)].mean() + right[len(yes) :].mean()) / 2
        rows = [
            {
                "text": example.to_str(mark_toks=True),
                "source": "should fire" if wanted else "should not fire",
                "truth": fired,
                "predicted": wanted,
            }
            for example, wanted, fired in zip(examples, should, fires, strict=True)
        ]
        numbers |= {
            "fired_of_wanted": float(right[: len(yes)].mean()),
            "silent_of_unwanted": float(right[len(yes) :].mean()),
        }
        raw = asked.messages, asked.raw, asked.unreadable
        return Scored(float(score), 0.5, numbers, rows, *raw)


class Reviser:
    """Asks the explainer for a better explanation, given texts on which the first one was wrong."""

    def __init__(
        self, session: ChatSession, *, max_tokens: int, thinking_tokens: int = THINKING_TOKENS
    ) -> None:
        """`max_tokens` of the explanation, after `thinking_tokens` of thoughts."""
        self._session, self._max_tokens = session, max_tokens + thinking_tokens

    async def revise(self, explained: Explained, generated: Scored) -> Explained | None:
        """A revised explanation; None where no text was told wrong. Raises as explainers do."""
        wrong = [row for row in generated.rows if row["truth"] != row["predicted"]]
        silent = [_text(row) for row in wrong if row["predicted"]][:_MOST_SHOWN]
        responding = [_text(row) for row in wrong if not row["predicted"]][:_MOST_SHOWN]
        if not wrong:
            return None
        messages = revision_prompts(explained.messages, explained.text, silent, responding)
        asked = await ask_and_read(
            self._session,
            ChatRequest(messages, self._max_tokens),
            text_of(parse_explanation),
            SENTENCE_AGAIN,
        )
        return Explained(asked.value, asked.messages, asked.raw, unreadable=asked.unreadable)


def _text(row: Mapping[str, Any]) -> str:
    return str(row["text"])
