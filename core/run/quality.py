"""How good SAEs are, as the page of the SAE as a whole shows it."""

from dataclasses import dataclass, replace

from core.catalog.entries import SaeEntry
from core.jobs.progress import Progress
from core.lease import Lease
from core.run.cost import Cost, drawn_out, measured, shards_of, together
from core.run.handing_out_saes import HandedOutSaes
from core.run.on_ray import RayHands
from core.run.shared_cost import shared, took_part
from core.sae_quality.measure import QualityConfig
from core.sae_quality.run import QualityRequest, mark_measured, run_quality, was_measured
from core.shell import Machine, address
from core.store import Store


@dataclass
class QualityTask:
    """Some SAEs on a text."""

    machine: Machine
    """Catalog, store and engine."""
    request: QualityRequest
    """What is measured, as the page asks for it."""
    entries: tuple[SaeEntry, ...]
    """Its SAEs."""
    text: str
    """The text, as links write it."""
    hands: RayHands | None = None
    """Workers that measure, an SAE each; this process if None."""

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.request.model

    @property
    def title(self) -> str:
        """What is done."""
        n = len(self.entries)
        saes = f"{n} SAEs" if n > 1 else " / ".join(self.entries[0].key)
        return f"Quality of {saes} on {self.request.tokens:,} tokens of {self.request.corpus.name}"

    def is_made(self) -> bool:
        """Whether each SAE was measured."""
        return not self._missing()

    def estimate(self, progress: Progress) -> Cost:
        """As `Task.estimate`: of SAEs of one width, one is measured."""
        costs: dict[int | None, Cost] = {}
        found = []
        for number in self._missing():
            width = self.entries[number].width
            if width is None or width not in costs:
                request = self._one(number)

                def work(
                    store: Store,
                    tokens: int,
                    progress: Progress,
                    request: QualityRequest = request,
                ) -> None:
                    run_quality(
                        self._lease(request, progress), store, replace(request, tokens=tokens)
                    )

                # Losses are measured on so many tokens at most.
                shards = shards_of(request.tokens, shorter=QualityConfig().loss_tokens)
                found_in = measured(work, shards, progress)
                costs[width] = drawn_out(found_in, request.tokens)
            found.append(costs[width])
        cost = together(found)
        if self.hands is None:
            return cost
        self.hands.begin()
        memory = cost.memory
        return shared(cost, self.hands, worker=memory, own=memory, orders=len(found))

    def run(self, progress: Progress) -> list[str]:
        """As `Task.run`; what was measured of an SAE is kept before the next one is begun."""
        store, request = self.machine.store, self.request
        others = None if self.hands is None else HandedOutSaes(self.hands, store.directory)
        found = run_quality(self._lease(request, progress), store, request, measurers=others)
        lines = [] if self.hands is None else took_part(self.hands)
        mark_measured(store, request)
        for number, (entry, one) in enumerate(zip(self.entries, found, strict=True)):
            mark_measured(store, self._one(number))
            text = one.quality.text
            figures = f"L0 {text.l0.value:.1f}, variance explained "
            figures += f"{text.explained_variance.value:.1%}"
            if one.quality.loss is not None:
                figures += f", loss recovered {one.quality.loss.recovered_zero.value:.1%}"
            more = {"corpus": self.text, "tokens": str(request.tokens)}
            where = address("sae", request.model, entry, more)
            lines.append(f"{' / '.join(entry.key)}: {figures}: {where}")
        return lines

    def _one(self, number: int) -> QualityRequest:
        return replace(self.request, saes=self.request.saes[number : number + 1])

    def _missing(self) -> list[int]:
        store = self.machine.store
        return [it for it in range(len(self.entries)) if not was_measured(store, self._one(it))]

    def _lease(self, request: QualityRequest, progress: Progress) -> Lease:
        return self.machine.engine.lease(request.model, request.names, progress=progress)
