"""Which service answers, and how patiently it is asked."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.openai_service import OpenAIService
from core.outside_address import AddressRefused, check_address

if TYPE_CHECKING:
    import openai

DEFAULT_MODEL = "gpt-4o-mini"
_CONNECT_SECONDS = 15.0


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
    timeout_seconds: float = 300.0
    """For one answer, thoughts included."""
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
        if self.base_url and self.address_problem:
            raise ValueError(self.address_problem)

    def client(self) -> "openai.AsyncOpenAI":
        """A client of the service that leaves retries to its caller.

        Raises:
            ChatError: OpenAI's own service and no key, or one that cannot be sent, or an address
                that is not asked.
        """
        import openai

        key = self.sent_key
        if key is None:
            raise ChatError(
                "No key for the chat service: set OPENAI_API_KEY, or OPENAI_BASE_URL to a"
                " service of your own.",
                final=True,
            )
        if self.address_problem or self.key_problem:
            raise ChatError(self.address_problem or self.key_problem, final=True)
        try:
            check_address(self.raw_url, self.reach)
        except AddressRefused as refused:
            raise ChatError(str(refused), final=True) from refused
        # A service that is not there is known sooner than one that thinks.
        timeout = openai.Timeout(
            self.timeout_seconds, connect=min(_CONNECT_SECONDS, self.timeout_seconds)
        )
        return self.async_client(api_key=key, timeout=timeout, max_retries=0)
