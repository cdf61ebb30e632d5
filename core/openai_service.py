"""Which OpenAI-compatible service is asked, and with which key? No text of ours holds the key."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True)
class OpenAIService:
    """Address, key and model; what it is asked for is added by the classes made from it."""

    model: str
    """The service's name of the model."""
    base_url: str | None = None
    """Address up to `/v1`; None for OPENAI_BASE_URL, else OpenAI's own."""
    api_key: str | None = field(default=None, repr=False)
    """None for OPENAI_API_KEY. A service of one's own may need none."""

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **fields: Any
    ) -> Self | None:
        """The service that OPENAI_API_KEY and OPENAI_BASE_URL name; None when neither is set."""
        env = os.environ if environment is None else environment
        key, url = env.get("OPENAI_API_KEY") or None, env.get("OPENAI_BASE_URL") or None
        if key is None and url is None:
            return None
        return cls(**{"base_url": url, "api_key": key, **fields})

    @property
    def url(self) -> str:
        """The address that is used, without a name, password or query in it."""
        parts = urlsplit(self.raw_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=host, query="", fragment="")).rstrip("/")

    @property
    def raw_url(self) -> str:
        """The address as it was given, for the client alone."""
        given = self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        # Manuals show the address of the question; the client adds that part itself.
        return given.strip().rstrip("/").removesuffix("/chat/completions")

    @property
    def sent_key(self) -> str | None:
        """The key for the client alone; None where OpenAI's own service would need one."""
        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        if key:
            return key
        # Servers on one's own machine ask for none, but the client insists on sending one.
        return None if self.url == OPENAI_URL else "none"
