"""Indexes of all latents of some SAEs on a text: what the dashboards read."""

from dataclasses import dataclass, replace

from core.activations.pass_memory import index_bytes
from core.activations.text_index import CONFIG, IndexRequest, make_index, was_ever_made
from core.catalog.entries import SaeEntry
from core.device import format_bytes
from core.firings.kept import begun_firings, kept_firings
from core.firings.make import make_firings
from core.jobs.progress import Progress
from core.latent.last_text import note_last_text
from core.lease import Lease
from core.run.cost import Cost, drawn_out, measured, shards_of
from core.run.handing_out import HandedOut
from core.run.on_ray import RayHands
from core.run.shared_cost import shared, took_part
from core.shell import Machine, address
from core.store import Store
from core.view.markup import n_of


@dataclass
class IndexTask:
    """One pass over a text for some SAEs."""

    machine: Machine
    """Catalog, store and engine."""
    request: IndexRequest
    """What is made, as the page of latents asks for it."""
    entries: tuple[SaeEntry, ...]
    """Its SAEs."""
    text: str
    """The text, as links write it."""
    firings: bool = False
    """Whether every firing is kept, too."""
    hands: RayHands | None = None
    """Workers that read; this process if None."""

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.request.model

    @property
    def title(self) -> str:
        """What is done."""
        n = len(self.entries)
        saes = f"{n} SAEs" if n > 1 else " / ".join(self.entries[0].key)
        what = "Index and every firing" if self.firings else "Index"
        text = self.request.corpus.name
        return f"{what} of {saes} on {self.request.tokens:,} tokens of {text}"

    def is_made(self) -> bool:
        """Whether each SAE has its index."""
        return not self._missing().saes

    def estimate(self, progress: Progress) -> Cost:
        """As `Task.estimate`; SAEs that have their index cost nothing."""
        request = self._missing()
        lease = self._lease(request, progress)
        with lease.turn() as (_, saes):
            widths = [int(sae.cfg.d_sae) for sae in saes]

        def work(store: Store, tokens: int, progress: Progress) -> None:
            lease, short = self._lease(request, progress), replace(request, tokens=tokens)
            if self.firings:
                make_firings(lease, store, short)
            make_index(lease, store, short)

        if self.hands is not None:
            self.hands.begin()
        # The processes of workers are added by what each needs.
        alone = self.hands is None
        shards = measured(work, shards_of(request.tokens), progress, all_processes=alone)
        left = self._share_left(request)
        cost = drawn_out(shards, max(shards[-1].tokens, round(left * request.tokens)))
        if left < 1:
            note = f"{1 - left:.0%} of the firings are there already; the rest is counted here."
            cost = replace(cost, notes=(*cost.notes, note))
        # From firings that are kept one SAE after the other is indexed, else several at a time.
        kept = index_bytes([max(widths)] if self.firings else widths, CONFIG)
        cost = replace(cost, memory=cost.memory + kept)
        if self.hands is None:
            return cost
        # What a worker keeps is turned into a file; this process has the sum, a part, and copies.
        worker, own = cost.memory + 2 * kept, cost.memory + 3 * kept
        return shared(cost, self.hands, worker=worker, own=own)

    def run(self, progress: Progress) -> list[str]:
        """As `Task.run`."""
        store, request = self.machine.store, self.request
        lease, lines = self._lease(request, progress), []
        readers = None if self.hands is None else HandedOut(self.hands, store.directory)
        if self.firings:
            kept = make_firings(lease, store, request, readers=readers)
            size = format_bytes(sum(one.n_bytes for one in kept))
            n = sum(int(one.totals.count.sum()) for one in kept)
            lines.append(f"{n:,} firings of {n_of(len(kept), 'SAE')} are kept in {size}.")
        found = make_index(lease, store, request, readers=readers)
        for entry, index in zip(self.entries, found, strict=True):
            named = (request.model, *entry.key, entry.version)
            bos = request.include_bos
            note_last_text(store, named, corpus=self.text, tokens=request.tokens, include_bos=bos)
            more = {"corpus": self.text, "tokens": str(request.tokens)}
            more |= {"bos": "1"} if bos else {}
            fire = int((index.summary["count"] > 0).sum())
            lines.append(
                f"{' / '.join(entry.key)}: {fire:,} of {index.d_sae:,} latents fire on "
                f"{index.n_tokens:,} tokens: {address('latent', request.model, entry, more)}"
            )
        if self.hands is not None:
            lines += took_part(self.hands)
        return lines

    def _missing(self) -> IndexRequest:
        store, request = self.machine.store, self.request
        ones = [request.only(number) for number in range(len(request.saes))]
        kept = {
            one.about.sae
            for one in (kept_firings(store.directory, model=request.model) if self.firings else ())
            if one.is_of(request)
        }
        missing = tuple(
            one.saes[0]
            for one in ones
            if not was_ever_made(store, one) or (self.firings and one.saes[0] not in kept)
        )
        return replace(request, saes=missing)

    def _share_left(self, request: IndexRequest) -> float:
        """Share of the text of which an SAE's firings are missing: a run may have been killed."""
        if not self.firings:
            return 1.0
        of = {
            one.about.sae: len(one.missing()) / max(1, len(one.spans))
            for one in begun_firings(self.machine.store.directory, model=request.model)
            if one.is_of(request)
        }
        return max((of.get(sae, 1.0) for sae in request.saes), default=1.0)

    def _lease(self, request: IndexRequest, progress: Progress) -> Lease:
        names = [(release, sae) for release, sae, _ in request.saes]
        return self.machine.engine.lease(request.model, names, progress=progress)
