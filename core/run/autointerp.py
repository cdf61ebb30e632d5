"""A run of autointerp, as its page shows and lists it."""

from dataclasses import dataclass, field, replace

from core.autointerp.prepare import Prepared, prepare
from core.autointerp.record import load_record
from core.autointerp.request import RunRequest
from core.autointerp.run import estimate, run
from core.autointerp.service import Service
from core.autointerp.view import LINK
from core.catalog.entries import SaeEntry
from core.jobs.progress import Progress
from core.lease import Lease
from core.run.cost import Cost, drawn_out, measured, peak_memory, shards_of
from core.shell import Machine, address
from core.store import Store

_LEAST_TOKENS = 4096
_ANSWER_BYTES = 8192
_ANSWERS = (
    "Answers of the service take as long as it takes, up to 32 at a time; those that were paid for "
    "before are read again at no cost."
)
_NO_PRICE = (
    "Give --prompt-price and --completion-price, in dollars per million tokens, to see what it "
    "costs at most and to stop at --budget."
)


@dataclass
class AutointerpTask:
    """Explanations of some latents, and their scores."""

    machine: Machine
    """Catalog, store and engine."""
    request: RunRequest
    """The run, as the page asks for it."""
    entries: tuple[SaeEntry, ...]
    """The SAE."""
    service: Service | None
    """Who is asked, where a chat model explains or judges."""
    _prepared: Prepared | None = field(default=None, init=False, repr=False)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.request.model

    @property
    def title(self) -> str:
        """What is done."""
        view = self.request.view
        n = view.n_random if view.choose == "random" else max(1, len(view.latents))
        return f"Explanations of {n:,} latents of {' / '.join(self.request.sae)}"

    def is_made(self) -> bool:
        """Whether the run was finished before."""
        record = load_record(self.machine.store, self.request.id)
        return record is not None and record["status"] == "done"

    def estimate(self, progress: Progress) -> Cost:
        """As `Task.estimate`.

        Where a service is asked, the examples are found first and kept: what is asked are they.
        """
        request, tokens = self.request, self.request.view.total_tokens
        with self._lease(progress).turn() as (_, (sae,)):
            request.candidates(int(sae.cfg.d_sae))
        if request.asks:
            with peak_memory() as peak:
                self._prepared = self._prepare(self.machine.store, request, progress)
                return replace(self._money(self._prepared), memory=peak())

        def work(store: Store, some: int, progress: Progress) -> None:
            short = replace(request, view=replace(request.view, total_tokens=some))
            try:
                prepared = self._prepare(store, short, progress)
            except ValueError as error:
                if "fire" not in str(error):
                    raise
                return  # no latent fires on so little text: what reading takes was seen
            run(self._lease(progress), store, prepared, None)

        first, last = shards_of(tokens)
        shards = measured(
            work, (max(first, _LEAST_TOKENS // 2), max(last, _LEAST_TOKENS)), progress
        )
        return drawn_out(shards, tokens)

    def run(self, progress: Progress) -> list[str]:
        """As `Task.run`; answers are kept one by one, the record every few seconds."""
        store = self.machine.store
        prepared = self._prepared or self._prepare(store, self.request, progress)
        service = self.service if self.request.asks else None
        record = run(self._lease(progress), store, prepared, service)
        done = [one for one in record["results"].values() if one.get("status") == "scored"]
        more = {**LINK.to_parameters(self.request.view), "run": record["id"]}
        latent = self.request.latent
        where = address("autointerp", self.model, self.entries[0], more, latent)
        spent = record["spending"]
        paid = ""
        if spent:
            price = spent.get("dollars")
            cost = "" if price is None else f", ${price:.4f}"
            paid = f" {spent['calls']:,} questions asked, {spent['stored']:,} read again{cost}."
        return [
            f"{record['title']}: {len(done):,} of {len(record['results']):,} scored.{paid}",
            f"Run {record['id']}: {where}",
        ]

    def _money(self, prepared: Prepared) -> Cost:
        if self.service is None:
            raise ValueError("No chat service is set up.")
        found = estimate(prepared, self.service)
        notes = (_ANSWERS,) if found.dollars is not None else (_ANSWERS, _NO_PRICE)
        return Cost(
            disk=found.calls * _ANSWER_BYTES,
            calls=found.calls,
            prompt_tokens=found.prompt_tokens,
            completion_tokens=found.completion_tokens,
            dollars=found.dollars,
            basis="Counted on the examples themselves, which were found and kept.",
            notes=notes,
        )

    def _prepare(self, store: Store, request: RunRequest, progress: Progress) -> Prepared:
        speaker = request.explaining_model
        own = self._lease(progress)
        return prepare(own, store, request, self._lease(progress, speaker) if speaker else None)

    def _lease(self, progress: Progress, model: str = "") -> Lease:
        saes = [self.request.sae]
        return self.machine.engine.lease(model or self.model, saes, progress=progress)
