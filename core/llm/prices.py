"""What questions will cost, before any is asked."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.llm.request import ChatRequest


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    prompt: float
    """Of what is sent."""
    completion: float
    """Of what comes back."""

    def dollars(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


PRICES: Mapping[str, Price] = {}
"""Known prices by model: none. Prices change, and a wrong one would break the promise of a budget
in dollars, so whoever asks gives the price of the day."""

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_BYTES_A_TOKEN = 3.5
_TOKENS_A_MESSAGE = 5


def price_of(model: str, prices: Mapping[str, Price] = PRICES) -> Price | None:
    """Price of a model, also by the name without a date (`gpt-4o-mini-2024-07-18`)."""
    return prices.get(model) or prices.get(_DATED.sub("", model))


def count_tokens(request: ChatRequest) -> int:
    """About how many tokens a question has, rather too many: a token for 3.5 bytes of text."""
    return count_text(request.text) + _TOKENS_A_MESSAGE * len(request.messages)


def count_text(text: str) -> int:
    """About how many tokens a text has, rather too many."""
    return math.ceil(len(text.encode()) / _BYTES_A_TOKEN)


@dataclass(frozen=True)
class Estimate:
    """What a run will take at most, unless answers cannot be read and are asked for again."""

    calls: int
    """Questions."""
    prompt_tokens: int
    """Tokens sent."""
    completion_tokens: int
    """Tokens that come back, at most."""
    dollars: float | None
    """What they cost; None where the price is unknown."""


def estimate_requests(requests: Iterable[ChatRequest], price: Price | None) -> Estimate:
    """What these questions take if none is stored."""
    calls = prompt = completion = 0
    for request in requests:
        calls += 1
        prompt += count_tokens(request)
        completion += request.max_tokens
    dollars = None if price is None else price.dollars(prompt, completion)
    return Estimate(calls, prompt, completion, dollars)
