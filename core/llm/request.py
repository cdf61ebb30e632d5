"""One question to a chat model, and the name its answer is stored under."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from core.llm.answer import cleaned
from core.llm.endpoint import ChatEndpoint
from core.store import Key

Messages: TypeAlias = list[dict[str, str]]
"""Entries of `role` (system, user or assistant) and `content`."""

# What is stored is the body as it came, and how it is read may change at any time: this number
# stays, or answers that were paid for would be paid for again.
_VERSION = 1
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class ChatRequest:
    """What is asked."""

    messages: Messages = field(hash=False)
    """The conversation so far."""
    max_tokens: int
    """Most tokens of the answer, thoughts included."""
    temperature: float | None = None
    """None for the service's own."""
    top_logprobs: int = 0
    """Alternatives to report with their log-probabilities for each token of the answer."""
    sample: int = 0
    """Another number asks the same question once more, instead of reading the stored answer."""
    response_format: Mapping[str, Any] | None = field(default=None, hash=False)
    """The form of the answer as the service is to enforce it, where it can; see `json_form`."""
    seed: int | None = None
    """Of the service's sampling, where it has one; None for none."""
    frequency_penalty: float | None = None
    """Against repetition; None for the service's own."""

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
        """What the answer is stored under: the question as it was meant, whatever is refused."""
        parameters = {
            "url": endpoint.url,
            "model": endpoint.model,
            "messages": self.messages,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_logprobs": self.top_logprobs,
            "sample": self.sample,
        }
        # Left out where they are not asked for: so the names of older answers stay what they were.
        later = {
            "response_format": self.response_format,
            "seed": self.seed,
            "frequency_penalty": self.frequency_penalty,
        }
        parameters |= {name: value for name, value in later.items() if value is not None}
        return Key("chat-answer", _VERSION, parameters)

    def optional(self) -> dict[str, Any]:
        """Arguments of the client that a service may refuse without making the question moot."""
        found = {
            "response_format": None if self.response_format is None else dict(self.response_format),
            "temperature": self.temperature,
            "seed": self.seed,
            "frequency_penalty": self.frequency_penalty,
        }
        return {name: value for name, value in found.items() if value is not None}


def json_form(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """A `response_format` that asks for a JSON object with these properties and no others."""
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": schema},
    }
