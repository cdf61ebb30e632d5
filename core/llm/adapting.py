"""What a service refuses of a question, and how it is asked instead.

Models that think refuse a temperature, others call the limit otherwise, or know no system message,
no JSON schema, no log-probabilities; and each says so in words of its own, or not at all. A `Form`
is what is left out; it is found once for a service and model, by one question, and all others use
it from then on.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from core.llm.endpoint import ChatEndpoint
from core.llm.failures import Failure
from core.llm.prices import count_tokens
from core.llm.request import ChatRequest, Messages

_NAMED = {
    "response_format": r"response[_ ]?format|json[_ ]?schema|structured[_ ]output|\bguided|grammar",
    "temperature": r"temperature|sampling param",
    "logprobs": r"log_?-?probs?\b|log[- ]probabilit",
    "seed": r"\bseed\b",
    "frequency_penalty": r"frequency[_ ]?penalty|penalt",
    "max_tokens": r"max_?(?:completion_?|output_?)?tokens|max(?:imum)? tokens",
    "system": r"\bsystem\b.{0,40}\b(?:role|message|prompt|instruction)|\broles?\b.{0,60}\bsystem\b"
    r"|roles? must alternate|messages\[0\]\.role|developer instruction",
    "stream": r"\bstream(?:ing)?\b",
}
_LEFT_OUT = ("response_format", "temperature", "logprobs", "seed", "frequency_penalty")
_SENTENCES = {
    "response_format": "The service takes no response_format: answers were asked for in words.",
    "temperature": "The service takes no temperature: its own was used.",
    "logprobs": "The service reports no log-probabilities.",
    "seed": "The service takes no seed.",
    "frequency_penalty": "The service takes no frequency_penalty.",
    "max_tokens": "The service calls the limit max_completion_tokens.",
    "system": "The service takes no system message: it was put before the question.",
    "stream": "The service answers in a stream only: it was asked for one.",
}
_TOO_MUCH = re.compile(
    r"too (?:large|high|big|long|many)|exceed|greater|at most|less than|maximum|range"
)
_CONTEXT = re.compile(
    r"(?:maximum|max)?\s*(?:model's )?context (?:length|size|window)[^0-9]{0,40}([0-9][0-9,]*)"
    r"|maximum (?:model )?length[^0-9]{0,20}([0-9][0-9,]*)"
)
_PROMPT = re.compile(
    r"([0-9][0-9,]*)\s*(?:tokens )?"
    r"(?:in the messages|input tokens|prompt tokens|tokens in the prompt)"
    r"|(?:your )?(?:prompt|messages|input)[^0-9.]{0,30}([0-9][0-9,]*)\s*(?:input )?tokens"
)
_LEAST = 16


@dataclass(frozen=True)
class Form:
    """How questions are put to one service and model."""

    without: frozenset[str] = frozenset()
    """What is left out or said otherwise, of the names in `_NAMED`."""
    most: int | None = None
    """Most tokens that an answer may have; None for any number."""
    context: int | None = None
    """Most tokens that question and answer may have together, by our count of the question's; None
    for any number."""
    alternatives: int | None = None
    """Most alternatives to a token whose log-probabilities are reported; None for any number."""

    def limit(self, request: ChatRequest) -> int:
        """Most tokens that the answer to a question may have."""
        found = min(request.max_tokens, self.most or request.max_tokens)
        if self.context is not None:
            found = min(found, max(_LEAST, self.context - count_tokens(request)))
        return found

    def arguments(self, request: ChatRequest, endpoint: ChatEndpoint) -> dict[str, Any]:
        """Keyword arguments of the client's `chat.completions.create`."""
        name = "max_completion_tokens" if "max_tokens" in self.without else "max_tokens"
        messages = merged(request.messages) if "system" in self.without else request.messages
        found: dict[str, Any] = {
            "model": endpoint.model,
            "messages": messages,
            name: self.limit(request),
            **{n: value for n, value in request.optional().items() if n not in self.without},
        }
        if request.top_logprobs and "logprobs" not in self.without:
            top = min(request.top_logprobs, self.alternatives or request.top_logprobs)
            found |= {"logprobs": True, "top_logprobs": top}
        if "stream" in self.without:
            # Past the client, which hands out the whole body then, as it came.
            found["extra_body"] = {"stream": True, "stream_options": {"include_usage": True}}
        return found

    def changes(self, request: ChatRequest) -> list[str]:
        """What more could be left out of a question, the likeliest trouble first."""
        asked = {*request.optional()} | ({"logprobs"} if request.top_logprobs else set())
        sent = [name for name in _LEFT_OUT if name in asked] + ["max_tokens"]
        if any(message["role"] == "system" for message in request.messages):
            sent.append("system")
        return [name for name in sent if name not in self.without]

    def less(self, *names: str) -> "Form":
        """The form without these as well."""
        return replace(self, without=self.without | {*names})

    def sentences(self) -> tuple[str, ...]:
        """What was changed, for people."""
        found = [text for name, text in _SENTENCES.items() if name in self.without]
        if self.most is not None:
            found.append(f"The service allows answers of {self.most:,} tokens at most.")
        if self.context is not None:
            found.append(
                "The limit of answers was lowered to what the model's context leaves room for."
            )
        if self.alternatives is not None:
            found.append(
                f"The service reports {self.alternatives} log-probabilities a token at most."
            )
        return tuple(found)


def merged(messages: Messages) -> Messages:
    """The same conversation without system messages, in turns of user and assistant."""
    found: Messages = []
    for message in messages:
        role = "user" if message["role"] == "system" else message["role"]
        if found and found[-1]["role"] == role:
            found[-1] = {"role": role, "content": f"{found[-1]['content']}\n\n{message['content']}"}
        else:
            found.append({"role": role, "content": message["content"]})
    return found


def refuses(failure: Failure) -> bool:
    """Whether it may be the form of the question that was refused, and not what it asks."""
    if failure.kind != "status" or failure.no_credit or failure.no_key or failure.no_model:
        return False
    if failure.filtered or failure.redirected:
        return False
    if failure.status in (400, 422):
        return True
    if failure.status == 404:
        return "no endpoints found" in failure.said
    # Templates that know no system message fail on the server; so do grammars.
    return failure.status in (415, 500, 501) and any(_named(failure))


def named_change(failure: Failure, form: Form, request: ChatRequest) -> Form | None:
    """The form without what the service names; None where it names nothing that was sent."""
    smaller = _smaller(failure, form, request)
    if smaller is not None:
        return smaller
    possible = form.changes(request)
    if "stream" not in form.without:  # seldom, so it is never tried unless it is named
        possible.append("stream")
    by_field = [name for name in _named(failure, failure.parameter) if name in possible]
    names = by_field[:1] or [name for name in _named(failure) if name in possible]
    if failure.too_long and "max_tokens" in names:
        names.remove("max_tokens")
    if names == ["logprobs"]:
        fewer = [int(number) for number in re.findall(r"\b[0-9]{1,3}\b", failure.said)]
        fewer = [n for n in fewer if 1 <= n < (form.alternatives or request.top_logprobs)]
        if fewer and _TOO_MUCH.search(failure.said):
            return replace(form, alternatives=max(fewer))
    return form.less(*names) if names else None


def _named(failure: Failure, text: str | None = None) -> Iterator[str]:
    searched = f"{failure.parameter} {failure.said}" if text is None else text
    return (name for name, pattern in _NAMED.items() if re.search(pattern, searched))


def _smaller(failure: Failure, form: Form, request: ChatRequest) -> Form | None:
    """The form with a lower limit, where it was too high; None where it was not."""
    said, limit = failure.said, form.limit(request)
    context, prompt = _number(_CONTEXT, said), _number(_PROMPT, said)
    if context is not None:
        # Our own count of the question's tokens is what the limit is reckoned with.
        correction = count_tokens(request) - prompt if prompt is not None else 0
        allowed = context + correction - _LEAST
        found = replace(form, context=min(allowed, form.context or allowed))
        if found.limit(request) >= limit and form.context is not None:
            found = replace(form, context=form.context - max(_LEAST, form.context // 8))
        fits = context > (prompt if prompt is not None else 0) + _LEAST
        return found if fits and found.limit(request) < limit else None
    if not re.search(_NAMED["max_tokens"], f"{failure.parameter} {said}"):
        return None
    if not _TOO_MUCH.search(said) or re.search(r"instead|unsupported param|not supported", said):
        return None
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]{0,9}", said)]
    below = [number for number in numbers if _LEAST <= number < limit]
    most = max(below) if below else limit // 2
    return replace(form, most=most) if most >= _LEAST else None


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    if found is None:
        return None
    digits = next(group for group in found.groups() if group).replace(",", "")
    return int(digits) if len(digits) < 10 else None
