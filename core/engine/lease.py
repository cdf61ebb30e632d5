"""What the engine owns, lent a turn at a time: `Engine.lease`, which every job of the app calls."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from core.hub import HubErrorsInWords
from core.jobs.progress import Progress
from core.known_weights import remember_weights
from core.lease import Lease, SaeName
from core.room import Room
from core.store.fingerprint import fingerprint_of_model, fingerprint_of_sae

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.engine import Engine
    from core.models.hooks import Model

_SHORT_TURN = 0.25
"""Seconds of a turn of a job while pages want the model, too."""
_LOOKING = 10.0
"""Seconds for which a reader who has looked at something is likely to look at more."""


class EngineLease(Lease):
    """What the engine owns, under its lock; made by `Engine.lease`."""

    def __init__(
        self,
        engine: "Engine",
        model: str,
        saes: Sequence[SaeName] = (),
        *,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(progress)
        self._engine, self._model, self._saes = engine, model, list(saes)
        self._is_loaded = False

    @contextmanager
    def turn(self) -> "Iterator[tuple[Model, list[SAE]]]":
        """Waits for the model's lock, after loading what is missing."""
        with (
            HubErrorsInWords(),
            self._engine.use(self._model, self._saes, progress=self._report) as (model, saes),
        ):
            self._is_loaded = True
            yield model, saes

    def with_saes(self, numbers: Sequence[int]) -> "EngineLease":
        """As `Lease.with_saes`."""
        chosen = [self._saes[number] for number in numbers]
        return EngineLease(self._engine, self._model, chosen, progress=self.progress)

    def _room(self) -> Room:
        return self._engine.room

    def turn_seconds(self) -> float:
        """As `Lease.turn_seconds`; short while somebody looks at a page of this model."""
        name, alone = self._engine.catalog.model(self._model).name, super().turn_seconds()
        looking = self._engine.locks.wanted_lately(name, _LOOKING)
        return min(_SHORT_TURN, alone) if looking else alone

    @cached_property
    def model_fingerprint(self) -> str:
        """Computed once for as long as the model stays loaded: the engine changes no weights."""
        with self.turn() as (model, _):
            return _once(model, fingerprint_of_model)

    @cached_property
    def sae_fingerprints(self) -> tuple[str, ...]:
        """Computed once for as long as the SAEs stay loaded."""
        with self.turn() as (_, saes):
            found = tuple(_once(sae, fingerprint_of_sae) for sae in saes)
        self._note(found, saes)
        return found

    def _note(self, fingerprints: Sequence[str], saes: "Sequence[SAE]") -> None:
        """Under which names these weights go, so that what is said of them is found unloaded."""
        store, catalog = self._engine.store, self._engine.catalog
        if store is None:
            return
        for name, fingerprint, sae in zip(self._saes, fingerprints, saes, strict=True):
            version = catalog.entry(*name).version
            remember_weights(store, (self._model, *name, version), fingerprint, sae.cfg.d_sae)

    def _report(self, done: int, total: int | None, message: str) -> None:
        if self._is_loaded:
            # A short wait between two turns is no new phase: what the work counts stays told.
            self.progress.check()
            return
        self.progress.update(done, total, unit="bytes", message=message)


_known: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()


def _once(loaded: Any, compute: Callable[[Any], str]) -> str:
    if loaded not in _known:
        _known[loaded] = compute(loaded)
    return _known[loaded]
