"""One run's questions: stored answers first, then the service, patiently and within a budget."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from core.jobs.progress import JobCancelled
from core.llm.budget import Budget, Spending
from core.llm.endpoint import ChatEndpoint, ChatError, can_retry, explain
from core.llm.limiter import AdaptiveLimit, retry_after
from core.llm.prices import PRICES, Price, count_tokens, price_of
from core.llm.request import ChatAnswer, ChatRequest
from core.store import JSON, Store

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


class ChatSession:
    """Asks one service. Its coroutines belong to one event loop: see `run_each`."""

    def __init__(
        self,
        endpoint: ChatEndpoint,
        *,
        store: Store | None = None,
        budget: Budget | None = None,
        prices: Mapping[str, Price] = PRICES,
    ) -> None:
        """With a store, an answer is kept as soon as it came and never paid for again.

        Raises:
            ValueError: a budget in dollars for a model whose price is not in `prices`.
        """
        self.endpoint = endpoint
        self.spending = Spending(budget or Budget(), price_of(endpoint.model, prices))
        self._store = store
        self._limit = AdaptiveLimit(endpoint.concurrency)
        self._limit_name = "max_tokens"
        self._final: ChatError | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Send nothing more; what is on its way is waited for and kept."""
        self._stopped.set()

    async def ask(self, request: ChatRequest) -> ChatAnswer:
        """The stored answer, else the service's.

        Raises:
            ChatError: the service refuses, or fails again and again.
            BudgetSpent: the budget does not cover the question.
            JobCancelled: after `stop`.
        """
        self._check()
        if self._store is None:
            return await self._answer(request)
        store, key, loop = self._store, request.key(self.endpoint), asyncio.get_running_loop()
        asked = False

        def compute() -> dict[str, Any]:
            nonlocal asked
            asked = True
            return asyncio.run_coroutine_threadsafe(self._answer(request), loop).result().to_json()

        def look() -> dict[str, Any]:
            # One thread asks, in this process and in all others; the rest wait for its answer.
            return store.get_or_compute(key, compute, JSON, paid=True, waiting=self._check)

        stored = await loop.run_in_executor(self._pool, look)
        self.spending.stored += not asked
        return ChatAnswer.from_json(stored)

    async def close(self) -> None:
        """Close the connections."""
        if "_client" in self.__dict__:
            await self._client.close()
            del self.__dict__["_client"]
        if "_pool" in self.__dict__:
            self._pool.shutdown(wait=False)
            del self.__dict__["_pool"]

    @cached_property
    def _client(self) -> "openai.AsyncOpenAI":
        # Made when first needed: what is stored can be read without a key.
        return self.endpoint.client()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.endpoint.concurrency, thread_name_prefix="chat")

    def _check(self) -> None:
        if self._stopped.is_set():
            raise JobCancelled

    async def _answer(self, request: ChatRequest) -> ChatAnswer:
        for attempt in range(self.endpoint.max_retries + 1):
            entered = await self._enter()
            try:
                answer, error = await self._attempt(request)
            finally:
                self._limit.leave()
            if answer is not None:
                self._limit.succeeded()
                return answer
            assert error is not None  # one of the two, by `_attempt`
            failure = explain(error, self.endpoint)
            asked_for = retry_after(error)
            wait = self._wait(attempt, asked_for)
            last = attempt == self.endpoint.max_retries
            if not can_retry(error) or last or (asked_for or 0) > self.endpoint.max_wait_seconds:
                break
            log.info("Asking again in %.1f s: %s", wait, failure)
            if getattr(error, "status_code", None) == 429:
                self._limit.busy(entered, wait)
            await self._sleep(wait)
        if failure.final:
            self._final = failure
        # Raised out here, so that the client's error, which may quote the request, is not attached.
        raise failure

    async def _enter(self) -> float:
        self._check()
        entered = await self._limit.enter()
        try:
            self._check()
            if self._final is not None:
                raise ChatError(str(self._final), final=True)
        except (JobCancelled, ChatError):
            self._limit.leave()
            raise
        return entered

    async def _attempt(self, request: ChatRequest) -> tuple[ChatAnswer | None, Exception | None]:
        """The answer, or what went wrong; the budget is charged for either."""
        import openai

        client = self._client
        prompt, most = count_tokens(request), request.max_tokens
        spending = self.spending
        # Answers on their way may turn out cheaper than what is set aside for them.
        while spending.exceeded_by(prompt, most) and spending.reserved_prompt:
            await self._sleep(_POLL_SECONDS)
        spending.reserve(prompt, most)
        billed = (0, 0)
        try:
            arguments = request.arguments(self.endpoint, limit_name=self._limit_name)
            completion = await client.chat.completions.create(**arguments)
            # Until the figures are read, count the worst: a body that makes no sense was paid for.
            billed = (prompt, most)
            answer = ChatAnswer.from_completion(completion)
            tokens = (answer.prompt_tokens, answer.completion_tokens)
            billed = (
                prompt if tokens[0] is None else tokens[0],
                most if tokens[1] is None else tokens[1],
            )
            return answer, None
        except openai.APIStatusError as error:
            if self._takes_other_limit(error):
                return None, openai.APIConnectionError(request=error.request)
            return None, error
        except openai.APITimeoutError as error:
            billed = (prompt, most)
            return None, error
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            billed = (0, 0) if isinstance(error, openai.APIConnectionError) else (prompt, most)
            return None, error
        finally:
            self.spending.settle(prompt, most, billed=billed)

    def _takes_other_limit(self, error: "openai.APIStatusError") -> bool:
        """Newer models of OpenAI refuse `max_tokens` and name `max_completion_tokens` instead."""
        if error.status_code != 400 or error.param != "max_tokens":
            return False
        changed = self._limit_name == "max_tokens"
        self._limit_name = "max_completion_tokens"
        return changed

    def _wait(self, attempt: int, asked_for: float | None) -> float:
        """Seconds before the next attempt, with jitter so that not all come back at once."""
        if asked_for is not None:
            return asked_for + random.uniform(0, self.endpoint.backoff_seconds / 2)
        longest = min(self.endpoint.backoff_seconds * 2**attempt, self.endpoint.max_wait_seconds)
        return random.uniform(longest / 2, longest)

    async def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check()
            await asyncio.sleep(min(left, _POLL_SECONDS))
