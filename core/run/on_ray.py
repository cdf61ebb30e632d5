"""Workers of a Ray cluster: who does what, and what is done about those that are lost.

A worker is an actor that keeps a model and its SAEs loaded. Orders and small numbers travel through
Ray, everything else through the folder that all share. Ray does not start actors again: whoever is
lost is replaced here, and what it was doing is given to another.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.run.cluster import ClusterOptions
from core.run.orders import Order, Report, Seen
from core.run.ray_cluster import RayCluster
from core.settings import Settings

_POLL_SECONDS, _ASK_SECONDS, _LOOK_SECONDS = 0.2, 1.0, 5.0
_MOST_TRIES = 3
"""Workers that may be lost over one order, or before any was of use."""
_MOST_SAID = 300
"""Characters of what Ray says that are shown."""

_HELLO = Order("told", ())

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Hand:
    """One worker."""

    actor: Any
    """Ray's handle."""
    ready: bool = False
    """Whether it was found to do the same sums as the others."""
    order: int | None = None
    """What it is doing."""
    doing: Any = None
    """What Ray will answer when it is done, or when it has begun."""
    of_before: bool = False
    """Whether that was asked with other orders: the answer tells nothing about these."""
    asked: Any = None
    """What it will say of how far it is."""
    asked_at: float = 0.0
    """When it was last asked."""
    done: float = 0.0
    """Tokens of its order that are read."""


@dataclass(frozen=True)
class _Refusal:
    """What stands for the answer of a worker that could not begin."""

    why: str
    """A sentence."""


@dataclass(eq=False)
class RayHands:
    """`core.run.handing_out.Hands`, which are there from the first use to `close`."""

    options: ClusterOptions
    """What was typed."""
    settings: Settings
    """Folders, which every worker must have under the same paths, and the device."""
    kind: type | None = None
    """What each worker is; `core.run.worker.Worker` if None."""
    memory: dict[str, int] = field(default_factory=dict, init=False)
    """Most bytes of memory of each worker that carried out an order."""
    notes: list[str] = field(default_factory=list, init=False)
    """Why some workers were not used."""
    _cluster: RayCluster = field(init=False)
    _hands: list[_Hand] = field(default_factory=list, init=False)
    _places: int = field(default=1, init=False)
    _looked_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._cluster = RayCluster(self.options, self.settings)

    @property
    def threads(self) -> int:
        """As `Hands.threads`."""
        return self._cluster.threads

    @property
    def workers(self) -> int:
        """As `Hands.workers`."""
        self.begin()
        return max(1, self.options.workers or self._places)

    @property
    def is_local(self) -> bool:
        """Whether a cluster is started on this machine."""
        return self._cluster.is_local

    def begin(self) -> None:
        """Start or join the cluster, if that was not done. Raises ValueError where it fails."""
        if self._cluster.begin():
            self._look()

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        self._cluster.close()
        self._hands.clear()

    def carry_out(
        self,
        orders: Sequence[Order],
        first: Order | None,
        fits: Callable[[Seen], str | None],
        tell: Callable[[float], None],
    ) -> Iterator[tuple[int, Any]]:
        """As `Hands.carry_out`. Raises ValueError where no worker can be used."""
        self.begin()
        queue, read = deque(range(len(orders))), 0.0
        left, lost = len(orders), Counter[int | None]()
        for hand in self._hands:
            hand.ready = hand.ready and first is None
            hand.of_before = hand.doing is not None
        try:
            while left:
                self._recruit()
                self._give(orders, first, queue)
                tell(read + sum(hand.done for hand in self._hands))
                for hand, answer, error in self._answers():
                    order, before = hand.order, hand.of_before
                    hand.order, hand.doing, hand.done, hand.of_before = None, None, 0.0, False
                    if error is not None:
                        self._dismiss(hand)
                        if order is not None:
                            queue.appendleft(order)
                        self._count_loss(lost, order, error)
                    elif order is not None:
                        left, read = left - 1, read + orders[order].tokens
                        self._note(answer)
                        self._give(orders, first, queue)
                        yield order, answer.answer
                    elif not before:
                        self._welcome(hand, answer, fits)
                        lost.pop(None, None)
        finally:
            for hand in [hand for hand in self._hands if hand.order is not None]:
                self._dismiss(hand)

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        self._places = self._cluster.places()

    def _recruit(self) -> None:
        """As many workers as are wanted."""
        if time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._look()
        wanted = (self.options.workers or self._places) - len(self.notes)
        while len(self._hands) < max(1, wanted):
            self._hands.append(_Hand(self._cluster.hire(self.kind or _worker())))

    def _give(self, orders: Sequence[Order], first: Order | None, queue: "deque[int]") -> None:
        for hand in self._hands:
            if hand.doing is not None:
                continue
            if not hand.ready:  # one for which there is no room yet must hold no order
                hand.doing = hand.actor.carry_out.remote(first or _HELLO)
            elif queue:
                hand.order = queue.popleft()
                hand.doing = hand.actor.report.remote(orders[hand.order])
                hand.asked = None  # what it says of an earlier one is not waited for

    def _answers(self) -> Iterator[tuple[_Hand, Any, Exception | None]]:
        """Who is done, with what, or was lost. Raises what a worker raised over an order."""
        from ray.exceptions import RayError, RayTaskError

        by_ref = {hand.doing: hand for hand in self._hands if hand.doing is not None}
        if not by_ref:
            time.sleep(_POLL_SECONDS)
            return
        ray = self._cluster.ray
        done, _ = ray.wait(list(by_ref), num_returns=1, timeout=_POLL_SECONDS)
        for ref in done:
            hand = by_ref[ref]
            try:
                yield hand, ray.get(ref), None
            except RayTaskError as error:
                cause = error.cause
                plain = isinstance(cause, ValueError | OSError)
                if hand.order is None:  # it is left out; the others go on
                    yield hand, _Refusal(str(cause) if plain else _failed(cause)), None
                elif isinstance(cause, ValueError):
                    raise ValueError(str(cause)) from error
                else:
                    raise RuntimeError(_failed(cause)) from error
            except RayError as error:
                yield hand, None, error
        self._ask()

    def _ask(self) -> None:
        """How far each is; an answer that is late, or lost, is looked for the next time."""
        from ray.exceptions import RayError

        now, ray = time.monotonic(), self._cluster.ray
        for hand in self._hands:
            if hand.asked is not None and ray.wait([hand.asked], timeout=0)[0]:
                try:
                    done, where, memory = ray.get(hand.asked)
                except RayError:
                    continue
                finally:
                    hand.asked = None
                if hand.order is not None:
                    hand.done = done
                    self._note(Report(None, where, memory))
            due = now - hand.asked_at > _ASK_SECONDS
            if due and hand.order is not None and hand.asked is None:
                hand.asked, hand.asked_at = hand.actor.told.remote(), now

    def _note(self, report: Report) -> None:
        self.memory[report.where] = max(report.memory, self.memory.get(report.where, 0))

    def _welcome(self, hand: _Hand, answer: Any, fits: Callable[[Seen], str | None]) -> None:
        problem = answer.why if isinstance(answer, _Refusal) else fits(answer)
        if problem is None:
            hand.ready = True
            return
        self._dismiss(hand)
        self._leave_out(problem)

    def _count_loss(self, lost: "Counter[int | None]", order: int | None, error: Exception) -> None:
        lost[order] += 1
        if lost[order] < _MOST_TRIES:
            return
        problem = _too_many_lost(order, error)
        if order is not None:
            raise ValueError(problem)
        lost.pop(None)
        self._leave_out(problem)

    def _leave_out(self, problem: str) -> None:
        """Go on without one worker. Raises ValueError where no other is or may be of use."""
        if not any(other.ready or other.doing is not None for other in self._hands):
            raise ValueError(problem)
        log.warning(problem)
        self.notes.append(problem)

    def _dismiss(self, hand: _Hand) -> None:
        self._cluster.ray.kill(hand.actor)
        self._hands.remove(hand)


def _worker() -> type:
    from core.run.worker import Worker  # brings torch

    return Worker


def _failed(cause: BaseException) -> str:
    return f"A worker failed: {repr(cause)[:_MOST_SAID]}"


def _too_many_lost(order: int | None, error: Exception) -> str:
    when = "as they began" if order is None else "over the same rows"
    said = " ".join(str(error).split())[:_MOST_SAID]
    return (
        f"{_MOST_TRIES} workers were lost {when}; give each more memory, or choose fewer or "
        f"narrower SAEs. Ray says: {said}"
    )
