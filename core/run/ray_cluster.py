"""A Ray cluster that is started here or joined, and the room in it.

With `core/run/on_ray.py` all that knows Ray.
"""

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core.run.cluster import ClusterOptions
from core.settings import Settings

_BEGIN_SECONDS = 120.0
_OBJECT_STORE = 100_000_000
"""Bytes of shared memory of a cluster started here: only names and numbers travel."""


@dataclass(eq=False)
class RayCluster:
    """Where workers live, from `begin` to `close`."""

    options: ClusterOptions
    """What was typed."""
    settings: Settings
    """Folders and device."""
    ray: Any = field(default=None, init=False)
    """The module, once it is connected."""
    _ended: threading.Event = field(default_factory=threading.Event, init=False)
    _keeper: threading.Thread | None = field(default=None, init=False)

    @property
    def threads(self) -> int:
        """Threads of torch of each worker."""
        import torch

        return self.options.threads or torch.get_num_threads()

    @property
    def is_local(self) -> bool:
        """Whether it is started on this machine."""
        return not self.options.address

    def begin(self) -> bool:
        """Start or join it; False where that was done. Raises ValueError where it fails."""
        if self.ray is not None:
            return False
        errors: list[Exception] = []
        begun = threading.Event()

        def keep() -> None:
            # Ray's processes end with the thread that started them: this one stays.
            try:
                self.ray = self._connected()
            except Exception as error:  # noqa: BLE001 - it is raised in the calling thread
                errors.append(error)
            finally:
                begun.set()
            if self.ray is not None:
                self._ended.wait()
                self.ray.shutdown()

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
        return True

    def close(self) -> None:
        """Leave it; end it if it was started here."""
        if self._keeper is not None:
            self._ended.set()
            if self.ray is not None:
                self._keeper.join()
        self.ray, self._keeper = None, None

    def places(self) -> int:
        """Workers that there is room for now; machines come and go."""
        nodes = self._nodes()
        return places_in(nodes, threads=self.threads, on_gpu=self._on_gpu(nodes))

    def hire(self, kind: type) -> Any:
        """Ray's handle of a new worker, which Ray starts as soon as there is room for it."""
        on_gpu = self._on_gpu(self._nodes())
        device = "cuda" if on_gpu else "mps" if self.settings.device == "mps" else "cpu"
        made = self.ray.remote(kind).options(
            num_cpus=1 if on_gpu else self.threads,
            num_gpus=1 if on_gpu else 0,
            max_restarts=0,
            max_concurrency=2,
        )
        return made.remote(replace(self.settings, device=device), self.threads)

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _on_gpu(self, nodes: list[Mapping[str, float]]) -> bool:
        has = any(node.get("GPU", 0) >= 1 for node in nodes)
        return self.settings.device not in ("cpu", "mps") and has

    def _connected(self) -> Any:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        logging.getLogger("ray").setLevel(logging.ERROR)
        if self.is_local:
            # With this, Ray binds all its ports to 127.0.0.1, as it does on a Mac.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        import ray

        common: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
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


def places_in(nodes: list[Mapping[str, float]], *, threads: int, on_gpu: bool) -> int:
    """Workers that fit on these machines: one is on one machine, whatever others have left."""
    if on_gpu:
        return sum(int(min(node.get("GPU", 0), node.get("CPU", 0))) for node in nodes)
    return sum(int(node.get("CPU", 0)) // threads for node in nodes)
