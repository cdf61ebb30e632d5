"""Work in a thread beside a progress bar, cancelled by Ctrl-C."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from tqdm import tqdm

from core.jobs.progress import Progress, ProgressView

log = logging.getLogger(__name__)
T = TypeVar("T")

_POLL_SECONDS = 0.1
_LINE_SECONDS = 30.0
"""Between two lines where nobody looks at a terminal."""


def with_bar(
    work: Callable[[Progress], T], *, title: str = "", progress: Progress | None = None
) -> T:
    """`work(progress)`, with a bar on standard error, or a line now and then where that is a file.

    Ctrl-C and SIGTERM ask the work to stop, which it does at its next step, having kept what it
    can; a second Ctrl-C ends the process at once. Raises what the work raises, JobCancelled among
    it.
    """
    progress = progress or Progress()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(progress))
        except BaseException as error:  # noqa: BLE001 - it is raised in the calling thread
            errors.append(error)

    thread = threading.Thread(target=run, name=title or "work", daemon=True)
    with _stopped_by_signals(progress), _Bar(title) as bar:
        thread.start()
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            bar.show(progress.view())
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def _stopped_by_signals(progress: Progress) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        if progress.cancelled:
            raise KeyboardInterrupt
        sys.stderr.write("\nStopping; what is done is kept. Once more ends at once.\n")
        progress.cancel()

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Bar:
    """What is said of a `Progress` on standard error."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm[Any] | None = None
        self._phase: tuple[str, str, float | None] | None = None
        self._said = 0.0
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, view: ProgressView) -> None:
        """Draw one moment."""
        if not (view.message or view.unit):
            return
        phase = (view.message, view.unit, view.total)
        is_new = phase != self._phase
        self._phase = phase
        if not self._is_terminal:
            self._line(view, is_new=is_new)
            return
        if is_new:
            if self._bar is not None:
                self._bar.close()
            # The last bar of a phase goes, so that what stays is what was said at the end.
            self._bar = tqdm(
                total=view.total,
                desc=view.message or self._title,
                unit=f" {view.unit}" if view.unit else "",
                unit_scale=True,
                leave=False,
                dynamic_ncols=True,
                file=sys.stderr,
            )
        if self._bar is not None:
            self._bar.n = view.done
            self._bar.refresh()

    def _line(self, view: ProgressView, *, is_new: bool) -> None:
        now = time.monotonic()
        first = is_new and now - self._said > 1
        if not first and now - self._said < _LINE_SECONDS:
            return
        self._said = now
        of = f" of {view.total:,.0f}" if view.total else ""
        left = view.eta_seconds
        eta = f", {left:,.0f} s left" if left is not None else ""
        sys.stderr.write(f"{view.message or self._title}: {view.done:,.0f}{of} {view.unit}{eta}\n")
        sys.stderr.flush()
