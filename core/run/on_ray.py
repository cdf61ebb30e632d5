"""Workers of a Ray cluster: the only file that knows Ray.

A worker is an actor that keeps a model and its SAEs loaded. Orders and small numbers travel through
Ray, everything else through the folder that all share. Ray does not start actors again: whoever is
lost is replaced here, and what it was doing is given to another.
"""

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.run.cluster import ClusterOptions
from core.run.worker import Order, Seen, Worker
from core.settings import Settings

_POLL_SECONDS, _ASK_SECONDS, _LOOK_SECONDS, _BEGIN_SECONDS = 0.2, 1.0, 5.0, 120.0
_MOST_TRIES = 3
"""Workers that may be lost over one order, or before any was of use."""
_OBJECT_STORE = 100_000_000
"""Bytes of shared memory of a cluster started here: only names and numbers travel."""

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
    """What Ray will answer when it is done."""
    asked: Any = None
    """What it will say of how far it is."""
    asked_at: float = 0.0
    """When it was last asked."""
    done: float = 0.0
    """Tokens of its order that are read."""


@dataclass(eq=False)
class RayHands:
    """`core.run.handing_out.Hands`, which are there from the first use to `close`."""

    options: ClusterOptions
    """What was typed."""
    settings: Settings
    """Folders, which every worker must have under the same paths, and the device."""
    memory: dict[str, int] = field(default_factory=dict, init=False)
    """Most bytes of memory of each worker so far."""
    notes: list[str] = field(default_factory=list, init=False)
    """Why some workers were not used."""
    _ray: Any = field(default=None, init=False)
    _hands: list[_Hand] = field(default_factory=list, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)
    _keeper: threading.Thread | None = field(default=None, init=False)
    _places: int = field(default=1, init=False)
    _looked_at: float = field(default=0.0, init=False)

    @property
    def threads(self) -> int:
        """As `Hands.threads`."""
        import torch

        return self.options.threads or torch.get_num_threads()

    @property
    def workers(self) -> int:
        """As `Hands.workers`."""
        self.begin()
        return max(1, self.options.workers or self._places)

    @property
    def is_local(self) -> bool:
        """Whether a cluster is started on this machine."""
        return not self.options.address

    def begin(self) -> None:
        """Start or join the cluster, if that was not done. Raises ValueError where it fails."""
        if self._ray is not None:
            return
        errors: list[Exception] = []
        begun = threading.Event()

        def keep() -> None:
            # Ray's processes end with the thread that started them: this one stays.
            try:
                self._ray = self._connected()
            except Exception as error:  # noqa: BLE001 - it is raised in the calling thread
                errors.append(error)
            finally:
                begun.set()
            if self._ray is not None:
                self._ended.wait()
                self._ray.shutdown()

        self._ended.clear()
        self._keeper = threading.Thread(target=keep, name="ray", daemon=True)
        self._keeper.start()
        where = self.options.address or "this machine"
        if not begun.wait(_BEGIN_SECONDS):
            raise ValueError(
                f"No Ray cluster answers at {where}; on a machine of the cluster give --ray auto, "
                "with the token that it was started with, if any (docs/cluster.md)."
            )
        if errors:
            raise ValueError(f"There is no Ray cluster at {where}: {errors[0]}") from errors[0]
        self._look()

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        if self._keeper is not None:
            self._ended.set()
            if self._ray is not None:
                self._keeper.join()
        self._ray, self._keeper = None, None
        self._hands.clear()

    def _connected(self) -> Any:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        logging.getLogger("ray").setLevel(logging.ERROR)
        if self.is_local:
            # With this, Ray binds all its ports to 127.0.0.1, as it does on a Mac.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        import ray

        common = {"log_to_driver": False, "configure_logging": False}
        if not self.is_local:
            ray.init(address=self.options.address, **common)
            return ray
        ray.init(
            "local",  # never one that happens to run here
            num_cpus=self.threads * (self.options.workers or self._room_here()),
            num_gpus=0 if self.settings.device == "cpu" else None,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            **common,
        )
        return ray

    def _room_here(self) -> int:
        import torch

        gpus = 0 if self.settings.device == "cpu" else torch.cuda.device_count()
        return gpus or max(1, (os.cpu_count() or 1) // self.threads)

    def _look(self) -> None:
        """How many workers there is room for now; machines come and go."""
        self._looked_at = time.monotonic()
        has = self._ray.cluster_resources()
        by_gpu = self._on_gpu(has)
        self._places = int(has["GPU"]) if by_gpu else int(has.get("CPU", 0)) // self.threads

    def _on_gpu(self, has: dict[str, float]) -> bool:
        return self.settings.device not in ("cpu", "mps") and has.get("GPU", 0) >= 1

    def _recruit(self) -> None:
        """As many workers as are wanted; Ray starts each as soon as there is room for it."""
        if time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._look()
        wanted = self.options.workers or max(1, self._places)
        while len(self._hands) < wanted - len(self.notes):
            on_gpu = self._on_gpu(self._ray.cluster_resources())
            device = "cuda" if on_gpu else "mps" if self.settings.device == "mps" else "cpu"
            made = self._ray.remote(Worker).options(
                num_cpus=1 if on_gpu else self.threads,
                num_gpus=1 if on_gpu else 0,
                max_restarts=0,
                max_concurrency=2,
            )
            self._hands.append(
                _Hand(made.remote(replace(self.settings, device=device), self.threads))
            )

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
        left, lost = len(orders), Counter[int]()
        for hand in self._hands:
            hand.ready = hand.ready and first is None
        try:
            while left:
                self._recruit()
                self._give(orders, first, queue)
                tell(read + sum(hand.done for hand in self._hands))
                for hand, answer, error in self._answers():
                    order, hand.order, hand.doing, hand.done = hand.order, None, None, 0.0
                    if error is not None:
                        self._dismiss(hand)
                        lost[-1 if order is None else order] += 1
                        if order is not None:
                            queue.appendleft(order)
                        if max(lost.values()) >= _MOST_TRIES:
                            raise ValueError(_too_many_lost(order, error))
                    elif order is None:
                        self._welcome(hand, answer, fits)
                        lost.pop(-1, None)
                    else:
                        left, read = left - 1, read + orders[order].tokens
                        self._give(orders, first, queue)
                        yield order, answer
        finally:
            for hand in [hand for hand in self._hands if hand.order is not None]:
                self._dismiss(hand)

    def _give(self, orders: Sequence[Order], first: Order | None, queue: "deque[int]") -> None:
        for hand in self._hands:
            if hand.doing is not None:
                continue
            if not hand.ready:  # one for which there is no room yet must hold no order
                hand.doing = hand.actor.carry_out.remote(first or _HELLO)
            elif queue:
                hand.order = queue.popleft()
                hand.doing = hand.actor.carry_out.remote(orders[hand.order])

    def _answers(self) -> Iterator[tuple[_Hand, Any, Exception | None]]:
        """Who is done, with what, or was lost. Raises what a worker raised over an order."""
        from ray.exceptions import RayError, RayTaskError

        by_ref = {hand.doing: hand for hand in self._hands if hand.doing is not None}
        if not by_ref:
            time.sleep(_POLL_SECONDS)
            return
        done, _ = self._ray.wait(list(by_ref), num_returns=1, timeout=_POLL_SECONDS)
        for ref in done:
            hand = by_ref[ref]
            try:
                yield hand, self._ray.get(ref), None
            except RayTaskError as error:
                cause = error.cause
                if hand.order is None and isinstance(cause, ValueError | OSError):
                    yield hand, str(cause), None
                elif isinstance(cause, ValueError):
                    raise ValueError(str(cause)) from error
                else:
                    raise RuntimeError(f"A worker failed: {cause!r}") from error
            except RayError as error:
                yield hand, None, error
        self._ask()

    def _ask(self) -> None:
        """How far each is; an answer that is late, or lost, is looked for the next time."""
        from ray.exceptions import RayError

        now = time.monotonic()
        for hand in self._hands:
            if hand.asked is not None and self._ray.wait([hand.asked], timeout=0)[0]:
                try:
                    done, where, memory = self._ray.get(hand.asked)
                except RayError:
                    continue
                finally:
                    hand.asked = None
                self.memory[where] = max(memory, self.memory.get(where, 0))
                hand.done = done if hand.order is not None else 0.0
            due = now - hand.asked_at > _ASK_SECONDS
            if due and hand.order is not None and hand.asked is None:
                hand.asked, hand.asked_at = hand.actor.told.remote(), now

    def _welcome(self, hand: _Hand, answer: Any, fits: Callable[[Seen], str | None]) -> None:
        problem = answer if isinstance(answer, str) else fits(answer)
        if problem is None:
            hand.ready = True
            return
        log.warning(problem)
        self.notes.append(problem)
        self._dismiss(hand)
        if not any(other.ready or other.doing is not None for other in self._hands):
            raise ValueError(problem)

    def _dismiss(self, hand: _Hand) -> None:
        self._ray.kill(hand.actor)
        self._hands.remove(hand)


def _too_many_lost(order: int | None, error: Exception) -> str:
    when = "as they began" if order is None else "over the same rows"
    said = " ".join(str(error).split())[:300]
    return (
        f"{_MOST_TRIES} workers were lost {when}; give each more memory, or choose fewer or "
        f"narrower SAEs. Ray says: {said}"
    )
