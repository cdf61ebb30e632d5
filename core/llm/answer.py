"""What came back: the answer, the thought before it, and why it may be no answer at all."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class ChatAnswer:
    """One answer of a chat model, read by `core.llm.reading`."""

    text: str
    """The answer without thoughts and their marks; "" when there was none."""
    refusal: str = ""
    """Why the service would not answer, in its words."""
    finish_reason: str = ""
    """`stop`, `length` (cut at the limit), `content_filter`, `tool_calls`, …; "" if not said."""
    prompt_tokens: int | None = None
    """As billed."""
    completion_tokens: int | None = None
    """As billed, thoughts included."""
    logprobs: tuple[Mapping[str, float], ...] = ()
    """For each token of `text`, the reported alternatives and their log-probabilities."""
    tokens: tuple[str, ...] = ()
    """The tokens of `text`, where log-probabilities were asked for and reported."""
    thought: str = ""
    """What the model thought before, as far as it was shown."""
    still_thinking: bool = False
    """Whether it ended before any answer, in a thought."""
    tool: str = ""
    """Name of the tool that was called instead of answering."""
    raw: str = ""
    """All that was said, thoughts with their marks."""
    limit: int | None = None
    """Most tokens that it might have had, where that is known."""
    adapted: tuple[str, ...] = ()
    """What the service refused of the question and was left out; see `core.llm.adapting`."""

    @property
    def cut(self) -> bool:
        """Whether it ended because it was too long."""
        return self.finish_reason == "length"

    @property
    def problems(self) -> tuple[str, ...]:
        """Of `refused`, `filtered`, `thinking`, `cut`, `tool`, `empty`, `no usage`."""
        reason = self.finish_reason
        found = {
            "refused": bool(self.refusal),
            "filtered": reason == "content_filter",
            "thinking": self.still_thinking,
            "cut": self.cut,
            "tool": reason == "tool_calls" and not self.text,
            "empty": not self.text,
            "no usage": self.prompt_tokens is None or self.completion_tokens is None,
        }
        return tuple(name for name, is_so in found.items() if is_so)

    def why_unusable(self, limit: int | None = None) -> str:
        """One sentence that says why this is no answer, with the remedy; "" for an answer.

        `limit` is what was asked for, where the answer does not know how much it might have had.
        """
        problems = self.problems
        if "refused" in problems:
            return f"The model declined: {shortened(self.refusal)}."
        if "filtered" in problems:
            return "The service's content filter stopped the answer; use another model or service."
        if "tool" in problems:
            return (
                f"The model called a tool ({self.tool or 'unnamed'}) instead of answering; use a "
                "service that offers it none."
            )
        if "cut" in problems:
            while_ = "while it was still thinking" if "thinking" in problems else "before its end"
            instead = "that does not think" if "thinking" in problems else "that is briefer"
            return (
                f"The model's answer was cut at {self._said(limit)} {while_}; raise the limit "
                f"(“Room to think”) or choose a model {instead}."
            )
        if "thinking" in problems:
            return (
                "The model thought and then gave no answer; raise the limit (“Room to think”) or "
                "choose a model that does not think."
            )
        return "The answer is empty." if "empty" in problems else ""

    def _said(self, limit: int | None) -> str:
        most = self.limit or limit
        used = self.completion_tokens
        if used and most and used < 0.9 * most:
            # As where the model's context is full.
            return f"{used:,} of {most:,} allowed tokens"
        return f"{most or used:,} tokens" if most or used else "its limit"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; `ChatAnswer.from_json` reads it."""
        listed = ("logprobs", "tokens", "adapted")
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return found | {
            name: [dict(entry) if isinstance(entry, Mapping) else entry for entry in found[name]]
            for name in listed
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ChatAnswer":
        """The answer that `to_json` gave."""
        lists = {name: tuple(stored.get(name, ())) for name in ("logprobs", "tokens", "adapted")}
        return cls(**{**stored, **lists})


def shortened(text: str, most: int = 160) -> str:
    """The text in quotation marks, on one line, its middle left out where it is long."""
    line = " ".join(text.split())
    if len(line) > most:
        line = f"{line[: most // 2].rstrip()} … {line[-most // 2 :].lstrip()}"
    return repr(line)


def cleaned(text: str) -> str:
    """The same without halves of surrogate pairs, which cannot be sent or stored."""
    return str(text).encode("utf-8", "replace").decode()
