"""Who explains and who judges: interfaces that chat models and offline rules both fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.autointerp.example import Example
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


@dataclass(frozen=True)
class Judged:
    """Predictions, and how they came about."""

    predictions: list[int]
    """Numbers, from 1, of the examples that should be active."""
    messages: Messages = field(default_factory=list)
    """The conversation that led to them, without the last answer."""
    raw: tuple[str, ...] = ()
    """Every answer as it came; the last one was read."""


class FailedAnswer(ValueError):
    """No answer could be read, also after a reminder."""

    def __init__(self, message: str, *, messages: Messages, raw: Sequence[str]) -> None:
        super().__init__(message)
        self.messages = messages
        """The conversation, without the last answer."""
        self.raw = tuple(raw)
        """Every answer as it came."""


class Explainer(Protocol):
    """Turns evidence into an explanation."""

    async def explain(self, evidence: Evidence) -> Explained:
        """Raises FailedAnswer, or ChatError."""


class Judge(Protocol):
    """Says which examples fit an explanation, without seeing any activation."""

    async def judge(self, explained: Explained, examples: Sequence[Example]) -> Judged:
        """Raises FailedAnswer, or ChatError."""
