"""What must be downloaded, how far is it, what went wrong?

    plan = plan_download(entry)      # sizes, free disk and memory; no weights are fetched
    plan.check()                     # refuses, with figures, what cannot fit
    download(plan, progress=report)  # report(done_bytes, total_bytes, message); raise to cancel

Loading then finds everything in huggingface_hub's cache. HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE
and HF_TOKEN mean what they mean to huggingface_hub, which is imported only when needed.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.device import format_bytes
from core.hub.errors import HubErrorsInWords, explain_hub_error, hub_explanation
from core.hub.plan import DownloadPlan, PlannedFile, plan_download
from core.weight_files import checksum_problem, safetensors_problem

__all__ = [
    "DownloadPlan",
    "HubErrorsInWords",
    "PlannedFile",
    "Progress",
    "download",
    "explain_hub_error",
    "hub_explanation",
    "plan_download",
]

Progress = Callable[[int, int | None, str], None]
"""Called with bytes done, bytes in total (None: unknown) and a message; may raise to cancel."""


def download(plan: DownloadPlan, *, progress: Progress | None = None, force: bool = False) -> None:
    """Fetch what `plan` lacks into huggingface_hub's cache, and check each weight file's bytes.

    A file that arrives damaged is removed, so that the next attempt fetches it again. Storage
    that speaks the Xet protocol reports progress too, but a cancellation takes effect there
    only at the end of the current file.

    Args:
        plan: from `plan_download`.
        progress: called with bytes done, bytes in total and a message with the rate; what it
            raises ends the download and is raised here.
        force: fetch files that are here already as well (the remedy for damaged ones).

    Raises:
        ValueError: a file arrived damaged.
        OSError: the hub refuses, cannot be reached, or the connection was cut.
    """
    from huggingface_hub import hf_hub_download

    meter = _Meter(plan, progress, done=0 if force else plan.bytes_cached)
    for file in plan.files:
        if file.cached and not force:
            continue
        meter.start(file.filename)
        bar_class: Any = type("MeteredBar", (_Bar,), {"meter": meter})
        path = Path(
            hf_hub_download(file.repo_id, file.filename, force_download=force, tqdm_class=bar_class)
        )
        meter.raise_if_stopped()
        problem = checksum_problem(path)
        if problem is None and path.suffix == ".safetensors":
            problem = safetensors_problem(path)
        if problem is not None:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise ValueError(f"{problem} It was removed; start the download again.")
        meter.finish(file)


class _Meter:
    """Adds up the bytes of all files of a plan and hands them to the progress callback."""

    def __init__(self, plan: DownloadPlan, progress: Progress | None, *, done: int) -> None:
        self.total = plan.bytes_total or None
        self.done = self.start_of_file = self.at_start = done
        self.progress = progress
        self.message = plan.name
        self.began = time.monotonic()
        self.stopped_by: BaseException | None = None

    def start(self, filename: str) -> None:
        self.message = filename.rsplit("/", 1)[-1]
        self.start_of_file = self.done
        self.report()

    def add(self, n: float) -> None:
        self.done += int(n)
        self.report()

    def finish(self, file: PlannedFile) -> None:
        # Files below one chunk, and files shared between repositories, come without a bar.
        self.done = self.start_of_file + (file.size or self.done - self.start_of_file)
        self.report()

    def report(self) -> None:
        if self.progress is None:
            return
        rate = (self.done - self.at_start) / max(time.monotonic() - self.began, 1e-3)
        try:
            self.progress(self.done, self.total, f"{self.message}, {format_bytes(rate)}/s")
        except BaseException as error:
            # Xet reports from a thread of its own, in which an exception would be lost.
            self.stopped_by = error
            raise

    def raise_if_stopped(self) -> None:
        if self.stopped_by is not None:
            raise self.stopped_by


class _Bar:
    """What huggingface_hub asks of a `tqdm_class`, without the drawing."""

    meter: _Meter

    def __init__(self, *_: object, total: float | None = None, initial: float = 0, **__: object):
        self.total = total
        self.n = initial

    def update(self, n: float | None = 1) -> None:
        """Bytes written to disk; negative when a download starts over."""
        self.n += n or 0
        self.meter.add(n or 0)

    @staticmethod
    def update_transfer(_: float) -> None:
        """Bytes on the wire, which are not shown: they may be compressed."""

    def set_postfix_str(self, *_: object, **__: object) -> None:
        """Nothing is drawn."""

    set_transfer_postfix_str = refresh = close = set_postfix_str

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""
