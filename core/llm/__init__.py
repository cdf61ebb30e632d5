"""Ask a chat model many questions: at once, within a budget, and each paid for once.

    endpoint = ChatEndpoint.from_environment(model="gpt-4o-mini")
    session = ChatSession(endpoint, store=store, budget=Budget(dollars=0.50))
    answers = run_each(latents, lambda latent: session.ask(request_for(latent)), session=session)

Any OpenAI-compatible service will do. The key is given to the client and to nothing else: no repr,
stored entry, log line or error message contains it.
"""

from core.llm.answer import ChatAnswer
from core.llm.budget import Budget, BudgetSpent, Payer, Spending
from core.llm.endpoint import ChatEndpoint, ChatError
from core.llm.prices import PRICES, Estimate, Price, count_tokens, estimate_requests, price_of
from core.llm.request import ChatRequest, Messages, json_form
from core.llm.run import run_each
from core.llm.session import ChatSession

__all__ = [
    "PRICES",
    "Budget",
    "BudgetSpent",
    "ChatAnswer",
    "ChatEndpoint",
    "ChatError",
    "ChatRequest",
    "ChatSession",
    "Estimate",
    "Messages",
    "Payer",
    "Price",
    "Spending",
    "count_tokens",
    "estimate_requests",
    "json_form",
    "price_of",
    "run_each",
]
