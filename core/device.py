"""Which device and dtype to run on, and how much memory is left there.

torch is imported inside the functions that need it, so that the home page can be drawn first.
"""

import os
import re
from dataclasses import dataclass

import psutil

from core.lazy import imported
from core.memory_limit import memory_limit

ACCEPTED_DEVICES = ("auto", "cpu", "cuda", "cuda:<index>", "mps")
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Accepted dtypes and the bytes of one number."""


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of one device, or of this process on the host."""

    name: str
    """`host`, `this process`, or a torch device such as `cuda:0`."""
    used: int
    """Bytes in use by everybody (by this process alone for `this process`)."""
    total: int
    """Bytes installed."""

    @property
    def free(self) -> int:
        """Bytes not in use."""
        return max(0, self.total - self.used)


def choose_device(requested: str = "auto") -> str:
    """The torch device to run on: `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` means CUDA where there is one, else the CPU. MPS gives wrong results with some torch
    versions, so `auto` takes it only with TRANSFORMERLENS_ALLOW_MPS=1.

    Raises:
        ValueError: the name is unknown or this machine has no such device.
    """
    match = re.fullmatch(r"(auto|cpu|mps|cuda)|cuda:(\d+)", requested)
    if not match:
        raise ValueError(
            f"Unknown device {requested!r}; set SAE_EXPLORER_DEVICE to one of "
            f"{', '.join(ACCEPTED_DEVICES)}."
        )
    if requested == "cpu":
        return "cpu"
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested == "auto":
        if n_gpus:
            return "cuda"
        allow_mps = os.environ.get("TRANSFORMERLENS_ALLOW_MPS") == "1"
        return "mps" if allow_mps and torch.backends.mps.is_available() else "cpu"
    if requested == "mps":
        if not torch.backends.mps.is_available():
            raise ValueError("Device 'mps' is not available here; use 'auto' or 'cpu'.")
        return "mps"
    if int(match.group(2) or 0) >= n_gpus:
        raise ValueError(
            f"Device {requested!r} is not available: this machine shows torch {n_gpus} CUDA "
            "devices; use 'auto' or 'cpu'."
        )
    return requested


def memory_free(device: str = "cpu") -> int:
    """Bytes that can still be allocated on `device` (`mps` shares the host's memory).

    In a container, or a service with a limit, no more than that leaves.
    """
    if not device.startswith("cuda"):
        return _host().free
    import torch

    free_outside, _ = torch.cuda.mem_get_info(device)
    # Blocks that torch's allocator keeps for reuse count as free: it will hand them out again.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free_outside + kept)


def memory_report() -> tuple[DeviceMemory, ...]:
    """Memory of the host, of this process, and of each CUDA device that torch has started on.

    Never imports torch or starts CUDA itself: it is drawn on every page.
    """
    host = _host()
    resident = psutil.Process().memory_info().rss
    report = [host, DeviceMemory(name="this process", used=int(resident), total=host.total)]
    torch = imported("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            report.append(DeviceMemory(name=f"cuda:{index}", used=total - free, total=total))
    return tuple(report)


def _host() -> DeviceMemory:
    """Memory of the machine, or of the container where that has less left."""
    machine, limit = psutil.virtual_memory(), memory_limit()
    if limit is not None and limit.free < machine.available:
        return DeviceMemory(name="host", used=limit.used, total=limit.total)
    used = int(machine.total - machine.available)
    return DeviceMemory(name="host", used=used, total=int(machine.total))


def format_bytes(n: float) -> str:
    """`n` bytes as people read them: `548 MB`, `1.3 GB` (powers of 1000, as on the hub)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n) < 999.5:
            return f"{n:.0f} {unit}" if abs(n) >= 10 or unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that a device or the host ran out of memory.

    Libraries under torch (cuBLAS, the driver) say so in a plain RuntimeError.
    """
    # torch.OutOfMemoryError is a RuntimeError whose message says so, too.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(it in str(error) for it in _OUT_OF_MEMORY)
