"""Which service gives vectors, and what its errors mean."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    import openai

DEFAULT_MODEL = "text-embedding-3-small"
OPENAI_URL = "https://api.openai.com/v1"


class EmbeddingError(ValueError):
    """The service did not give vectors; the message is one sentence that says why."""


@dataclass(frozen=True)
class EmbeddingEndpoint:
    """Where vectors come from."""

    model: str = DEFAULT_MODEL
    """The service's name of the embedding model."""
    base_url: str | None = None
    """Address up to `/v1`; None for OPENAI_BASE_URL, else OpenAI's own."""
    api_key: str | None = field(default=None, repr=False)
    """None for OPENAI_API_KEY. A service of one's own may need none."""
    dimensions: int | None = None
    """Length of the vectors, for models that offer a choice."""
    timeout_seconds: float = 30.0
    """For one answer."""
    max_retries: int = 4
    """After the first attempt, for busy or failing services; Retry-After is honoured."""

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **fields: Any
    ) -> "EmbeddingEndpoint | None":
        """The service that OPENAI_API_KEY and OPENAI_BASE_URL name; None when neither is set."""
        env = os.environ if environment is None else environment
        key, url = env.get("OPENAI_API_KEY") or None, env.get("OPENAI_BASE_URL") or None
        if key is None and url is None:
            return None
        return cls(**{"base_url": url, "api_key": key, **fields})

    @property
    def url(self) -> str:
        """The address that is used, without a name or password in it."""
        parts = urlsplit(self._raw_url())
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")

    def client(self) -> "openai.OpenAI":
        """A client of the service.

        Raises:
            EmbeddingError: OpenAI's own service, and no key.
        """
        import openai

        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        if not key:
            if self.url == OPENAI_URL:
                raise EmbeddingError(
                    "No key for the embedding service: set OPENAI_API_KEY, or OPENAI_BASE_URL to a"
                    " service of your own."
                )
            # Servers on one's own machine ask for none, but the client insists on sending one.
            key = "none"
        return openai.OpenAI(
            api_key=key,
            base_url=self._raw_url(),
            timeout=self.timeout_seconds,
            max_retries=self.max_retries,
        )

    def _raw_url(self) -> str:
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL


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
        return f"{url} {reason} (status {error.status_code})."
    return (
        f"{url} cannot be used ({type(error).__name__}); check OPENAI_BASE_URL and OPENAI_API_KEY."
    )
