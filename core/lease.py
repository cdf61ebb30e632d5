"""A model and SAEs, lent to one piece of work for a few seconds at a time.

Every analysis that runs a model takes a `Lease` and asks it for turns:

    with lease.turn() as (model, saes):      # nobody else runs this model until the block ends
        ...
    lease.in_turns(len(rows), read, unit="rows", message="Reading the text")

`Engine.lease` lends what all sessions share, each turn under the model's lock
(core/engine/lease.py); `PlainLease` holds a model and SAEs of a notebook or a test, whose turn it
always is. What is computed in a turn must not refer to the model or an SAE after it: between turns
they may be unloaded.
"""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from core.asking import check_may_compute
from core.jobs.progress import Progress
from core.room import ROOM, Room
from core.store.fingerprint import fingerprint_of_model, fingerprint_of_sae

if TYPE_CHECKING:  # both bring torch, and pages import the requests that lie beside analyses
    from sae_lens import SAE

    from core.models.hooks import Model

TURN_SECONDS = 2.0
"""How long a model is kept at most before others get their turn, as far as steps can be cut."""
_GROWTH = 4.0
"""A step grows by at most this factor: the first, small one may have been lucky."""

SaeName = tuple[str, str]
"""`(release, sae_id)`."""


class Lease(ABC):
    """A model and SAEs for one piece of work, which reports and is cancelled through `progress`."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress if progress is not None else Progress()

    @abstractmethod
    def turn(self) -> "AbstractContextManager[tuple[Model, list[SAE]]]":
        """The model and the SAEs, in the order asked for, until the block ends.

        Raises ValueError, with the remedy, for what cannot be loaded or does not fit, and
        JobCancelled while waiting for a turn that is no longer wanted.
        """

    @abstractmethod
    def with_saes(self, numbers: Sequence[int]) -> "Lease":
        """The same lease for some of its SAEs, by their places in it."""

    def room(
        self, n_bytes: int, what: str, *, remedy: str, device: str = "cpu"
    ) -> AbstractContextManager[None]:
        """Memory that the work itself takes, set aside until the block ends.

        `what` is named where it is refused, and `remedy` says what to do, in words that follow
        "; ". Raises `core.room.NoRoom`, with the bytes that are needed and that are free.
        """
        check_may_compute()
        return self._room().set_aside(n_bytes, what, remedy=remedy, device=device)

    def _room(self) -> Room:
        return ROOM

    @property
    @abstractmethod
    def model_fingerprint(self) -> str:
        """sha256 over the model's weights as they are processed."""

    @property
    @abstractmethod
    def sae_fingerprints(self) -> tuple[str, ...]:
        """sha256 over each SAE's weights and what its config says of computing with them."""

    @cached_property
    def tokenizer(self) -> Any:
        """A copy of the model's tokenizer for this work alone: they are not for several threads."""
        with self.turn() as (model, _):
            return copy.deepcopy(model.tokenizer)

    def turn_seconds(self) -> float:
        """How long a turn should take now, as far as steps can be cut."""
        return TURN_SECONDS

    def in_turns(
        self,
        n: int,
        work: "Callable[[Model, list[SAE], int, int], None]",
        *,
        unit: str,
        message: str,
        step: int = 1,
        before: int = 0,
        total: int | None = None,
    ) -> None:
        """Call `work(model, saes, first, last)` until 0 to `n` are done, a turn a call.

        Steps begin with `step` of the `n` and are fitted so that a turn takes `turn_seconds`.
        Progress counts in `unit` on from `before` to `total` (`before + n` if None).
        """
        check_may_compute()
        whole = before + n if total is None else total
        done = 0
        self.progress.update(before, whole, unit=unit, message=message)
        while done < n:
            last = min(n, done + step)
            with self.turn() as (model, saes):
                began = time.monotonic()
                work(model, saes, done, last)
                seconds = max(1e-3, time.monotonic() - began)
            step = max(1, int((last - done) * min(_GROWTH, self.turn_seconds() / seconds)))
            done = last
            self.progress.update(before + done, whole, unit=unit, message=message)


class PlainLease(Lease):
    """Plain objects, for a notebook or a test: it is always their turn."""

    def __init__(
        self, model: "Model", saes: "Sequence[SAE]" = (), *, progress: Progress | None = None
    ) -> None:
        super().__init__(progress)
        self._model, self._saes = model, list(saes)

    @contextmanager
    def turn(self) -> "Iterator[tuple[Model, list[SAE]]]":
        """At once; the caller's own objects."""
        self.progress.check()
        yield self._model, list(self._saes)

    def with_saes(self, numbers: Sequence[int]) -> "PlainLease":
        """As `Lease.with_saes`."""
        chosen = [self._saes[number] for number in numbers]
        return PlainLease(self._model, chosen, progress=self.progress)

    @cached_property
    def model_fingerprint(self) -> str:
        """Computed once a lease: a notebook may change its weights between two."""
        return fingerprint_of_model(self._model)

    @cached_property
    def sae_fingerprints(self) -> tuple[str, ...]:
        """Computed once a lease."""
        return tuple(fingerprint_of_sae(sae) for sae in self._saes)
