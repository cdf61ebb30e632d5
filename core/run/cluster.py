"""Which workers were asked for, checked before anything of Ray is imported."""

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class ClusterOptions:
    """What was typed."""

    address: str = ""
    """Cluster to be joined; one is started on this machine where it is empty."""
    workers: int | None = None
    """How many; as many as there is room for if None."""
    threads: int | None = None
    """Threads of torch of each, and of this process; as many as it has if None."""

    def check(self) -> None:
        """Raises ValueError where Ray is not installed, or this is no address for it."""
        if importlib.util.find_spec("ray") is None:
            raise ValueError(
                "Ray is not installed here: pip install -r requirements-ray.txt, or leave out "
                "--ray to use this machine alone."
            )
        if self.address.startswith("ray://"):
            raise ValueError(
                f"{self.address} is an address of Ray's client, which is not used here: run this "
                "on a machine of the cluster and give --ray auto, or HOST:6379."
            )
