"""The body of a service's reply as one JSON object, however it was sent.

Asked for one JSON object, services send also a stream of events, lines of JSON, a list of one, JSON
in a string, a web page, or half of it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

NO_ANSWER = "an object with no answer in it"
"""What came whole and was probably paid for; other bodies are faults that pass."""


class NotACompletion(ValueError):
    """A reply without an answer in it; `what` says what came instead."""

    def __init__(self, what: str, *, error: Any = None, usage: Any = None) -> None:
        super().__init__(f"The service sent {what}.")
        self.what = what
        """To follow "the service sent"."""
        self.error = error
        """The error that the body holds, as it came; None for none."""
        self.usage = usage
        """Tokens that were billed all the same, as they came."""


def body_text(content: bytes) -> str:
    """A body as text. JSON is UTF-8, whatever the headers say; UTF-16 and 32 have their marks."""
    for encoding in (json.detect_encoding(content), "utf-8"):
        try:
            return content.decode(encoding).removeprefix("\ufeff").strip()
        except UnicodeDecodeError:
            continue
    return content.decode("utf-8", "replace").strip()


def completion_of(body: str) -> Mapping[str, Any]:
    """The JSON object of a body; the parts of a stream are put together.

    Raises:
        NotACompletion: a page, text, an error, JSON that was cut, or JSON of another kind.
    """
    if not body:
        raise NotACompletion("an empty body")
    if body.startswith(("data:", "event:", ":", "id:")):
        return _streamed(_events(body))
    found = _loaded(body)
    if isinstance(found, str):
        found = _loaded(found.strip())
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if found is None and body.startswith("{"):
        lines = [_loaded(line) for line in body.splitlines() if line.strip()]
        if len(lines) > 1 and all(isinstance(line, dict) for line in lines):
            return _streamed([line for line in lines if isinstance(line, dict)])
        raise NotACompletion("JSON that breaks off")
    if isinstance(found, dict):
        return found
    if body.startswith("<"):
        raise NotACompletion("a web page; check that the address is that of the API, up to /v1")
    raise NotACompletion("something that is not a JSON object; check the address")


def _loaded(text: str) -> Any:
    """The JSON value; None for none, or for nesting beyond reason."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _events(body: str) -> list[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events.

    Raises NotACompletion for one that breaks off.
    """
    found, done = [], False
    for line in body.splitlines():
        name, _, value = line.partition(":")
        if name != "data":
            continue
        if value.strip() == "[DONE]":
            done = True
            continue
        event = _loaded(value)
        if not isinstance(event, dict):
            raise NotACompletion("a stream that breaks off")
        found.append(event)
    if not found or not (done or any(map(_is_last, found))):
        raise NotACompletion("a stream that breaks off")
    return found


def _is_last(event: Mapping[str, Any]) -> bool:
    choices = event.get("choices")
    ends = [choice.get("finish_reason") for choice in choices or () if isinstance(choice, dict)]
    return bool(event.get("done") or event.get("error") or any(ends))


def _streamed(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One completion from the parts of a stream, OpenAI's or Ollama's."""
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    tokens: list[Any] = []
    n_choices = 0
    for event in events:
        whole |= {name: value for name, value in event.items() if value is not None}
        choices = event.get("choices")
        parts = (
            [part for part in choices if isinstance(part, dict)]
            if isinstance(choices, list)
            else []
        )
        n_choices += len(parts)
        for part in parts:
            if part.get("index"):  # of another answer
                continue
            choice |= {name: value for name, value in part.items() if value is not None}
            _add(message, part.get("delta") or part.get("message") or {"content": part.get("text")})
            logprobs = part.get("logprobs")
            if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
                tokens += logprobs["content"]
        if not parts:
            _add(message, event.get("message"))
    if not n_choices:
        return whole | {"message": message}
    choice = {**choice, "message": message, "logprobs": {"content": tokens} if tokens else None}
    choice.pop("delta", None)
    return {**whole, "choices": [choice]}


def _add(message: dict[str, Any], delta: Any) -> None:
    """What one part of a stream adds to the message: texts are joined, lists grow."""
    if not isinstance(delta, dict):
        return
    for name, value in delta.items():
        known: Any = message.get(name)
        if name != "role" and type(value) is type(known) and isinstance(value, str | list):
            message[name] = known + value
        elif value is not None:
            message[name] = value
