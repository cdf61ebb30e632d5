"""Which service answers, and what its errors mean."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    import openai

DEFAULT_MODEL = "gpt-4o-mini"
OPENAI_URL = "https://api.openai.com/v1"


class ChatError(ValueError):
    """The service gave no answer; the message is one sentence that says why."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final
        """Whether every further question would meet the same (a wrong key, an unknown model)."""


@dataclass(frozen=True)
class ChatEndpoint:
    """Where answers come from."""

    model: str = DEFAULT_MODEL
    """The service's name of the model."""
    base_url: str | None = None
    """Address up to `/v1`; None for OPENAI_BASE_URL, else OpenAI's own."""
    api_key: str | None = field(default=None, repr=False)
    """None for OPENAI_API_KEY. A service of one's own may need none."""
    timeout_seconds: float = 60.0
    """For one answer."""
    max_retries: int = 6
    """After the first attempt, for busy or failing services."""
    concurrency: int = 32
    """Most questions on their way at a time; fewer while the service is busy."""
    backoff_seconds: float = 0.5
    """Wait before the first retry; doubled each time, with jitter. Retry-After goes before it."""
    max_wait_seconds: float = 60.0
    """Longest wait before a retry; a service that asks for more has failed."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("The chat model has no name; give one such as 'gpt-4o-mini'.")
        if self.concurrency < 1 or self.max_retries < 0 or self.timeout_seconds <= 0:
            raise ValueError(
                f"concurrency={self.concurrency}, max_retries={self.max_retries}, "
                f"timeout_seconds={self.timeout_seconds}; use at least 1, 0 and more than 0."
            )

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **fields: Any
    ) -> "ChatEndpoint | None":
        """The service that OPENAI_API_KEY and OPENAI_BASE_URL name; None when neither is set."""
        env = os.environ if environment is None else environment
        key, url = env.get("OPENAI_API_KEY") or None, env.get("OPENAI_BASE_URL") or None
        if key is None and url is None:
            return None
        return cls(**{"base_url": url, "api_key": key, **fields})

    @property
    def url(self) -> str:
        """The address that is used, without a name, password or query in it."""
        parts = urlsplit(self._raw_url())
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=host, query="", fragment="")).rstrip("/")

    def client(self) -> "openai.AsyncOpenAI":
        """A client of the service that leaves retries to its caller.

        Raises:
            ChatError: OpenAI's own service, and no key.
        """
        import openai

        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        if not key:
            if self.url == OPENAI_URL:
                raise ChatError(
                    "No key for the chat service: set OPENAI_API_KEY, or OPENAI_BASE_URL to a"
                    " service of your own.",
                    final=True,
                )
            # Servers on one's own machine ask for none, but the client insists on sending one.
            key = "none"
        return openai.AsyncOpenAI(
            api_key=key, base_url=self._raw_url(), timeout=self.timeout_seconds, max_retries=0
        )

    def _raw_url(self) -> str:
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL


def explain(error: Exception, endpoint: ChatEndpoint) -> ChatError:
    """What a client's error means, in one sentence; nothing of its own text is repeated."""
    import openai

    url, model = endpoint.url, endpoint.model
    if isinstance(error, openai.APITimeoutError):
        return ChatError(f"{url} does not answer in time; try again, or raise the timeout.")
    if isinstance(error, openai.APIConnectionError):
        return ChatError(f"{url} cannot be reached; check OPENAI_BASE_URL and the network.")
    if isinstance(error, openai.APIStatusError):
        if error.code == "insufficient_quota":
            return ChatError(f"{url} says that the credit is used up (status 429).", final=True)
        reasons: dict[int, str] = {
            400: "refused the request; check the model's name and the length of the prompt",
            401: "refused the key; check OPENAI_API_KEY",
            403: f"refused the key; check that it may use {model!r}",
            404: f"does not know {model!r} or has no /chat/completions; check the model's name",
            429: "limits how much you may ask; try again later, or lower the concurrency",
        }
        status = error.status_code
        reason = reasons.get(status, "failed; try again later")
        return ChatError(f"{url} {reason} (status {status}).", final=status in (401, 403, 404))
    if isinstance(error, openai.OpenAIError):
        return ChatError(f"{url} cannot be used ({type(error).__name__}); check OPENAI_BASE_URL.")
    return ChatError(f"{url} answered something that is not a chat completion; try again.")


def can_retry(error: Exception) -> bool:
    """Whether the same question may be answered a little later."""
    import openai

    if isinstance(error, openai.APIStatusError):
        if error.code == "insufficient_quota":
            return False
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    # Broken connections, time-outs, and bodies that were cut or are no JSON.
    return isinstance(error, openai.APIConnectionError | openai.APIResponseValidationError) or (
        not isinstance(error, openai.OpenAIError)
    )
