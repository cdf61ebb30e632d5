"""Which service answers, and what its errors mean."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.openai_service import OpenAIService

if TYPE_CHECKING:
    import openai

DEFAULT_MODEL = "gpt-4o-mini"


class ChatError(ValueError):
    """The service gave no answer; the message is one sentence that says why."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final
        """Whether every further question would meet the same (a wrong key, an unknown model)."""


@dataclass(frozen=True)
class ChatEndpoint(OpenAIService):
    """Where answers come from."""

    model: str = DEFAULT_MODEL
    """The service's name of the model."""
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

    def client(self) -> "openai.AsyncOpenAI":
        """A client of the service that leaves retries to its caller.

        Raises:
            ChatError: OpenAI's own service, and no key.
        """
        import openai

        key = self.sent_key
        if key is None:
            raise ChatError(
                "No key for the chat service: set OPENAI_API_KEY, or OPENAI_BASE_URL to a"
                " service of your own.",
                final=True,
            )
        return openai.AsyncOpenAI(
            api_key=key, base_url=self.raw_url, timeout=self.timeout_seconds, max_retries=0
        )


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
