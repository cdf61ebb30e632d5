"""Who may touch this model now, and what is evicted?

    with engine.use("gpt2-small", saes=[("gpt2-small-res-jb", "blocks.8.hook_resid_pre")]) as (
        model,
        (sae,),
    ):
        ...  # this thread alone runs this model

A model shared between threads returns other users' activations, so nothing else may hold on to a
model or an SAE: they are only valid inside the `with`. Keep leases short (a batch, not a job), so
that others get their turn in between.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from core import device as devices
from core.catalog import Catalog
from core.catalog.entries import ModelEntry, SaeEntry
from core.engine.lease import EngineLease
from core.engine.listing import LoadedKey, LoadedObject
from core.engine.loaders import Loaders, processing_words
from core.engine.locks import ModelLocks, Variant
from core.engine.relief import Relief
from core.engine.residents import Resident, Residents
from core.hub import Progress
from core.hub.plan import LOAD_COPIES
from core.jobs.progress import Progress as JobProgress
from core.lease import SaeName
from core.room import EngineMemoryError, Room, place_of

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.models.hooks import Model
    from core.store import Store

__all__ = ["Engine", "EngineMemoryError", "LoadedObject"]

BUDGET_SHARE = 0.8
"""Share of the memory free at the start that the engine may fill by default."""


class Engine:
    """Owns every loaded model and SAE: one lock a model, one budget of memory for all.

    An SAE is loaded once per model that it is used with, because it is guarded by that model's
    lock. Grad mode belongs to the thread, not to the engine: analysis functions set their own,
    and a lease puts back what it found.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        device: str = "auto",
        dtype: str = "float32",
        memory_budget_bytes: int | None = None,
        loaders: Loaders | None = None,
        store: "Store | None" = None,
    ) -> None:
        """Nothing is imported or loaded before the first `use`.

        Args:
            catalog: says what names mean.
            device: as `core.device.choose_device` takes it.
            dtype: of the models; SAEs stay in float32.
            memory_budget_bytes: most that may be loaded; by default 80 % of what is free on the
                device at the first load.
            loaders: functions that load; those of `core` by default.
            store: where scales that had to be measured are kept; None measures them again.
        """
        self.catalog, self.store = catalog, store
        self._requested_device, self.dtype = device, dtype
        self._budget = memory_budget_bytes
        self._loaders = loaders or Loaders()
        self._residents = Residents(self._budget_bytes, size_of=self._loaders.size_of)
        self._relief = Relief(self._residents, lambda: self.device)
        self.room = Room(idle=self._idle_on, relieve=self._give_back_on)
        """Memory that work sets aside; what is idle is unloaded for it."""
        self.locks = ModelLocks()
        self._building = threading.RLock()
        self._fitting: set[tuple[int, int]] = set()
        self._device: str | None = None

    @property
    def device(self) -> str:
        """Device that everything is loaded to; imports torch when first asked."""
        if self._device is None:
            self._device = devices.choose_device(self._requested_device)
        return self._device

    @contextmanager
    def use(
        self,
        model_name: str,
        saes: Iterable[SaeName] = (),
        *,
        processing: Mapping[str, bool] | None = None,
        progress: Progress | None = None,
    ) -> Iterator[tuple["Model", list["SAE"]]]:
        """A model and SAEs that fit it, for this thread alone until the block ends.

        What is missing is loaded first, without holding the model's lock. Afterwards grad mode
        and the model are as before: hooks (permanent ones too), attached SAEs, gradients and
        modes that the block left behind are removed.

        Args:
            model_name: as `Catalog.model` takes it.
            saes: `(release, sae_id)` of each SAE.
            processing: weight processing to use instead of what the SAEs ask for; each
                combination is a model of its own.
            progress: called with bytes done, bytes in total and a message, while loading and
                while waiting for others; what it raises ends the wait and is raised here.

        Raises:
            ValueError: unknown names, an SAE that does not fit, no room, a second model within a
                lease of another.
            EngineMemoryError: memory ran out inside the block.
            OSError: downloads that failed (`core.hub.explain_hub_error`).
        """
        model_entry = self.catalog.model(model_name)
        entries = [self.catalog.entry(release, sae_id) for release, sae_id in saes]
        problems = [model_entry.problem, *(entry.problem for entry in entries)]
        for problem in filter(None, problems):
            raise ValueError(problem)
        self.locks.check_nesting(model_entry.name)
        with ExitStack() as pins:
            sae_residents = [
                self._pin(pins, self._sae(model_entry, entry, progress)) for entry in entries
            ]
            loaded = [resident.value for resident in sae_residents]
            flags = self._processing(entries, loaded) if processing is None else processing
            variant = tuple(sorted(flags.items()))
            model_resident = self._pin(pins, self._model(model_entry, variant, progress))
            hold = self.locks.hold(model_entry.name, variant=variant, progress=progress)
            pins.enter_context(hold)
            for entry, resident in zip(entries, sae_residents, strict=True):
                self._check_pair(model_entry, model_resident, entry, resident)
                self._loaders.complete(
                    resident.value, model_resident.value, store=self.store, progress=progress
                )
            with self._lease(model_resident.value, loaded):
                yield model_resident.value, loaded

    def lease(
        self, model_name: str, saes: Iterable[SaeName] = (), *, progress: JobProgress | None = None
    ) -> EngineLease:
        """The same for a longer piece of work, in turns; nothing is loaded before the first."""
        return EngineLease(self, model_name, list(saes), progress=progress)

    def loaded(self) -> tuple[LoadedObject, ...]:
        """What is loaded, most recently used first; never waits for a lease."""
        listing = self._residents.listing()
        return tuple(LoadedObject.of(resident, device=self.device) for resident in listing)

    def unload(self, model_name: str | None = None) -> int:
        """Unload a model, all its variants and its SAEs, or everything idle; returns bytes freed.

        Raises:
            ValueError: the model named is in use.
        """
        if model_name is None:
            return self._residents.evict()
        name = self.catalog.model(model_name).name
        if any(loaded.model == name and loaded.in_use for loaded in self.loaded()):
            raise ValueError(f"{name} is in use; try again when its task has finished.")
        return self._residents.evict(lambda key: isinstance(key, LoadedKey) and key.model == name)

    def idle_bytes(self) -> int:
        """Bytes that unloading what nobody uses would give back."""
        return sum(it.n_bytes for it in self._residents.listing() if not it.users)

    def _idle_on(self, device: str) -> int:
        return self.idle_bytes() if place_of(device) == place_of(self.device) else 0

    def _give_back_on(self, device: str, n_bytes: int) -> int:
        return self._residents.give_back(n_bytes) if self._idle_on(device) else 0

    def relieve(self) -> int:
        """Give back what can be, after memory ran out somewhere; returns bytes of what went."""
        return self._relief.relieve()

    def _budget_bytes(self) -> int:
        if self._budget is None:
            self._budget = int(BUDGET_SHARE * devices.memory_free(self.device))
        return self._budget

    def _pin(self, pins: ExitStack, resident: Resident) -> Resident:
        pins.callback(self._residents.release, resident)
        return resident

    def _sae(self, model: ModelEntry, entry: SaeEntry, progress: Progress | None) -> Resident:
        def load(report: Progress) -> Any:
            what = f"SAE {entry.sae_id}"
            n_bytes = self._prepare(entry, what, report)
            with self._building, self._admitted(n_bytes, what):
                return self._relief.build(lambda: self._loaders.load_sae(entry, device=self.device))

        key = LoadedKey(model=model.name, sae=entry.key, version=entry.version)
        return self._residents.acquire(key, load, progress=progress)

    def _model(self, entry: ModelEntry, variant: Variant, progress: Progress | None) -> Resident:
        held = self.locks.held
        if held is not None and held[1] != variant:
            # Loading it could wait for a thread that waits for this one's lease.
            raise ValueError(
                f"This thread already holds {entry.name} with other weight processing; leave its "
                "`with engine.use(...)` first."
            )

        def build() -> Any:
            return self._loaders.load_model(
                entry.location, device=self.device, dtype=self.dtype, **dict(variant)
            )

        def load(report: Progress) -> Any:
            n_bytes = self._prepare(entry, entry.name, report)
            with ExitStack() as held:
                if self.dtype != "float32":
                    # transformers sets torch's default dtype, which all threads share, while it
                    # builds a model; in float32 that changes nothing.
                    held.enter_context(self.locks.hold_all())
                held.enter_context(self._building)
                held.enter_context(self._admitted(n_bytes, entry.name))
                return self._relief.build(build)

        key = LoadedKey(model=entry.name, variant=variant)
        return self._residents.acquire(key, load, progress=progress)

    def _prepare(self, entry: SaeEntry | ModelEntry, what: str, report: Progress) -> int:
        how = {"device": self.device, "dtype": self.dtype, "idle_bytes": self.idle_bytes()}
        n_bytes = self._loaders.fetch(entry, progress=report, **how) or 0
        self._residents.make_room(n_bytes, what)
        report(0, None, f"loading {what} into memory")
        return n_bytes

    def _admitted(self, n_bytes: int, what: str) -> AbstractContextManager[None]:
        """What loading takes, set aside: others may have taken what the plan found free."""
        remedy = "choose a smaller one, or a device with more memory"
        return self.room.set_aside(LOAD_COPIES * n_bytes, what, remedy=remedy, device=self.device)

    def _processing(self, entries: list[SaeEntry], saes: list[Any]) -> Mapping[str, bool]:
        """What all SAEs ask for; without SAEs, that of the lease around this one, if any."""
        wishes = [dict(self._loaders.processing_of(sae)) for sae in saes]
        for entry, wish in zip(entries, wishes, strict=True):
            if wish != wishes[0]:
                raise ValueError(
                    f"{entries[0].sae_id} of {entries[0].release} and {entry.sae_id} of "
                    f"{entry.release} were trained on differently processed weights "
                    f"({processing_words(wishes[0])} and {processing_words(wish)}), so no one "
                    "model suits both; choose SAEs that agree, or give processing= in a notebook."
                )
        held = self.locks.held
        return wishes[0] if wishes else dict(held[1]) if held else {}

    def _check_pair(
        self, model: ModelEntry, on: Resident, entry: SaeEntry, resident: Resident
    ) -> None:
        pair = (on.serial, resident.serial)
        if pair in self._fitting:
            return
        # Local names are the catalog's business; it has found out which model they mean.
        is_own = entry.model in (model.name, model.base_model)
        name = None if is_own else model.name
        self._loaders.check_fits(resident.value, on.value, model_name=name)
        self._fitting.add(pair)

    @contextmanager
    def _lease(self, model: Any, saes: list[Any]) -> Iterator[None]:
        import torch

        from core.engine.guard import ModelGuard

        guard = ModelGuard(
            module for module in (model, *saes) if isinstance(module, torch.nn.Module)
        )
        grad_enabled = torch.is_grad_enabled()
        try:
            with self._relief.task():
                yield
        finally:
            torch.set_grad_enabled(grad_enabled)
            guard.restore()
