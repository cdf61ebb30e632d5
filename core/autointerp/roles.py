"""Who explains and who judges: interfaces that chat models and offline rules both fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.autointerp.examples import Example
from core.llm import Messages


@dataclass(frozen=True)
class Evidence:
    """What an explainer may look at; nothing of it is scored with."""

    latent: int
    """Which latent."""
    examples: Sequence[Example]
    """Where it fires, the strongest first."""
    negatives: Sequence[Example] = ()
    """Texts in which it does not fire, such as its peaks' tokens in other contexts."""
    boosted: Sequence[str] = ()
    """Tokens that it makes likelier, the strongest first."""
    changed: Sequence[str] = ()
    """Tokens that come more often in running text when it is amplified, the largest rise first."""


@dataclass(frozen=True)
class Material:
    """All that one latent is explained and scored with."""

    evidence: Evidence
    """For the explainer."""
    scoring: Sequence[Example] = ()
    """For detection: strong and random examples, shuffled; the explainer saw none of them."""
    neighbours: Sequence[Example] = ()
    """Strong examples of latents with similar directions, with this latent's own activations;
    the explainer saw none of them."""


@dataclass(frozen=True)
class Explained:
    """An explanation, and how it came about."""

    text: str
    """What the latent fires on, to follow "activates on"."""
    messages: Messages = field(default_factory=list)
    """The conversation that led to it, without the last answer."""
    raw: tuple[str, ...] = ()
    """Every answer as it came; the last one was read."""
    rule: Any = None
    """What an offline judge matches texts with."""
    unreadable: int = 0
    """Answers that could not be read, of those that were asked for."""


@dataclass(frozen=True)
class Judged:
    """Predictions, and how they came about."""

    predictions: list[int]
    """Numbers, from 1, of the examples that should be active."""
    messages: Messages = field(default_factory=list)
    """The conversation that led to them, without the last answer."""
    raw: tuple[str, ...] = ()
    """Every answer as it came; the last one was read."""
    unreadable: int = 0
    """Answers that could not be read."""


@dataclass(frozen=True)
class Scored:
    """What one further scorer found."""

    score: float | None
    """From 0 to 1 (simulation: a correlation, from -1); None where it cannot be told."""
    chance: float
    """The score of knowing nothing."""
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    """Further figures by name; None where there is nothing to divide by."""
    rows: Sequence[Mapping[str, Any]] = ()
    """What was judged: `text`, `truth` and `predicted`, one entry each."""
    messages: Messages = field(default_factory=list)
    """The conversation, without the last answer."""
    raw: tuple[str, ...] = ()
    """Every answer as it came."""
    unreadable: int = 0
    """Answers that could not be read."""
    why: str = ""
    """Why there is no score, in a sentence; "" where there is one."""


class FailedAnswer(ValueError):
    """No answer could be read, also after a reminder."""

    def __init__(
        self, message: str, *, messages: Messages, raw: Sequence[str], unreadable: int = 0
    ) -> None:
        super().__init__(message)
        self.messages = messages
        """The conversation, without the last answer."""
        self.raw = tuple(raw)
        """Every answer as it came."""
        self.unreadable = unreadable
        """Answers that could not be read."""


class NoPatternFound(FailedAnswer):
    """The explainer says that the examples have nothing in common: no explanation."""

    def __init__(self, message: str, *, messages: Messages, raw: Sequence[str]) -> None:
        super().__init__(message, messages=messages, raw=raw, unreadable=len(raw) - 1)


class NoScore(FailedAnswer):
    """The examples allow no score, whatever is answered; nothing was asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message, messages=[], raw=[])


class Explainer(Protocol):
    """Turns evidence into an explanation."""

    async def explain(self, evidence: Evidence) -> Explained:
        """Raises FailedAnswer, or ChatError."""


class Judge(Protocol):
    """Says which examples fit an explanation, without seeing any activation."""

    async def judge(self, explained: Explained, examples: Sequence[Example]) -> Judged:
        """Raises FailedAnswer, or ChatError."""


class Scorer(Protocol):
    """Tests an explanation in another way than detection does."""

    name: str
    """Its name in results."""

    async def score(self, explained: Explained, material: Material) -> Scored:
        """Raises FailedAnswer, or ChatError."""
