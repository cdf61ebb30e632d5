"""One run's questions: stored answers first, then the service, patiently and within a budget."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from core.jobs.progress import JobCancelled
from core.llm.adapting import Form, named_change, refuses
from core.llm.answer import ChatAnswer
from core.llm.bodies import NO_ANSWER, NotACompletion, body_text
from core.llm.budget import Budget, Payer, Spending
from core.llm.endpoint import ChatEndpoint, ChatError
from core.llm.failures import Failure, failure_of
from core.llm.limiter import AdaptiveLimit
from core.llm.on_its_way import OnItsWay
from core.llm.prices import PRICES, Price, count_tokens, price_of
from core.llm.request import ChatRequest
from core.llm.stored_answer import StoredAnswer, read_stored
from core.llm.usage import billed_tokens, cost_of
from core.store import JSON, Store

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_MOST_CHANGES = 12
_MOST_SENSELESS = 1
_NONE = Failure("none")


class ChatSession:
    """Asks one service. Its coroutines belong to one event loop: see `run_each`."""

    def __init__(
        self,
        endpoint: ChatEndpoint,
        *,
        store: Store | None = None,
        budget: Budget | None = None,
        prices: Mapping[str, Price] = PRICES,
        payer: Payer | None = None,
    ) -> None:
        """With a store, an answer is kept as soon as it came and never paid for again.

        `payer` answers for what all sessions of one person spend.

        Raises:
            ValueError: a budget in dollars for a model whose price is not in `prices`.
        """
        self.endpoint = endpoint
        self.spending = Spending(budget or Budget(), price_of(endpoint.model, prices))
        self._store, self._payer = store, payer
        self._limit = AdaptiveLimit(endpoint.concurrency)
        self._form = Form()
        self._trying = False
        self._in_vain: set[frozenset[str]] = set()
        self._told: dict[str, None] = {}
        self._final: ChatError | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Send nothing more; what is on its way is waited for and kept."""
        self._stopped.set()

    @property
    def adapted(self) -> tuple[str, ...]:
        """What the service refused, and how it was asked instead: sentences, for the record."""
        return tuple(self._told)

    async def ask(self, request: ChatRequest) -> ChatAnswer:
        """The stored answer, else the service's.

        Raises:
            ChatError: the service refuses, or fails again and again.
            BudgetSpent: the budget does not cover the question.
            JobCancelled: after `stop`.
        """
        self._check()
        if self._store is None:
            return self._noted((await self._answer(request)).answer)
        store, key, loop = self._store, request.key(self.endpoint), asyncio.get_running_loop()
        on_its_way, asked, again = OnItsWay(store.directory), False, False

        def compute() -> dict[str, Any]:
            nonlocal asked, again
            asked, again = True, on_its_way.sent(key.digest)
            return asyncio.run_coroutine_threadsafe(self._answer(request), loop).result().to_json()

        def look() -> dict[str, Any]:
            # One thread asks, in this process and in all others; the rest wait for its answer.
            try:
                return store.get_or_compute(key, compute, JSON, paid=True, waiting=self._check)
            finally:
                if asked:  # only now: between its answer and the store, it would be lost unseen
                    on_its_way.answered(key.digest)

        try:
            stored = await loop.run_in_executor(self._pool, look)
        finally:
            self.spending.asked_again += again
        self.spending.stored += not asked
        return self._noted(read_stored(stored))

    def _noted(self, answer: ChatAnswer) -> ChatAnswer:
        self._told |= dict.fromkeys(answer.adapted)
        return answer

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

    async def _answer(self, request: ChatRequest) -> StoredAnswer:
        attempt = senseless = 0
        for _ in range(self.endpoint.max_retries + 1 + _MOST_CHANGES):
            kept, failure, form = await self._in_turn(request)
            if kept is not None:
                return kept
            if refuses(failure):
                found = await self._other_form(request, form, failure)
                if isinstance(found, StoredAnswer):
                    return found
                if found:
                    continue
            wait = self._wait(attempt, failure.wait)
            too_long = self._waits_too_long(failure)
            if not failure.can_retry or too_long or attempt == self.endpoint.max_retries:
                break
            senseless += failure.what == NO_ANSWER
            if senseless > _MOST_SENSELESS:
                break
            attempt += 1
            log.info("Asking again in %.1f s: %s", wait, failure.explained(self.endpoint))
            await self._sleep(wait)
        error = failure.explained(self.endpoint)
        if error.final:
            self._final = error
        # Raised out here, so that the client's error, which may quote the request, is not attached.
        raise error

    async def _in_turn(self, request: ChatRequest) -> tuple[StoredAnswer | None, Failure, Form]:
        """One attempt when its turn has come, in the form that is known by then."""
        entered = await self._enter()
        while self._trying:
            # Whoever waits for another's finding gives its place back.
            self._limit.leave()
            await self._sleep(_POLL_SECONDS)
            entered = await self._enter()
        form = self._form
        try:
            kept, failure = await self._attempt(request, form)
        finally:
            self._limit.leave()
        if kept is not None:
            self._limit.succeeded()
        elif failure.status == 429 and failure.can_retry and not self._waits_too_long(failure):
            self._limit.busy(entered, self._wait(0, failure.wait))
        return kept, failure, form

    async def _other_form(
        self, request: ChatRequest, form: Form, failure: Failure
    ) -> StoredAnswer | bool:
        """Whether to ask in another form, which is noted for all; or the answer to one.

        What the service names is left out. Where it names nothing, one question after the other
        would be refused: so one leaves out one thing after the other, and all others wait for it.
        """
        while self._trying:
            await self._sleep(_POLL_SECONDS)
        if self._form != form:
            return True
        better = named_change(failure, form, request)
        if better is not None:
            self._form = better
            return True
        shape = frozenset(form.changes(request))
        if failure.too_long or not shape or shape in self._in_vain:
            return False
        self._trying = True
        try:
            singly = [form.less(name) for name in form.changes(request)]
            for tried in (*singly, form.less(*shape)):
                kept, failure = await self._attempt(request, tried)
                if kept is not None:
                    self._form = tried
                    return replace(kept, adapted=tried.sentences())
                if not refuses(failure):
                    return False
            self._in_vain.add(shape)
            return False
        finally:
            self._trying = False

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

    async def _attempt(
        self, request: ChatRequest, form: Form
    ) -> tuple[StoredAnswer | None, Failure]:
        """The answer, or what went wrong; the budget is charged for either."""
        import openai

        client = self._client
        prompt, most = count_tokens(request), form.limit(request)
        spending = self.spending
        # Answers on their way may turn out cheaper than what is set aside for them.
        while spending.exceeded_by(prompt, most) and spending.reserved_prompt:
            await self._sleep(_POLL_SECONDS)
        reserved = await self._reserved(prompt, most)
        cost, estimated = (0, 0), False
        try:
            arguments = form.arguments(request, self.endpoint)
            reply = await client.chat.completions.with_raw_response.create(**arguments)
            # Until the figures are read, count the worst: a body that makes no sense was paid for.
            cost, estimated = (prompt, most), True
            kept = StoredAnswer(body_text(reply.content), most, form.sentences())
            cost, estimated = cost_of(kept.answer, prompt, most)
            return kept, _NONE
        except (openai.OpenAIError, NotACompletion, ValueError, TypeError) as error:
            failure = failure_of(error)
            if failure.kind == "time-out":
                cost, estimated = (prompt, most), True
            elif failure.kind == "status":
                cost, estimated = (0, 0), False
            elif failure.usage is not None:
                sent, received = billed_tokens(failure.usage)
                cost, estimated = (sent or prompt, received or 0), sent is None
            return None, failure
        finally:
            spending.settle(prompt, most, billed=cost, estimated=estimated)
            if self._payer is not None:
                await asyncio.to_thread(self._payer.settle, reserved, *cost)

    async def _reserved(self, prompt: int, most: int) -> Any:
        """Set the question aside in the session's budget and with the payer. Raises BudgetSpent."""
        self.spending.reserve(prompt, most)
        if self._payer is None:
            return None
        try:
            # Not in this session's pool, whose threads may all wait for answers.
            return await asyncio.to_thread(self._payer.reserve, prompt, most)
        except BaseException:
            self.spending.settle(prompt, most, billed=(0, 0))
            raise

    def _waits_too_long(self, failure: Failure) -> bool:
        """Whether the service asks for more patience than there is: then nobody waits."""
        return (failure.wait or 0) > self.endpoint.max_wait_seconds

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
