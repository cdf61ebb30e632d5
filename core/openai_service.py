"""Which OpenAI-compatible service is asked, and with which key? No text of ours holds the key."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from core.outside_address import ANYWHERE, Reach, guarded_transport

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"
_ASKED = ("/chat/completions", "/embeddings")


@dataclass(frozen=True)
class OpenAIService:
    """Address, key and model; what it is asked for is added by the classes made from it."""

    model: str
    """The service's name of the model."""
    base_url: str | None = None
    """Address up to `/v1`; None for OPENAI_BASE_URL, else OpenAI's own."""
    api_key: str | None = field(default=None, repr=False)
    """None for OPENAI_API_KEY. A service of one's own may need none."""
    reach: Reach = field(default=ANYWHERE, kw_only=True)
    """Which addresses may be asked; narrower where a reader of a server typed this one."""

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
        parts = self._parts
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))

    @property
    def raw_url(self) -> str:
        """The address up to the question, for the client alone."""
        return urlunsplit(self._parts._replace(query=""))

    @property
    def query(self) -> dict[str, str]:
        """What is sent behind the address of every question, such as Azure's `api-version`."""
        return dict(parse_qsl(self._parts.query))

    @property
    def address_problem(self) -> str:
        """Why nothing can be asked at this address, in a sentence; "" where it can."""
        try:
            parts = urlsplit(self._given)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # half a bracket, or a port beyond 65535
            usable = False
        if usable:
            return ""
        return (
            "The address of the service cannot be used: it must begin with https:// or http:// "
            "and a host, as in http://localhost:11434/v1 (OPENAI_BASE_URL)."
        )

    @property
    def key_problem(self) -> str:
        """Why the key cannot be sent, in a sentence that does not show it; "" where it can."""
        key = self.sent_key or ""
        if key.isascii() and key.isprintable() and " " not in key:
            return ""
        return (
            "The key holds spaces, or characters that are not ASCII, as no key does; copy it again "
            "(OPENAI_API_KEY)."
        )

    @property
    def _given(self) -> str:
        return (self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).strip()

    @property
    def _parts(self) -> SplitResult:
        try:
            parts = urlsplit(self._given)
        except ValueError:
            return SplitResult("", "", self._given, "", "")
        path = parts.path.rstrip("/")
        # Manuals show the address of the question; the client adds that part itself.
        for asked in _ASKED:
            path = path.removesuffix(asked)
        return parts._replace(path=path, fragment="")

    @property
    def sent_key(self) -> str | None:
        """The key for the client alone; None where OpenAI's own service would need one."""
        key = (self.api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
        if key:
            return key
        # Servers on one's own machine ask for none, but the client insists on sending one.
        return None if self.url == OPENAI_URL else "none"

    def async_client(self, **options: Any) -> "openai.AsyncOpenAI":
        """The client; Azure's own for addresses with an `api-version`, which wants it so.

        It follows no redirects: where one leads was not looked at.
        """
        import openai

        client = openai.DefaultAsyncHttpxClient(
            follow_redirects=False, transport=guarded_transport(self.reach)
        )
        fixed: dict[str, Any] = {"base_url": self.raw_url, "default_query": self.query, **options}
        version = self.query.get("api-version")
        if version is None:
            return openai.AsyncOpenAI(http_client=client, **fixed)
        return openai.AsyncAzureOpenAI(api_version=version, http_client=client, **fixed)

    def sync_client(self, **options: Any) -> "openai.OpenAI":
        """The same for one question at a time, to an address that nobody but the server chose."""
        import openai

        if self.reach != ANYWHERE:
            raise ValueError("The address of this service is the server's own; leave it out.")
        client = openai.DefaultHttpxClient(follow_redirects=False)
        fixed: dict[str, Any] = {"base_url": self.raw_url, "default_query": self.query, **options}
        version = self.query.get("api-version")
        if version is None:
            return openai.OpenAI(http_client=client, **fixed)
        return openai.AzureOpenAI(api_version=version, http_client=client, **fixed)
