"""The share of the server's key that one person may spend today, asked before each question."""

from collections.abc import Mapping
from dataclasses import dataclass

from core.hosting.audit import Audit
from core.hosting.people import Person
from core.hosting.policy import ServerKey
from core.hosting.rights import Action, NotAllowed, require
from core.hosting.spending import Ledger, QuotaSpent, Reservation
from core.llm.budget import BudgetSpent
from core.llm.prices import Price


@dataclass(frozen=True)
class Purse:
    """Asked before a question is sent, and told what it cost: a `core.llm.Payer`."""

    person: Person
    """Who pays."""
    model: str
    """Who is asked."""
    price: Price
    """Dollars for a million tokens."""
    limits: Mapping[str, float]
    """Of the day: `dollars` and `tokens`."""
    ledger: Ledger
    """Where it is written down."""
    audit: Audit
    """Where a spent share is told."""

    def reserve(self, prompt: int, completion: int) -> Reservation:
        """Set aside what a question may cost. Raises BudgetSpent where today's share is spent."""
        amounts = self._amounts(prompt, completion)
        try:
            return self.ledger.reserve(self.person.account, self.limits, **amounts)
        except QuotaSpent as spent:
            self.audit.write(self.person, "spend", outcome="refused", model=self.model)
            raise BudgetSpent(str(spent)) from None

    def settle(self, reserved: Reservation, prompt: int, completion: int) -> None:
        """What the question came to."""
        amounts = self._amounts(prompt, completion)
        self.ledger.settle(reserved, **amounts)
        dollars, tokens = amounts["dollars"], amounts["tokens"]
        self.audit.write(self.person, "spend", model=self.model, dollars=dollars, tokens=tokens)

    def _amounts(self, prompt: int, completion: int) -> dict[str, float]:
        tokens = float(prompt + completion)
        return {"dollars": self.price.dollars(prompt, completion), "tokens": tokens}


def purse(person: Person, terms: ServerKey, model: str, *, ledger: Ledger, audit: Audit) -> Purse:
    """The purse of a person for one model.

    Raises:
        NotAllowed: the server's key is not for this person, or not for this model.
    """
    require(person, Action.SERVER_KEY)
    if person.role.name.lower() not in terms.roles:
        raise NotAllowed(
            "The administrator of this server lets you spend no key of the server's; type a key of "
            "your own, which stays in this session."
        )
    if model not in terms.prices:
        raise NotAllowed(
            f"The key of this server may ask {', '.join(terms.prices)}, not {model!r:.60}; choose "
            "one of those, or type a key of your own."
        )
    limits = {"dollars": terms.dollars_a_day, "tokens": float(terms.tokens_a_day)}
    return Purse(person, model, Price(*terms.prices[model]), limits, ledger, audit)
