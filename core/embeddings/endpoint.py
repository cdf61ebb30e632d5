"""Which service gives vectors, and what its errors mean."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.openai_service import OpenAIService

if TYPE_CHECKING:
    import openai

DEFAULT_MODEL = "text-embedding-3-small"


class EmbeddingError(ValueError):
    """The service did not give vectors; the message is one sentence that says why."""


@dataclass(frozen=True)
class EmbeddingEndpoint(OpenAIService):
    """Where vectors come from."""

    model: str = DEFAULT_MODEL
    """The service's name of the embedding model."""
    dimensions: int | None = None
    """Length of the vectors, for models that offer a choice."""
    timeout_seconds: float = 30.0
    """For one answer."""
    max_retries: int = 4
    """After the first attempt, for busy or failing services; Retry-After is honoured."""

    def client(self) -> "openai.OpenAI":
        """A client of the service.

        Raises:
            EmbeddingError: OpenAI's own service and no key, or a key or address that cannot be
                used.
        """
        key = self.sent_key
        if key is None:
            raise EmbeddingError(
                "No key for the embedding service: set OPENAI_API_KEY, or OPENAI_BASE_URL to a"
                " service of your own."
            )
        if self.address_problem or self.key_problem:
            raise EmbeddingError(self.address_problem or self.key_problem)
        return self.sync_client(
            api_key=key, timeout=self.timeout_seconds, max_retries=self.max_retries
        )


def explain(error: Exception, endpoint: EmbeddingEndpoint) -> str:
    """What a client's error means, in one sentence; nothing of its own text is repeated."""
    import openai

    url, model = endpoint.url, endpoint.model
    if isinstance(error, openai.APITimeoutError):
        return f"{url} does not answer in time; try again, or raise the timeout."
    if isinstance(error, openai.APIConnectionError):
        return f"{url} cannot be reached; check OPENAI_BASE_URL and the network."
    if isinstance(error, openai.APIStatusError):
        reasons: dict[int, str] = {
            401: "refused the key; check OPENAI_API_KEY",
            403: "refused the key; check that it may use embeddings",
            404: f"does not know {model!r} or has no /embeddings; check the model's name",
            400: f"refused the request; check that {model!r} is an embedding model",
            429: "limits how much you may ask, or the credit is used up; try again later",
        }
        reason = reasons.get(error.status_code, "failed; try again later")
        if 300 <= error.status_code < 400:
            reason = "sends questions on to another address; give that address itself"
        return f"{url} {reason} (status {error.status_code})."
    return (
        f"{url} cannot be used ({type(error).__name__}); check OPENAI_BASE_URL and OPENAI_API_KEY."
    )
