"""Dossiers of some latents of one SAE, as the dossier's page shows them in a table."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.catalog.entries import SaeEntry
from core.dossier.batch import run_batch, stored_batch
from core.dossier.others import note_fingerprint, with_others
from core.dossier.request import DossierRequest
from core.dossier.run import run_dossiers
from core.dossier.view import LINK, DossierView
from core.jobs.progress import Progress
from core.lease import Lease
from core.run.cost import Cost, peak_memory, store_bytes
from core.shell import Machine, address
from core.store import JSON, Key

if TYPE_CHECKING:
    from core.dossier.result import Dossier


@dataclass
class DossierTask:
    """Dossiers of a list of latents."""

    machine: Machine
    """Catalog, store and engine."""
    requests: tuple[DossierRequest, ...]
    """One a latent, without what others say."""
    entries: tuple[SaeEntry, ...]
    """The SAE."""
    view: DossierView
    """The page's settings."""

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.requests[0].model

    @property
    def title(self) -> str:
        """What is done."""
        n = len(self.requests)
        what = f"{n} dossiers" if n > 1 else f"Dossier of latent {self.requests[0].latent}"
        return f"{what} of {' / '.join(self.requests[0].sae_name)}"

    def is_made(self) -> bool:
        """Whether the table of exactly these was made."""
        return stored_batch(self.machine.store, self._told()) is not None

    def estimate(self, progress: Progress) -> Cost:
        """As `Task.estimate`: by the last dossiers of this SAE here, else the first two of these
        are made, and kept; the second shares with the first all that it can."""
        store, n = self.machine.store, len(self.requests)
        known, made, memory = store.get(self._rate, JSON), 0, 0.0
        if not (isinstance(known, list) and len(known) == 3):
            stamps: list[tuple[float, int]] = []
            began, empty = time.monotonic(), store_bytes(store)

            def done(_: "Dossier") -> None:
                stamps.append((time.monotonic() - began, store_bytes(store) - empty))

            some = self._ready(progress)[:2]
            with peak_memory() as peak:
                run_dossiers(self._lease_of(progress), store, some, on_latent=done)
                memory = peak()
            made = len(stamps)
            known = [b - a for a, b in zip(stamps[0], stamps[-1], strict=True)]
            known = [*(known if made > 1 else stamps[0]), memory]
            store.keep(self._rate, known, JSON)
        seconds, size, memory = known
        left = n - made
        basis = "Measured on earlier dossiers of this SAE."
        if made:
            basis = f"Measured on the first {made} of {n} latents, which are made and kept."
        return Cost(
            seconds=left * seconds,
            memory=memory,
            disk=max(0, left * size),
            store=max(0, left * size),
            basis=basis,
        )

    def run(self, progress: Progress) -> list[str]:
        """As `Task.run`; each section of each dossier is kept as soon as it is done."""
        store, lease_of = self.machine.store, self._lease_of(progress)
        table = run_batch(lease_of, store, self._ready(progress))
        lines = [
            f"{line.latent}: {line.conclusion} ({line.agree} agree, {line.disagree} disagree): "
            f"{line.name}"
            for line in table.itertuples()
        ]
        entry, more = self.entries[0], LINK.to_parameters(self.view)
        where = address("dossier", self.model, entry, more, self.requests[0].latent)
        return [*lines, f"The table: {where}"]

    @property
    def _rate(self) -> Key:
        first = self.requests[0]
        parameters = {"sae": list(first.sae), "tokens": first.tokens, "text": first.corpus.digest}
        return Key("dossier-seconds", 1, parameters)

    def _ready(self, progress: Progress) -> list[DossierRequest]:
        """The requests with what others say, for which the SAE's weights must be known."""
        first = self.requests[0]
        lease = self._lease_of(progress)(self.model, [first.sae_name])
        note_fingerprint(self.machine.store, first, lease.sae_fingerprints[0])
        return self._told()

    def _told(self) -> list[DossierRequest]:
        return with_others(self.machine.store, self.requests, d_sae=self.entries[0].width)

    def _lease_of(self, progress: Progress) -> Any:
        def lease_of(model: str, saes: Sequence[tuple[str, str]]) -> Lease:
            return self.machine.engine.lease(model, saes, progress=progress)

        return lease_of
