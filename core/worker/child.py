"""The worker process: runs one task after another until its parent goes away.

Started by `core.worker` as `python -m core.worker.child CHANNEL LIFELINE WARM...`, where CHANNEL is
our end of a socket pair and LIFELINE a pipe that the parent holds open and never writes to.
"""

import fcntl
import importlib
import inspect
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

log = logging.getLogger("core.worker.child")
_REPORT_SECONDS = 0.1


class Reporter:
    """What a task gets as `progress`: sends reports to the parent, at most ten a second."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel
        self._sent_at = 0.0

    def update(
        self, done: float, total: float | None = None, *, unit: str = "", message: str = ""
    ) -> None:
        """Report that `done` of `total` units are finished."""
        now = time.monotonic()
        if done == total or now - self._sent_at >= _REPORT_SECONDS:
            self._sent_at = now
            self._channel.send(("progress", (done, total, unit, message)))

    def check(self) -> None:
        """Nothing to check: a cancelled task is killed with its process."""


def find_function(name: str) -> Callable[..., Any]:
    """The function named `module:name`."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def main(arguments: Sequence[str]) -> None:
    """Warm up, then serve the parent until it closes the channel."""
    channel, lifeline, warm = Connection(int(arguments[0])), int(arguments[1]), arguments[2:]
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    # Ctrl-C in the terminal reaches the whole group; when to stop is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(lifeline)
    for name in warm:
        warm_up(name)
    try:
        channel.send(("ready", None))
        while True:
            function, args, kwargs, takes_progress = channel.recv()
            reply = run_task(function, args, kwargs, Reporter(channel) if takes_progress else None)
            send_reply(channel, reply)
    except (EOFError, ConnectionError):
        return  # the parent closed its end


def die_with_parent(lifeline: int) -> None:
    """Make the closing of the parent's end of `lifeline`, however it dies, end this process.

    A thread that waits for it would need the interpreter's lock, which numba code holds for
    minutes; so the kernel is asked for a SIGIO, whose default action is to end the process. The
    thread is for systems that send none for pipes.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:
        os._exit(1)  # it died before the signal was set up
    threading.Thread(target=_wait_for_end, args=(lifeline,), daemon=True).start()


def _wait_for_end(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


def warm_up(name: str) -> None:
    """Import module `name`, or call `module:function`, so that the first task need not wait."""
    try:
        if ":" in name:
            find_function(name)()
        else:
            importlib.import_module(name)
    except Exception:
        # The task that needs it will fail with the same error and show it.
        log.exception("The worker could not warm up with %s", name)


def run_task(
    function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], reporter: Reporter | None
) -> tuple[str, Any]:
    """("result", value) or ("error", description) of one call."""
    try:
        call = find_function(function)
        extra = {"progress": reporter} if reporter is not None and wants_progress(call) else {}
        return "result", call(*args, **kwargs, **extra)
    except Exception as error:  # noqa: BLE001 - not swallowed: the parent raises it
        return "error", describe(error)


def wants_progress(function: Callable[..., Any]) -> bool:
    """Whether `function` has a parameter named `progress`."""
    try:
        return "progress" in inspect.signature(function).parameters
    except ValueError:
        return False  # some functions written in C have no signature


def send_reply(channel: Connection, reply: tuple[str, Any]) -> None:
    """Send `reply`; a result that cannot be sent becomes an error that says so."""
    try:
        channel.send(reply)
    except (EOFError, ConnectionError):
        raise
    except Exception as error:  # noqa: BLE001 - not swallowed: the parent raises it
        channel.send(("error", describe(error)))


def describe(error: Exception) -> tuple[str, str, str]:
    """Type name, message and traceback of `error`; text, for the parent may not know the type."""
    # KeyError quotes its message; the parent would quote it again.
    message = str(error.args[0]) if len(error.args) == 1 else str(error)
    return type(error).__name__, message, "".join(traceback.format_exception(error))


if __name__ == "__main__":
    main(sys.argv[1:])
