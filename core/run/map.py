"""A map of decoder directions, as the page of feature splitting draws it."""

from dataclasses import dataclass, replace

from core.catalog.entries import SaeEntry
from core.jobs.progress import Progress
from core.lease import Lease
from core.logit_lens import all_directions, top_token_ids
from core.run.cost import Cost, drawn_out, measured
from core.shell import Machine, address
from core.splitting import map_offer
from core.splitting.large_config import LARGE
from core.splitting.large_time import large_bytes
from core.splitting.map import compute_map
from core.splitting.map_data import MapRequest, build_map
from core.splitting.rows import DecoderRows, LabelledSae, decoder_rows
from core.splitting.sample_words import N_TOKENS
from core.splitting.view import LINK, MapView
from core.store import Store

_SHARD_ROWS = 2048
_STRIPE_ROWS = 256


@dataclass
class MapTask:
    """One map."""

    machine: Machine
    """Catalog, store and engine."""
    request: MapRequest
    """The map, as the page asks for it."""
    entries: tuple[SaeEntry, ...]
    """Its SAEs."""
    view: MapView
    """The page's settings."""
    chosen: SaeEntry
    """The SAE that is chosen on the page."""

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.request.model

    @property
    def title(self) -> str:
        """What is done."""
        n = map_offer.n_latents(self.request)
        with_clusters = " with clusters" if self.request.config.clusters else ""
        return f"Map of {n:,} latents of {len(self.entries)} SAEs{with_clusters}"

    def is_made(self) -> bool:
        """Whether it was made before."""
        return map_offer.was_made(self.machine.store, self.request)

    def estimate(self, progress: Progress) -> Cost:
        """As `Task.estimate`: all steps on some rows, and the products of all pairs for a few."""
        config, fit = self.request.config, self.machine.worker.run
        with self._lease(progress).turn() as (model, saes):
            members = zip(self.request.members, saes, strict=True)
            rows = decoder_rows([LabelledSae(member.label, sae) for member, sae in members])
            directions = all_directions(model, saes[0])
            W_U = model.W_U.detach().clone()
        n, k = len(rows), config.k

        def work(store: Store, some: int, progress: Progress) -> None:
            top_token_ids(directions[:some], W_U, N_TOKENS, store=store, progress=progress)
            part = _first(rows, some)
            compute_map(part, config, store=store, fit=fit, progress=progress)

        most = min(n, max(_SHARD_ROWS, 4 * k))
        shards = measured(work, (max(k + 1, most // 2), most), progress)
        cost = drawn_out(shards, n)
        if n > LARGE.above:
            return self._large(cost, rows, progress)
        # Pairs grow with the square: those of a few rows with all others tell.
        stripe = rows.directions[: min(n, _STRIPE_ROWS)]
        (pairs,) = measured(
            lambda *_: (stripe @ rows.directions.T).topk(min(k, n)), (len(stripe),), progress
        )
        quadratic = pairs.seconds * n / pairs.tokens if n > most else 0.0
        basis = f"Measured on {most:,} of {n:,} latents; the text of --hide-dead comes on top."
        return replace(cost, seconds=cost.seconds + quadratic, basis=basis)

    def run(self, progress: Progress) -> list[str]:
        """As `Task.run`; neighbours, layouts and clusters are kept, each as soon as it is found."""
        store, fit = self.machine.store, self.machine.worker.run
        found = build_map(self._lease(progress), store, fit, self.request)
        map_offer.note_made(store, self.request)
        more = LINK.to_parameters(self.view)
        where = address("feature-splitting", self.model, self.chosen, more)
        clusters = ""
        if "cluster" in found.map.points:
            n = found.map.points["cluster"].max() + 1
            clusters = f" in {n:,} clusters"
        said = [found.map.shortcuts] if found.map.shortcuts else []
        return [f"{len(found.map.points):,} latents placed{clusters}: {where}", *said]

    def _large(self, cost: Cost, rows: DecoderRows, progress: Progress) -> Cost:
        """As `estimate`, of a map with a sample first; `cost` is that of some rows."""
        fit, store = self.machine.worker.run, self.machine.store
        seconds = map_offer.seconds_needed(self._lease(progress), store, fit, self.request)
        basis = (
            f"Measured on a part of {len(rows):,} latents; the text of --hide-dead comes on top."
        )
        # What grows with the map: copies of all directions, and the graph of neighbours.
        memory = cost.memory + large_bytes(len(rows), rows.directions.shape[1])
        return replace(cost, seconds=seconds, memory=memory, basis=basis)

    def _lease(self, progress: Progress) -> Lease:
        names = [entry.key for entry in self.entries]
        return self.machine.engine.lease(self.model, names, progress=progress)


def _first(rows: DecoderRows, n: int) -> DecoderRows:
    return replace(
        rows,
        directions=rows.directions[:n],
        sae_index=rows.sae_index[:n],
        latents=rows.latents[:n],
    )
