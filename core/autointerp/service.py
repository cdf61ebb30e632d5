"""Which chat service a run asks, and with whose key.

The key of the server goes to the server's own service and nowhere else: whoever types another
address gives a key for it, or none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.llm import Budget, ChatEndpoint, ChatSession, Payer, Price
from core.llm.endpoint import DEFAULT_MODEL
from core.outside_address import ANYWHERE, Reach
from core.store import Store


@dataclass(frozen=True)
class Typed:
    """What a user typed for their session."""

    url: str = ""
    """Address of a service, up to /v1."""
    key: str = field(default="", repr=False)
    """Key."""
    prompt_price: float = 0.0
    """US dollars per million tokens sent; 0 where it is not known."""
    completion_price: float = 0.0
    """US dollars per million tokens received."""
    dollars: float = 1.0
    """Most that a run may cost, where the price is known."""
    calls: int = 2000
    """Most questions of a run."""

    @property
    def price(self) -> Price | None:
        """The price of a token; None where it is not known."""
        if not (self.prompt_price > 0 or self.completion_price > 0):
            return None
        return Price(self.prompt_price, self.completion_price)

    @property
    def budget(self) -> Budget:
        """Where a run stops."""
        return Budget(dollars=self.dollars if self.price else None, calls=self.calls)


@dataclass(frozen=True)
class Service:
    """Who is asked, and how much may be spent."""

    endpoint: ChatEndpoint
    """The service, with its key."""
    budget: Budget = field(default_factory=Budget)
    """Where questions stop."""
    price: Price | None = None
    """Dollars per million tokens, where known."""
    payer: Payer | None = None
    """Who answers for what is spent, where that is not whoever typed the key."""

    def session(self, store: Store) -> ChatSession:
        """A session that keeps answers in `store`."""
        prices = {self.endpoint.model: self.price} if self.price is not None else {}
        return ChatSession(
            self.endpoint, store=store, budget=self.budget, prices=prices, payer=self.payer
        )


def endpoint_of(
    typed: Typed,
    model: str,
    *,
    environment: Mapping[str, str],
    secrets: Mapping[str, str],
    reach: Reach = ANYWHERE,
) -> ChatEndpoint | None:
    """The service to ask; None where nothing says which.

    Typed fields win over Streamlit's secrets, and those over the environment. A typed address
    never gets a key that was not typed, and must lie within `reach`.

    Raises:
        ValueError: an address that is none.
    """
    name = model or DEFAULT_MODEL
    if typed.url:
        if not typed.url.startswith(("http://", "https://")):
            raise ValueError("The address of the service must begin with https:// or http://.")
        # A key of one's own machine is never asked for, but the client insists on one.
        return ChatEndpoint(name, typed.url, typed.key or "none", reach=reach)
    for settings in (secrets, environment):
        url, key = settings.get("OPENAI_BASE_URL"), settings.get("OPENAI_API_KEY")
        if url or key:
            own = typed.key or key or ("none" if url else None)
            return ChatEndpoint(name, url or None, own)
    return ChatEndpoint(name, None, typed.key) if typed.key else None
