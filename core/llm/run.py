"""Many coroutines from a plain function: on an event loop of its own, with progress and cancel."""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from core.jobs.progress import JobCancelled, Progress
from core.llm.session import ChatSession

K = TypeVar("K")
T = TypeVar("T")

_POLL_SECONDS = 0.1


def run_each(
    keys: Iterable[K],
    work: Callable[[K], Awaitable[T]],
    *,
    session: ChatSession | None = None,
    on_result: Callable[[K, T], None] | None = None,
    progress: Progress | None = None,
    unit: str = "latents",
    message: str = "asking the chat model",
) -> dict[K, T]:
    """`await work(key)` for each key, all at once; the session limits what is on its way.

    Args:
        keys: what to work on; of equal ones only the first counts.
        work: raises nothing but what should end the whole run.
        session: stopped when the run ends early, and closed when its last question is answered.
        on_result: called in the calling thread with each result, in the order they come.
        progress: keys done; cancelling takes effect within a tenth of a second. Answers on their
            way are still stored.

    Returns:
        The results, in the order of the keys.

    Raises:
        JobCancelled: through `progress`; results until then went to `on_result`.
    """
    order = list(dict.fromkeys(keys))
    finished: queue.SimpleQueue[tuple[str, Any, Any]] = queue.SimpleQueue()

    async def one(key: K) -> None:
        try:
            finished.put(("result", key, await work(key)))
        except BaseException as error:  # noqa: BLE001 - it is raised in the calling thread
            finished.put(("error", key, error))

    async def every() -> None:
        try:
            await asyncio.gather(*(one(key) for key in order))
        finally:
            if session is not None:
                await session.close()

    # Its questions outlive a cancelled run, to be stored: they are paid for.
    thread = threading.Thread(target=lambda: asyncio.run(every()), name="chat-loop", daemon=True)
    results: dict[K, T] = {}
    thread.start()
    try:
        while len(results) < len(order):
            if progress is not None:
                progress.update(len(results), len(order), unit=unit, message=message)
            try:
                kind, key, value = finished.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if kind == "error":
                raise value
            results[key] = value
            if on_result is not None:
                on_result(key, value)
        thread.join()
    except BaseException as error:
        if session is not None:
            session.stop()
        if not isinstance(error, JobCancelled):
            thread.join(timeout=_POLL_SECONDS)
        raise
    return {key: results[key] for key in order}
