"""One question to a chat model, its answer, and the name both are stored under."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from core.llm.endpoint import ChatEndpoint
from core.store import Key

Messages: TypeAlias = list[dict[str, str]]
"""Entries of `role` (system, user or assistant) and `content`."""

_VERSION = 1
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class ChatRequest:
    """What is asked."""

    messages: Messages = field(hash=False)
    """The conversation so far."""
    max_tokens: int
    """Most tokens of the answer."""
    temperature: float | None = None
    """None for the service's own."""
    top_logprobs: int = 0
    """Alternatives to report with their log-probabilities for each token of the answer."""
    sample: int = 0
    """Another number asks the same question once more, instead of reading the stored answer."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; an answer needs at least one.")
        if not self.messages:
            raise ValueError("There are no messages; give at least one.")
        for message in self.messages:
            if message.keys() != {"role", "content"} or message["role"] not in _ROLES:
                raise ValueError(
                    f"A message has the keys {sorted(message)} and the role "
                    f"{message.get('role')!r}; give role (one of {', '.join(_ROLES)}) and content."
                )
        clean = [{name: cleaned(value) for name, value in m.items()} for m in self.messages]
        object.__setattr__(self, "messages", clean)

    @property
    def text(self) -> str:
        """All that is sent, to count its tokens."""
        return "\n".join(message["content"] for message in self.messages)

    def key(self, endpoint: ChatEndpoint) -> Key:
        """What the answer is stored under."""
        parameters = {
            "url": endpoint.url,
            "model": endpoint.model,
            "messages": self.messages,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_logprobs": self.top_logprobs,
            "sample": self.sample,
        }
        return Key("chat-answer", _VERSION, parameters)

    def arguments(self, endpoint: ChatEndpoint, *, limit_name: str) -> dict[str, Any]:
        """Keyword arguments of the client's `chat.completions.create`."""
        found: dict[str, Any] = {
            "model": endpoint.model,
            "messages": self.messages,
            limit_name: self.max_tokens,
        }
        if self.temperature is not None:
            found["temperature"] = self.temperature
        if self.top_logprobs:
            found |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return found


@dataclass(frozen=True)
class ChatAnswer:
    """What came back."""

    text: str
    """The answer; "" when there was none."""
    refusal: str = ""
    """Why the service would not answer, in its words."""
    finish_reason: str = ""
    """`stop`, `length` (cut at `max_tokens`), `content_filter`, …"""
    prompt_tokens: int | None = None
    """As billed."""
    completion_tokens: int | None = None
    """As billed."""
    logprobs: tuple[Mapping[str, float], ...] = ()
    """For each token of the answer, the reported alternatives and their log-probabilities."""
    tokens: tuple[str, ...] = ()
    """The answer's tokens, where log-probabilities were asked for and reported."""

    @classmethod
    def from_completion(cls, completion: Any) -> "ChatAnswer":
        """Read what the client gives. Raises ValueError or the like when it is no completion."""
        if not completion.choices:
            raise ValueError("no choices")
        choice = completion.choices[0]
        usage = completion.usage
        tokens = getattr(choice.logprobs, "content", None) or []
        return cls(
            text=cleaned(choice.message.content or "").strip(),
            refusal=cleaned(getattr(choice.message, "refusal", None) or ""),
            finish_reason=str(choice.finish_reason or ""),
            prompt_tokens=None if usage is None else int(usage.prompt_tokens),
            completion_tokens=None if usage is None else int(usage.completion_tokens),
            logprobs=tuple(
                {cleaned(top.token): float(top.logprob) for top in token.top_logprobs}
                for token in tokens
            ),
            tokens=tuple(cleaned(token.token) for token in tokens),
        )

    def to_json(self) -> dict[str, Any]:
        """For the store; `ChatAnswer.from_json` reads it."""
        logprobs = [dict(token) for token in self.logprobs]
        return {**self.__dict__, "logprobs": logprobs, "tokens": list(self.tokens)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ChatAnswer":
        """The answer that `to_json` gave."""
        lists = {name: tuple(stored.get(name, ())) for name in ("logprobs", "tokens")}
        return cls(**{**stored, **lists})


def cleaned(text: str) -> str:
    """The same without halves of surrogate pairs, which cannot be sent or stored."""
    return str(text).encode("utf-8", "replace").decode()
