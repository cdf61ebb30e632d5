"""Choice of device, and what the sidebar shows of memory."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from core.device import (
    choose_device,
    format_bytes,
    memory_free,
    memory_report,
)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two CUDA devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return monkeypatch


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without CUDA or MPS."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return monkeypatch


def test_auto_takes_cuda_where_there_is_one(gpus: pytest.MonkeyPatch) -> None:
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("cpu") == "cpu"


def test_auto_takes_mps_only_when_allowed(no_gpus: pytest.MonkeyPatch) -> None:
    no_gpus.setattr(torch.backends.mps, "is_available", lambda: True)
    no_gpus.delenv("TRANSFORMERLENS_ALLOW_MPS", raising=False)
    assert choose_device("auto") == "cpu"
    assert choose_device("mps") == "mps"
    no_gpus.setenv("TRANSFORMERLENS_ALLOW_MPS", "1")
    assert choose_device("auto") == "mps"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", "cuda:1 "])
def test_unknown_device_names_the_accepted_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"Unknown device .*auto, cpu, cuda, cuda:<index>, mps"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_device_is_refused(name: str, no_gpus: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"not available.*'cpu'"):
        choose_device(name)


def test_gpu_index_beyond_the_last_is_refused(gpus: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'cuda:2' is not available"):
        choose_device("cuda:2")


def test_memory_free_counts_what_torch_keeps_for_reuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert memory_free("cuda:0") == 1200


def test_memory_report_shows_host_process_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    report = {memory.name: memory for memory in memory_report()}
    assert report["host"].total == psutil.virtual_memory().total
    assert 0 < report["this process"].used < report["host"].total
    assert 0 < memory_free("cpu") <= report["host"].total
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    gpu = memory_report()[-1]
    assert (gpu.name, gpu.used, gpu.total, gpu.free) == ("cuda:0", 4000, 5000, 1000)


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (548e6, "548 MB"), (1.3e9, "1.3 GB")],
)
def test_bytes_read_as_on_the_hub(n: float, text: str) -> None:
    assert format_bytes(n) == text


@pytest.mark.slow
def test_the_memory_report_waits_for_no_half_imported_torch() -> None:
    """A page is drawn while another thread imports torch: then torch lacks most of its names."""
    code = (
        "import threading, core.device as device\n"
        "thread = threading.Thread(target=lambda: __import__('torch'))\n"
        "thread.start()\n"
        "n = 0\n"
        "while thread.is_alive():\n"
        "    device.memory_report()\n"
        "    n += 1\n"
        "thread.join()\n"
        "device.memory_report()\n"
        "assert n > 10, n\n"
    )
    repository = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True, timeout=120)
