"""A limit on what a run may spend, kept also while many questions are on their way."""

from dataclasses import dataclass
from typing import Any, Protocol

from core.llm.endpoint import ChatError
from core.llm.prices import Price


class BudgetSpent(ChatError):
    """The next question might have cost more than the budget has left; it was not asked."""


@dataclass(frozen=True)
class Budget:
    """Most that a session may spend; None for no limit. Stored answers cost nothing."""

    dollars: float | None = None
    """US dollars, by the price of the model."""
    calls: int | None = None
    """Questions sent, retries included."""
    tokens: int | None = None
    """Tokens sent and received."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value >= 0:
                raise ValueError(f"The budget of {name} is {value}; use 0 or more, or None.")


class Payer(Protocol):
    """Whoever pays for questions beyond one session: asked before each, and told what it cost.

    Both are called in a thread of their own, for they may wait for a disk.
    """

    def reserve(self, prompt: int, completion: int) -> Any:
        """Set tokens aside. Raises BudgetSpent."""

    def settle(self, reserved: Any, prompt: int, completion: int) -> None:
        """Replace what `reserve` returned by the tokens that were billed."""


@dataclass
class Spending:
    """What a session has spent. Only its event loop writes; any thread may read."""

    budget: Budget
    """The limit."""
    price: Price | None
    """Price of the model, if known."""
    calls: int = 0
    """Questions sent, retries included."""
    stored: int = 0
    """Answers that were read from the store."""
    estimated: int = 0
    """Answers whose tokens the service did not report, or that got lost: counted by their text, or
    at the most they may have cost."""
    asked_again: int = 0
    """Questions that were on their way when an earlier process was killed: the service may have
    charged for their first answers, too, which nobody has."""
    prompt_tokens: int = 0
    """Tokens sent, as billed; estimated for questions whose answer got lost."""
    completion_tokens: int = 0
    """Tokens received, likewise."""
    reserved_prompt: int = 0
    """Tokens of the questions that are on their way."""
    reserved_completion: int = 0
    """Most tokens that their answers may have."""

    def __post_init__(self) -> None:
        if self.budget.dollars is not None and self.price is None:
            raise ValueError(
                "A budget in dollars needs the model's price, which is not in the table; give the"
                " price, or a budget in tokens or calls."
            )

    @property
    def tokens(self) -> int:
        """Tokens sent and received."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def dollars(self) -> float | None:
        """What they cost; None where the price is unknown."""
        if self.price is None:
            return None
        return self.price.dollars(self.prompt_tokens, self.completion_tokens)

    def figures(self) -> dict[str, float | None]:
        """What was spent, as JSON."""
        counts = ("calls", "stored", "estimated", "asked_again")
        names = (*counts, "prompt_tokens", "completion_tokens", "dollars")
        return {name: getattr(self, name) for name in names}

    def exceeded_by(self, prompt: int, completion: int) -> str:
        """The limit that one more question may exceed, with all that are on their way; else ""."""
        budget = self.budget
        all_prompt = self.prompt_tokens + self.reserved_prompt + prompt
        all_completion = self.completion_tokens + self.reserved_completion + completion
        if budget.calls is not None and self.calls + 1 > budget.calls:
            return f"{budget.calls} calls"
        if budget.tokens is not None and all_prompt + all_completion > budget.tokens:
            return f"{budget.tokens:,} tokens"
        if budget.dollars is None or self.price is None:
            return ""
        over = self.price.dollars(all_prompt, all_completion) > budget.dollars
        return f"${budget.dollars:g}" if over else ""

    def reserve(self, prompt: int, completion: int) -> None:
        """Set aside what one more question may cost.

        Raises:
            BudgetSpent: with all questions on their way it might exceed the budget.
        """
        over = self.exceeded_by(prompt, completion)
        if over:
            raise BudgetSpent(f"The budget of {over} does not cover another question.")
        self.calls += 1
        self.reserved_prompt += prompt
        self.reserved_completion += completion

    def settle(
        self, prompt: int, completion: int, *, billed: tuple[int, int], estimated: bool = False
    ) -> None:
        """Replace what was set aside for a question by what it cost, as reported or estimated."""
        self.estimated += estimated
        self.reserved_prompt -= prompt
        self.reserved_completion -= completion
        self.prompt_tokens += billed[0]
        self.completion_tokens += billed[1]
