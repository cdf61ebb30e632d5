"""Explanations of one SAE: from the store while they are fresh, else from the exports bucket."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
import requests
from jaxtyping import Float, Int

from core.jobs.progress import Progress
from core.neuronpedia.addresses import Source, datasets_url, pages_url
from core.neuronpedia.download import Batches, download_batches
from core.neuronpedia.errors import NeuronpediaError, NoExplanations
from core.neuronpedia.http import Patience, interruptible
from core.neuronpedia.listing import ExportFile, list_files, listing_digest
from core.neuronpedia.memory import Known, Memory
from core.neuronpedia.old_api import old_export
from core.neuronpedia.rows import vector
from core.store import ARRAYS, FRAME, Codec, Store

FRESH_SECONDS = 24 * 3600.0
"""How long a listing is believed before the bucket is asked again."""
ABSENT_SECONDS = 3600.0
"""The same for the answer that there is nothing."""

T = TypeVar("T")
_COLUMNS = ["index", "description", "explanation_model", "type"]


@dataclass(frozen=True)
class ExplanationEmbeddings:
    """Vectors of explanations, as Neuronpedia exports them."""

    index: Int[np.ndarray, " n"]
    """Latents that have one, ascending."""
    vectors: Float[np.ndarray, "n d"]
    """float16 vectors of their explanations (d is 256 at the time of writing); n may be 0."""


def fetch_explanations(
    neuronpedia_id: str,
    *,
    store: Store | None = None,
    progress: Progress | None = None,
    session: requests.Session | None = None,
    patience: Patience | None = None,
    fresh_seconds: float = FRESH_SECONDS,
    clock: Callable[[], float] = time.time,
) -> pd.DataFrame:
    """What Neuronpedia says about each latent of one SAE.

    Lists the exports bucket, downloads its batches, and keeps each in `store`: an attempt that was
    interrupted goes on where it stopped. A result younger than `fresh_seconds` is used without any
    request; an older one only if the bucket says that nothing changed, or cannot be asked.

    Args:
        neuronpedia_id: `model/source`, such as `gpt2-small/7-res-jb`.
        store: keeps what was fetched; None fetches it each time.
        progress: bytes of all files; cancelling takes effect within a tenth of a second.
        session: for proxies or a test's own transport.
        patience: timeouts and retries.
        fresh_seconds: age up to which a stored result is used unasked; that there is none is
            believed for an hour at most.
        clock: seconds since the epoch.

    Returns:
        A table with the columns `index` (int64, unique, ascending), `description` (stripped, never
        empty; of several for a latent the first), `explanation_model` and `type` (`""` if unknown).
        Not every latent has a row. `attrs["notes"]` lists, in sentences, what was left out and
        whether the data may be out of date.

    Raises:
        NoExplanations: Neuronpedia has none for this SAE.
        NeuronpediaError: they cannot be had now. Both are `ValueError`s of one sentence.
        JobCancelled: through `progress`.
    """
    source = Source.parse(neuronpedia_id)
    memory = Memory(store, source, base=datasets_url(), clock=clock)
    export = _Export(source, memory, progress, session, patience)
    frame = export.result("explanations", _explanations, FRAME, fresh_seconds=fresh_seconds)
    frame.attrs["notes"] = [*frame.attrs.get("notes", []), *export.notes]
    return frame


def recall_explanations(neuronpedia_id: str, store: Store) -> pd.DataFrame | None:
    """What `fetch_explanations` found last, however old; None where it was never asked or found
    nothing. Nobody is asked."""
    memory = Memory(store, Source.parse(neuronpedia_id), base=datasets_url())
    known = memory.known()
    return None if known is None else memory.get("explanations", known, FRAME)


def fetch_embeddings(
    neuronpedia_id: str,
    *,
    store: Store | None = None,
    progress: Progress | None = None,
    session: requests.Session | None = None,
    patience: Patience | None = None,
    fresh_seconds: float = FRESH_SECONDS,
    clock: Callable[[], float] = time.time,
) -> ExplanationEmbeddings:
    """Vectors that come with the explanations of `fetch_explanations`: similar meaning, similar
    direction. They allow a search from latent to latent without any embedding service.

    Arguments and errors are those of `fetch_explanations`; after it, with the same store, nothing
    is downloaded again. Explanations without a vector, or with one of an unusual length, are left
    out.
    """
    source = Source.parse(neuronpedia_id)
    memory = Memory(store, source, base=datasets_url(), clock=clock)
    export = _Export(source, memory, progress, session, patience)
    arrays = export.result("embeddings", _embeddings, ARRAYS, fresh_seconds=fresh_seconds)
    return ExplanationEmbeddings(arrays["index"], arrays["vectors"])


class _Export:
    """One request for what is known of an SAE's latents."""

    def __init__(
        self,
        source: Source,
        memory: Memory,
        progress: Progress | None,
        session: requests.Session | None,
        patience: Patience | None,
    ) -> None:
        self._source = source
        self._memory = memory
        self._progress = progress
        self._session = session or requests.Session()
        self._patience = patience or Patience()
        self.notes: list[str] = []
        """What the reader should know about this answer, in sentences."""

    def result(
        self, kind: str, compute: Callable[[Batches], T], codec: Codec[T], *, fresh_seconds: float
    ) -> T:
        """`compute` of all rows: as stored while fresh, else as the bucket is now, else as it was
        when it was last asked."""
        known = self._memory.known()
        absent_seconds = min(ABSENT_SECONDS, fresh_seconds)
        if known is not None and known.absent and known.age_seconds <= absent_seconds:
            raise _nothing(self._source)
        if known is not None and known.age_seconds <= fresh_seconds:
            kept = self._memory.get(kind, known, codec)
            if kept is not None:
                return kept
        try:
            return self._ask(kind, compute, codec)
        except NoExplanations:
            self._memory.remember(Known(digest=""))
            raise
        except NeuronpediaError as error:
            kept = self._memory.get(kind, known, codec) if known is not None else None
            if known is None or kept is None:
                raise
            self.notes.append(
                f"These descriptions were last checked {known.age_seconds / 3600:.0f} hours ago and"
                f" may be out of date: {error}"
            )
            return kept

    def _ask(self, kind: str, compute: Callable[[Batches], T], codec: Codec[T]) -> T:
        files = interruptible(self._list, check=self._check)
        if files:
            known = Known(listing_digest(files))
            read = partial(self._download, files)
        else:
            # The bucket has no such source: perhaps an instance that still serves the old API has.
            batches = Batches([interruptible(self._old_rows, check=self._check)], damaged=[])
            known = Known(_digest(batches.frames[0]))
            read = partial(lambda: batches)
        value = self._memory.get_or_compute(
            kind, known, lambda: compute(read()), codec, waiting=self._check
        )
        self._memory.remember(known)
        return value

    def _list(self) -> list[ExportFile]:
        return list_files(
            self._source,
            base=datasets_url(),
            session=self._session,
            patience=self._patience,
            check=self._check,
        )

    def _download(self, files: list[ExportFile]) -> Batches:
        return download_batches(
            files,
            session=self._session,
            patience=self._patience,
            store=self._memory.store,
            progress=self._progress,
        )

    def _old_rows(self) -> pd.DataFrame:
        rows = old_export(
            self._source,
            base=pages_url(),
            session=self._session,
            patience=self._patience,
            check=self._check,
        )
        if rows is None:
            raise _nothing(self._source)
        return rows

    def _check(self) -> None:
        if self._progress is not None:
            self._progress.check()


def _explanations(batches: Batches) -> pd.DataFrame:
    """The table of `fetch_explanations`, with its notes."""
    rows = _first_of_each(batches)
    frame = rows[_COLUMNS].copy()
    frame.attrs = {"notes": _notes(batches, n_repeated=_row_count(batches) - len(rows))}
    return frame


def _embeddings(batches: Batches) -> dict[str, np.ndarray]:
    """Latents and vectors of the same rows; of several lengths the commonest."""
    rows = _first_of_each(batches)
    rows = rows[rows["embedding"].notna()]
    lengths = rows["embedding"].map(len)
    rows = rows[lengths == (lengths.mode().iloc[0] if len(lengths) else 0)]
    vectors = [vector(stored) for stored in rows["embedding"]]
    return {
        "index": rows["index"].to_numpy(dtype=np.int64),
        "vectors": np.stack(vectors) if vectors else np.zeros((0, 0), dtype=np.float16),
    }


def _first_of_each(batches: Batches) -> pd.DataFrame:
    rows = pd.concat(batches.frames, ignore_index=True)
    rows = rows.drop_duplicates("index", keep="first")
    return rows.sort_values("index", ignore_index=True)


def _row_count(batches: Batches) -> int:
    return sum(len(frame) for frame in batches.frames)


def _notes(batches: Batches, *, n_repeated: int) -> list[str]:
    def total(name: str) -> int:
        return sum(int(frame.attrs.get(name, 0)) for frame in batches.frames)

    notes = []
    if batches.damaged:
        names = ", ".join(batches.damaged[:3])
        notes.append(
            f"{len(batches.damaged)} of {len(batches.damaged) + len(batches.frames)} files of"
            f" descriptions are damaged at Neuronpedia and were left out ({names})."
        )
    if total("malformed"):
        notes.append(f"{total('malformed'):,} malformed rows were left out.")
    if total("blank"):
        notes.append(f"{total('blank'):,} rows without a description were left out.")
    if n_repeated:
        notes.append(f"{n_repeated:,} further descriptions of latents that have one were left out.")
    return notes


def _digest(rows: pd.DataFrame) -> str:
    text = rows[_COLUMNS].to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _nothing(source: Source) -> NoExplanations:
    return NoExplanations(
        f"Neuronpedia has no descriptions for {source}; load your own, or go on without."
    )
