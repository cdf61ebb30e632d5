"""What a worker of `--ray` does: rows of a text, with a model and SAEs of its own.

Orders name everything (a model and SAEs of the catalog, files of the folder that all share), so
nothing but names and numbers travels. Results are written where the process that gives the orders
finds them; a worker that is killed leaves whole files or none.
"""

import hashlib
import os
import platform
import resource
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from core.activations.build import BATCH_TOKENS, build_statistics, run_rows
from core.activations.parts import PartFile
from core.activations.text_index import CONFIG
from core.catalog import Catalog
from core.corpus.token_set import TokenSet
from core.engine import Engine
from core.firings.kept import Kept, kept_in
from core.firings.make import keep_span, save_totals, statistics_of
from core.jobs.progress import Progress
from core.lease import Lease
from core.run.orders import Order, Report, Seen, Text
from core.sae_quality.measure import QualityConfig, measure_quality
from core.sae_quality.result import Quality
from core.settings import Settings
from core.store import ARRAYS
from core.store.dataclass_codec import dataclass_codec
from core.store.frame import DamagedEntry, unpack_as

Span = tuple[int, int]


class Worker:
    """One model and its SAEs, kept loaded between orders."""

    def __init__(self, settings: Settings, threads: int) -> None:
        """Uses as many threads of torch as the process that gives the orders."""
        import torch

        torch.set_num_threads(threads)
        self._threads = threads
        # Not the store that the folder holds: its locks are for one machine.
        self._engine = Engine(Catalog(settings), device=settings.device)
        self.progress = Progress()
        """How far the order is that is being carried out."""

    def carry_out(self, order: Order) -> Any:
        """Do it; what the method returns."""
        return getattr(self, order.what)(*order.given)

    def report(self, order: Order) -> Report:
        """Do it, and say who did."""
        return Report(self.carry_out(order), where(), most_memory())

    def see(self, text: Text) -> Seen:
        """Load what is read, and run the first batch.

        Raises ValueError where the shared folder, the model or an SAE is not there.
        """
        lease = self._engine.lease(text.model, text.saes, progress=self._begin())
        token_set = tokens_in(Path(text.tokens))
        return seen(lease, token_set, text.rows, threads=self._threads)

    def keep(self, folders: Sequence[str], span: Span) -> int:
        """Write the file of these rows in each of these places of firings; bytes of all."""
        places = [_place(folder) for folder in folders]
        names = [place.sae for place in places]
        lease = self._engine.lease(places[0].about.model, names, progress=self._begin())
        done = [0]

        def report(tokens: int) -> None:
            lease.progress.update(done[0], unit="tokens")
            done[0] += tokens

        keep_span(lease, dict(enumerate(places)), span, report)
        return sum(place.file(span).stat().st_size for place in places)

    def read(self, text: Text, part: PartFile, span: Span) -> None:
        """Write the statistics of these rows, read by the model."""
        lease = self._engine.lease(text.model, text.saes, progress=self._begin())
        token_set = tokens_in(Path(text.tokens))
        states = build_statistics(lease, token_set, CONFIG, rows=span, batch_tokens=BATCH_TOKENS)
        part.write(span, states)

    def add_up(self, folder: str, part: PartFile, span: Span) -> None:
        """Write the statistics of these rows, read from the files of firings."""
        place = _place(folder)
        lease = self._engine.lease(place.about.model, progress=self._begin())
        spans = [it for it in place.spans if span[0] <= it[0] < span[1]]
        part.write(span, [statistics_of(lease, place, spans)])

    def totals(self, folder: str) -> None:
        """Add up the files of a place of firings."""
        place = _place(folder)
        save_totals(self._engine.lease(place.about.model, progress=self._begin()), place)

    def measure(self, text: Text, config: QualityConfig) -> tuple[tuple[str, ...], bytes]:
        """Fingerprints of the model and the one SAE, and its quality as the store would keep it."""
        lease = self._engine.lease(text.model, text.saes, progress=self._begin())
        quality = measure_quality(lease, tokens_in(Path(text.tokens)), config=config)
        weights = (lease.model_fingerprint, *lease.sae_fingerprints)
        return weights, dataclass_codec(Quality).encode(quality)

    def told(self) -> tuple[float, str, int]:
        """Tokens of the present order that are read, the machine, most bytes of memory so far."""
        view = self.progress.view()
        return view.done if view.unit == "tokens" else 0.0, where(), most_memory()

    def _begin(self) -> Progress:
        self.progress = Progress()
        return self.progress


def seen(lease: Lease, token_set: TokenSet, n_rows: int, *, threads: int) -> Seen:
    """What this process has and computes of a first batch."""
    import torch

    rows = np.arange(min(n_rows, token_set.n_rows))
    digest = hashlib.sha256()
    with lease.turn() as (model, saes):
        device = next(model.parameters()).device
        for pieces in run_rows(model, saes, token_set, rows):
            for piece in pieces:
                for array in piece:
                    digest.update(array.tobytes())
    kind = f"{device.type}, {threads} threads" if device.type == "cpu" else device.type
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    return Seen(
        where=where(),
        device=kind,
        weights=(lease.model_fingerprint, *lease.sae_fingerprints),
        firings=digest.hexdigest(),
    )


def where() -> str:
    """This process, for people."""
    return f"process {os.getpid()} on {platform.node()}"


def most_memory() -> int:
    """Bytes of memory that this process had at its largest."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@lru_cache(maxsize=2)
def tokens_in(file: Path) -> TokenSet:
    """The token set of a file. Raises ValueError where it is not there or is damaged."""
    try:
        arrays: dict[str, Any] = ARRAYS.decode(unpack_as(file.name, file.read_bytes()))
    except (OSError, DamagedEntry, ValueError) as error:
        raise ValueError(
            f"A worker, {where()}, cannot read {file} ({error}); mount the folder of "
            "SAE_EXPLORER_CACHE there under the same path."
        ) from error
    return TokenSet.from_arrays(arrays)


@lru_cache(maxsize=64)
def _place(folder: str) -> Kept:
    found = kept_in(Path(folder))
    if found is None:
        raise ValueError(
            f"A worker, {where()}, finds no firings in {folder}; mount the folder of "
            "SAE_EXPLORER_CACHE there under the same path."
        )
    return found
