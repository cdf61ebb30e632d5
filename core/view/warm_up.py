"""Slow beginnings, off the page's thread: the list of published SAEs, then torch and the rest.

Pages are drawn at once and look at `published` and `libraries` to see what they may already do.
Imports hold the interpreter lock for long stretches, so they begin when a browser has shown that it
has the page (it asks for news), or after a few seconds.
"""

import gc
import importlib
import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

log = logging.getLogger(__name__)

LIBRARIES = ("core.models", "core.saes", "core.logit_statistics", "core.prompt_latents.active")
"""Modules whose import brings torch, transformer_lens and sae_lens."""

_PATIENCE_SECONDS = 3.0


class WarmUp:
    """Two steps, each done once, in a thread of its own."""

    def __init__(self) -> None:
        """Nothing begins before `start`."""
        self.published: Future[None] = Future()
        """Done when the list of published SAEs can be asked for without waiting."""
        self.libraries: Future[None] = Future()
        """Done when models and SAEs can be loaded."""
        self._lock = threading.Lock()
        self._started = False

    def start_soon(self) -> None:
        """Begin after a few seconds, if nothing else makes it begin before."""
        timer = threading.Timer(_PATIENCE_SECONDS, self.start)
        timer.daemon = True
        timer.start()

    def start(self) -> None:
        """Begin, unless it has begun."""
        with self._lock:
            if self._started:
                return
            self._started = True
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="warm-up")
        for step, work in (
            (self.published, _read_published_list),
            (self.libraries, _import_libraries),
        ):
            worker.submit(work).add_done_callback(partial(_pass_on, step))
        worker.shutdown(wait=False)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.published.done() and self.libraries.done()


def _pass_on(step: "Future[None]", ended: "Future[None]") -> None:
    error = ended.exception()
    if error is None:
        step.set_result(None)
    else:
        log.error("The start of the explorer failed", exc_info=error)
        step.set_exception(error)


def problem_of(step: "Future[None]") -> str | None:
    """Why a step that has ended failed, as a sentence; None while it runs or if it went well."""
    error = step.exception() if step.done() else None
    if error is None:
        return None
    name = type(error).__name__
    return f"The explorer's libraries did not start ({name}: {error}); run `make run` again."


def _read_published_list() -> None:
    from core.catalog import pretrained

    pretrained.read_pretrained()


def _import_libraries() -> None:
    began = time.monotonic()
    for name in LIBRARIES:
        importlib.import_module(name)
    # Streamlit collects garbage after every run of a page. What the libraries hold (a million
    # objects) never becomes garbage; frozen, it is not looked at again.
    gc.collect()
    gc.freeze()
    log.info("Libraries ready after %.1f s", time.monotonic() - began)
