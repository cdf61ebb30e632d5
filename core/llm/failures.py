"""What went wrong with a question: whether it may be asked again, and one sentence that says so.

Nothing that a service says of itself is repeated, because it may quote the key or the question; it
is only searched for what is refused.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core.llm.bodies import NotACompletion
from core.llm.endpoint import ChatEndpoint, ChatError
from core.llm.limiter import retry_after

_STATUS_OF_TYPES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "api_error": 500,
    "overloaded_error": 529,
}
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_funds")
_NO_ROUTE = re.compile(r"unexpected endpoint|unknown request url|no route|^not found$")
_NO_MODEL = re.compile(
    r"model_not_found"
    r"|\bmodels?\b[^.]{0,80}(?:not (?:found|exist)|does not exist|unknown|is not available)"
    r"|(?:unknown|no such|invalid|not a valid) model\b"
)
_NO_KEY = re.compile(
    r"api[ _]?key (?:not valid|is invalid|invalid)|api_key_invalid|invalid api[ _]?key"
)
# Of one question, whatever the others are: filters answer with the statuses of wrong keys, too.
_FILTERED = re.compile(
    r"content_?filter|content_policy|responsible_?ai|content (?:management )?policy"
    r"|(?:input|prompt|content|request|messages?) (?:was|were|has been|have been|is) flagged"
    r"|data_inspection_failed|inappropriate content|content exists risk|safety (?:system|filter)"
)
_TOO_LONG = re.compile(
    r"context_length_exceeded|context (?:length|size|window)|prompt is too long|too many tokens"
    r"|input (?:is too|length|token)|exceeds? the (?:available|maximum) context"
)


@dataclass(frozen=True)
class Failure:
    """Why a question has no answer (yet)."""

    kind: str
    """`status` (the service refused), `time-out`, `unreachable`, `body` or `client`."""
    status: int = 0
    """HTTP status, also one that stands in a body that came with status 200; 0 for none."""
    code: str = ""
    """Code and type of the error, in lower case."""
    parameter: str = ""
    """Name of the argument that is wrong, where the service has a field for it."""
    said: str = field(default="", repr=False)
    """What the service said, in lower case: to be searched, never to be shown."""
    wait: float | None = None
    """Seconds that the service asks to wait."""
    what: str = ""
    """What came instead of a completion."""
    usage: Any = field(default=None, repr=False)
    """Tokens that were billed all the same, as the service reported them."""
    redirected: bool = False
    """Whether the address wants the question sent on to another, which is not done."""

    @property
    def no_credit(self) -> bool:
        """Whether what was paid in is used up."""
        return self.status == 402 or any(code in self.code for code in _NO_CREDIT)

    @property
    def no_model(self) -> bool:
        """Whether the service does not know the model."""
        return bool(self.status in (400, 404, 422) and _NO_MODEL.search(f"{self.code} {self.said}"))

    @property
    def no_key(self) -> bool:
        """Whether the key is wrong."""
        return self.status == 401 or bool(self.status == 400 and _NO_KEY.search(self.said))

    @property
    def too_long(self) -> bool:
        """Whether question and answer together do not fit the model's context."""
        searched = f"{self.code} {self.said}"
        return self.status in (400, 413, 422, 500) and bool(_TOO_LONG.search(searched))

    @property
    def filtered(self) -> bool:
        """Whether a content filter declined this question; others may be answered."""
        said = bool(_FILTERED.search(f"{self.code} {self.said}"))
        return said and self.status in (400, 403, 422, 451)

    @property
    def final(self) -> bool:
        """Whether every further question would meet the same."""
        if self.filtered:
            return False
        if self.redirected:
            return True
        if self.no_credit or self.no_key or self.no_model or self.status == 403:
            return True
        if self.status == 405:
            return True
        # Routers say 404 also where none of their services can do what was asked for.
        return self.status == 404 and "no endpoints found" not in self.said

    @property
    def can_retry(self) -> bool:
        """Whether the same question may be answered a little later."""
        if self.kind == "status":
            again = self.status in (408, 409, 425, 429) or self.status >= 500 or self.status < 400
            return again and not self.final
        return self.kind != "client"

    def explained(self, endpoint: ChatEndpoint) -> ChatError:
        """In one sentence, with the remedy."""
        url, model = endpoint.url, endpoint.model
        status = f" (status {self.status})" if self.status else ""
        if self.kind == "time-out":
            return ChatError(f"{url} does not answer in time; try again, or raise the timeout.")
        if self.kind == "unreachable":
            return ChatError(f"{url} cannot be reached; check OPENAI_BASE_URL and the network.")
        if self.kind == "body":
            return ChatError(f"{url} sent {self.what} instead of an answer; try again.")
        if self.kind == "client":
            return ChatError(f"{url} cannot be used ({self.what}); check OPENAI_BASE_URL.")
        if self.wait is not None and self.wait > endpoint.max_wait_seconds:
            long = f"for {self.wait:,.0f} seconds" if self.wait < 1e7 else "very long"
            return ChatError(
                f"{url} asks to wait {long}{status}, and at most {endpoint.max_wait_seconds:g} "
                "seconds are waited; try again later, or use another model or service.",
                final=True,
            )
        if self.redirected:
            return ChatError(
                f"{url} sends questions on to another address, which nobody has chosen"
                f"{status}; give that address itself (https:// instead of http://, perhaps).",
                final=True,
            )
        if self.filtered:
            return ChatError(
                f"{url} declined the question: its content filter objects to a text in it{status}; "
                "use another model or service for this one."
            )
        if self.no_credit:
            return ChatError(f"{url} says that the credit is used up{status}.", final=True)
        if self.no_key:
            return ChatError(f"{url} refused the key; check OPENAI_API_KEY{status}.", final=True)
        if self.no_model:
            found = f"{url} does not know {model!r}; check the model's name{status}."
            return ChatError(found, final=True)
        reasons = {
            400: "refused the request; check the model's name and the length of the prompt",
            403: f"refused the key; check that it may use {model!r}",
            404: f"does not know {model!r} or has no /chat/completions; check the model's name",
            405: "takes no questions at this address; give in OPENAI_BASE_URL the address that it "
            "sends on to, up to /v1",
            413: f"takes no question of this length for {model!r}; show fewer or shorter examples",
            429: "limits how much you may ask; try again later, or lower the concurrency",
        }
        reason = reasons.get(self.status, "failed; try again later")
        if self.too_long:
            reason = (
                f"says that question and answer do not fit the context of {model!r}; show fewer or "
                "shorter examples, or lower the limit (“Room to think”)"
            )
        return ChatError(f"{url} {reason}{status}.", final=self.final)


def failure_of(error: Exception) -> Failure:
    """What a client's error means, or that of a body."""
    import openai

    if isinstance(error, NotACompletion):
        return _of_body(error)
    if isinstance(error, openai.APITimeoutError):
        return Failure("time-out")
    if isinstance(error, openai.APIConnectionError):
        return Failure("unreachable")
    if isinstance(error, openai.APIStatusError):
        body = error.body
        # The client hands out what is inside of `error`, or the whole body.
        found = _of_error(body, error.status_code, retry_after(error))
        return replace(found, redirected=300 <= error.status_code < 400)
    return Failure("client", what=type(error).__name__)


def _of_body(error: NotACompletion) -> Failure:
    if error.error is None:
        return Failure("body", what=error.what, usage=error.usage)
    found = _of_error(error.error, 0, None)
    if not found.status:
        return Failure("body", what=error.what, said=found.said, usage=error.usage)
    return found


def _of_error(error: Any, status: int, wait: float | None) -> Failure:
    fields = error if isinstance(error, Mapping) else {}
    if isinstance(fields.get("error"), Mapping):
        fields = fields["error"]
    code, type_ = (str(fields.get(name) or "").lower() for name in ("code", "type"))
    said = " ".join(_said(error)).lower()
    if not status:
        status = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else 0
        status = status or _STATUS_OF_TYPES.get(code) or _STATUS_OF_TYPES.get(type_) or 0
        status = status or (404 if _NO_ROUTE.search(said) or _NO_MODEL.search(said) else 0)
    return Failure(
        "status" if status else "body",
        status=status,
        code=f"{code} {type_}".strip(),
        parameter=str(fields.get("param") or "").lower(),
        said=said,
        wait=wait,
    )


def _said(error: Any, depth: int = 0) -> Iterator[str]:
    """What an error says in words; not what it quotes of the question."""
    if isinstance(error, str):
        yield error[:4000]
    elif isinstance(error, list) and depth < 5:
        for part in error[:20]:
            yield from _said(part, depth + 1)
    elif isinstance(error, Mapping) and depth < 5:
        for name in ("message", "msg", "detail", "error", "errors", "description", "reason", "loc"):
            yield from _said(error.get(name), depth + 1)
        metadata = error.get("metadata")
        if isinstance(metadata, Mapping):  # OpenRouter: what the service behind it said
            yield from _said(metadata.get("raw"), depth + 1)
