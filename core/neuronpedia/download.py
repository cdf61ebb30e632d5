"""All batches of one SAE: a few at a time, each kept in the store as soon as it is whole."""

import logging
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import pandas as pd
import requests

from core.asking import fetching
from core.jobs.progress import JobCancelled, Progress
from core.neuronpedia.errors import NeuronpediaError
from core.neuronpedia.http import Patience, get
from core.neuronpedia.listing import ExportFile
from core.neuronpedia.rows import COLUMNS, DamagedFile, read_batch
from core.store import FRAME, Key, Store

log = logging.getLogger(__name__)

BATCH_VERSION = 1
THREADS = 4
_MAX_FILE_BYTES = 128 << 20
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Batches:
    """What the files of one listing hold."""

    frames: list[pd.DataFrame]
    """One table a readable file, in the order of the files, with the columns of `rows.COLUMNS`."""
    damaged: list[str]
    """Names of the files that came whole and cannot be read."""


def download_batches(
    files: list[ExportFile],
    *,
    session: requests.Session,
    patience: Patience,
    store: Store | None,
    progress: Progress | None,
) -> Batches:
    """Read `files`, from the store where an earlier attempt left them there.

    Raises:
        NeuronpediaError: a file could not be had, or none of them can be read.
        JobCancelled: through `progress`; the files that are complete are kept.
    """
    run = _Run(files, session, patience, store, progress)
    with fetching(sum(file.size_bytes for file in files)) as came:
        try:
            return run.finish()
        finally:
            came(run.n_fetched)


class _Run:
    """One download: threads that fetch, and the caller's thread, which reports and stops them."""

    def __init__(
        self,
        files: list[ExportFile],
        session: requests.Session,
        patience: Patience,
        store: Store | None,
        progress: Progress | None,
    ) -> None:
        self._files = files
        self._session = session
        self._patience = patience
        self._store = store
        self._progress = progress
        self._stop = threading.Event()
        self._received = dict.fromkeys((file.url for file in files), 0)
        self._had: set[str] = set()
        self._reported = 0

    @property
    def n_fetched(self) -> int:
        """Bytes that came over the network, without attempts that were begun again."""
        return sum(n for url, n in self._received.items() if url not in self._had)

    def finish(self) -> Batches:
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="neuronpedia")
        try:
            futures = [pool.submit(self._batch, file) for file in self._files]
            self._watch(futures)
        finally:
            # Not waited for: a thread may sit in a read that ends only at its timeout.
            self._stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        results = [future.result() for future in futures]
        damaged = [
            file.url.rpartition("/")[2]
            for file, result in zip(self._files, results, strict=True)
            if result is None
        ]
        frames = [result for result in results if result is not None]
        if not frames:
            raise NeuronpediaError(
                f"None of the {len(damaged)} files of explanations can be read ({damaged[0]} is"
                " damaged); go on without descriptions and report it to Neuronpedia."
            )
        return Batches(frames, damaged)

    def _watch(self, futures: "list[Future[pd.DataFrame | None]]") -> None:
        waiting = set(futures)
        while waiting:
            self._report(len(futures) - len(waiting))
            done, waiting = wait(waiting, _POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
        self._report(len(futures))

    def _report(self, complete: int) -> None:
        if self._progress is None:
            return
        # A file that is begun again would make the bar go back, and its rate start anew.
        self._reported = max(self._reported, sum(self._received.values()))
        self._progress.update(
            self._reported,
            sum(file.size_bytes for file in self._files),
            unit="bytes",
            message=f"Neuronpedia's descriptions: {complete} of {len(self._files)} files",
        )

    def _check(self) -> None:
        if self._stop.is_set():
            raise JobCancelled
        if self._progress is not None:
            self._progress.check()

    def _batch(self, file: ExportFile) -> pd.DataFrame | None:
        """Rows of one file; None when it is damaged."""
        self._check()
        if self._store is None:
            return self._fetch(file)
        key = Key(
            "neuronpedia-batch",
            BATCH_VERSION,
            {
                "url": file.url,
                "etag": file.etag,
                "size": file.size_bytes,
                "modified": file.modified,
            },
        )
        kept = self._store.get(key, FRAME)
        if kept is not None and set(COLUMNS) <= set(kept.columns):
            self._received[file.url] = file.size_bytes
            self._had.add(file.url)
            return kept
        fetched = self._fetch(file)
        if fetched is not None:
            self._store.keep(key, fetched, FRAME)
        return fetched

    def _fetch(self, file: ExportFile) -> pd.DataFrame | None:
        name = file.url.rpartition("/")[2]
        if file.size_bytes > _MAX_FILE_BYTES:
            return None

        def received(count: int) -> None:
            self._received[file.url] = count

        answer = get(
            self._session,
            file.url,
            patience=self._patience,
            check=self._check,
            max_bytes=_MAX_FILE_BYTES,
            expect_bytes=file.size_bytes,
            received=received,
        )
        if answer.status != 200:
            raise NeuronpediaError(
                f"{file.url} is listed but cannot be had (status {answer.status}); try again later."
            )
        try:
            return read_batch(answer.body, name=name)
        except DamagedFile:
            return None
