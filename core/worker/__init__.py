"""A warm process for CPU work that numba does (UMAP, HDBSCAN): one task at a time.

    worker = WorkerProcess()
    worker.start()
    points = worker.run("core.maps:fit_umap", vectors, seed=0, progress=job.progress)

Two threads in numba's workqueue layer abort the interpreter, and with it the app for every user; a
process of its own can also be killed to cancel, which a thread in compiled code cannot.

The process is started with `subprocess`, not `multiprocessing.Process`: that one re-imports
`__main__`, which under Streamlit is a page script, and forking a process with torch threads hangs.
We talk over a socket pair inherited by the child, which has no name that anyone else could connect
to. Tasks and results are pickled on that wire by multiprocessing; this is not stored data, both
ends are this program. Linux and macOS.
"""

import builtins
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, Any

from core.jobs.progress import Progress

log = logging.getLogger(__name__)

WARM_FOR_MAPS = ("core.splitting.layout:warm_up",)
_POLL_SECONDS = 0.05


class WorkerDied(RuntimeError, ValueError):
    """The worker process ended in the middle of a task; the message is a sentence."""


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    channel: Connection
    lifeline: IO[bytes]
    ready: bool = False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()
        self.lifeline.close()


class WorkerProcess:
    """Runs functions in one other process; calls from several threads take turns."""

    def __init__(self, *, warm: Sequence[str] = WARM_FOR_MAPS) -> None:
        """`warm` lists what the process loads at its start: modules, or `module:function` to call.

        Nothing is started yet.
        """
        self._warm = tuple(warm)
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._closed = False

    def start(self) -> None:
        """Start the process, unless it runs; it warms up while the caller goes on."""
        with self._turn:
            self._running_child()

    def run(
        self,
        function: str | Callable[..., Any],
        *args: Any,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> Any:
        """`function(*args, **kwargs)` in the worker process.

        `function` is `"module:name"` or a function at the top level of an importable module. With
        `progress`, cancelling kills the process and starts another; a function that has a
        `progress` parameter gets one whose `update` reports here.

        Raises what the function raised: as the same type if that is built in, else as
        `RuntimeError`. Raises `JobCancelled`, or `WorkerDied` if the process was killed (the next
        call gets a new one), and `ValueError` for a function that the process cannot import.
        """
        name = function_name(function)
        with self._my_turn(progress):
            child = self._running_child()
            try:
                _await_ready(child, progress)  # cancelled here, the process need not be replaced
                try:
                    kind, content = _converse(child, (name, args, kwargs), progress)
                except (EOFError, ConnectionError):
                    raise
                except BaseException:
                    # Cancelled, or not sent whole: the process is busy or out of step with us.
                    self._drop()
                    self._running_child()
                    raise
            except (EOFError, ConnectionError) as error:
                self._drop()
                raise WorkerDied(_obituary(name, child.process.returncode)) from error
        if kind == "error":
            raise _rebuilt(*content)
        return content

    def close(self) -> None:
        """End the process, and with it a task that is running; the worker cannot be used again."""
        self._closed = True
        child = self._child
        if child is not None:
            child.process.kill()  # a call in progress sees it die and gives up its turn
        with self._turn:
            self._drop()

    def __enter__(self) -> "WorkerProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _my_turn(self, progress: Progress | None) -> Iterator[None]:
        while not self._turn.acquire(timeout=_POLL_SECONDS):
            if progress is not None:
                progress.check()
        try:
            yield
        finally:
            self._turn.release()

    # The methods below are called by whoever has the turn.

    def _running_child(self) -> _Child:
        if self._closed:
            raise RuntimeError("The worker process is closed; make a new WorkerProcess.")
        if self._child is not None and _has_ended(self._child):
            log.warning("The worker process ended while idle (%s)", self._child.process.returncode)
            self._drop()
        if self._child is None:
            self._child = _spawn(self._warm)
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


def function_name(function: str | Callable[..., Any]) -> str:
    """`module:name` of a function; raises `ValueError` for one that cannot be imported by name."""
    if isinstance(function, str):
        module, colon, name = function.partition(":")
        if not (module and colon and name.isidentifier()):
            raise ValueError(f"{function!r} does not name a function; write module:name.")
        return function
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", "")
    if not module or module == "__main__" or not name.isidentifier():
        raise ValueError(
            f"{function!r} cannot be imported by the worker process; define it at the top level of"
            " a module."
        )
    return f"{module}:{name}"


def _has_ended(child: _Child) -> bool:
    """Whether an idle child is gone; a ready one says nothing unasked, so it can only be EOF."""
    return child.process.poll() is not None or (child.ready and child.channel.poll(0))


def _spawn(warm: Sequence[str]) -> _Child:
    ours, theirs = socket.socketpair()
    lifeline_read, lifeline_write = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-X", "faulthandler", "-m", "core.worker.child"),
                *(str(theirs.fileno()), str(lifeline_read), *warm),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), lifeline_read),
            # The child must import what we can, wherever our import path came from.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except BaseException:
        ours.close()
        os.close(lifeline_write)
        raise
    finally:
        theirs.close()
        os.close(lifeline_read)
    return _Child(process, Connection(ours.detach()), os.fdopen(lifeline_write, "wb"))


def _await_ready(child: _Child, progress: Progress | None) -> None:
    while not child.ready:
        if child.channel.poll(_POLL_SECONDS):
            child.channel.recv()
            child.ready = True
        elif progress is not None:
            progress.check()


def _converse(child: _Child, task: tuple[Any, ...], progress: Progress | None) -> tuple[str, Any]:
    """Send `task`, pass its reports on, and give its ("result" or "error", content)."""
    child.channel.send((*task, progress is not None))
    while True:
        if child.channel.poll(_POLL_SECONDS):
            kind, content = child.channel.recv()
            if kind != "progress":
                return kind, content
            if progress is not None:
                done, total, unit, message = content
                progress.update(done, total, unit=unit, message=message)
        elif progress is not None:
            progress.check()


def _obituary(name: str, code: int | None) -> str:
    if code is not None and code < 0:
        cause = f"was ended by signal {-code} ({signal.strsignal(-code)})"
    else:
        cause = f"ended by itself (exit status {code})"
    hint = " Most often that means too little memory; try fewer points." if code == -9 else ""
    return f"The worker process {cause} while running {name}.{hint}"


def _rebuilt(name: str, message: str, trace: str) -> Exception:
    kind = getattr(builtins, name, None)
    error: Exception = RuntimeError(f"{name}: {message}")
    if isinstance(kind, type) and issubclass(kind, Exception):
        # Some built-in errors (UnicodeDecodeError) cannot be made from a message alone.
        with suppress(TypeError):
            error = kind(message)
    error.add_note(f"In the worker process:\n{trace}")
    return error
