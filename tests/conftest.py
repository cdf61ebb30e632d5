# ruff: noqa: E402
"""Fixtures every test may use, and an environment in which no test reaches a model hub.

The environment is set before anything imports torch or huggingface_hub, which read it once.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PRIVATE_HOME = tempfile.TemporaryDirectory(prefix="sae-explorer-tests-")
if os.environ.get("SAE_EXPLORER_REAL_WEIGHTS") != "1":
    os.environ["HF_HOME"] = _PRIVATE_HOME.name
    os.environ["HF_HUB_OFFLINE"] = "1"
    for _name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE"):
        os.environ.pop(_name, None)
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
import transformers
from hypothesis import settings
from sae_lens import SAE
from torch import Tensor

from core.models import Model, load_model
from tests.builders import make_sae, write_tiny_gpt2, write_tiny_llama

transformers.utils.logging.disable_progress_bar()
# A busy machine is slow, not wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name their argument: packed ones may hold the second at which they were packed, and
    two workers that collect in different seconds must name the tests alike."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What drives a browser or downloads weights is slow, too: `-m "not slow"` leaves it out."""
    for item in items:
        if item.get_closest_marker("browser") or item.get_closest_marker("real_weights"):
            item.add_marker("slow")


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


@pytest.fixture(autouse=True)
def nothing_unexpected(request: pytest.FixtureRequest) -> Iterator[None]:
    """No page meets what it did not expect, also where a test does not look.

    Tests that have one do so are marked `unexpected`.
    """
    heard, log = _Heard(), logging.getLogger("pages.parts.errors")
    log.addHandler(heard)
    yield
    log.removeHandler(heard)
    if request.node.get_closest_marker("unexpected") is None:
        assert not heard.records, heard.records[0]


@pytest.fixture(scope="session")
def tiny_gpt2_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random GPT-2: 3 layers, 4 heads, d_model 32, 64 positions. Do not write to it."""
    return write_tiny_gpt2(tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama of the same size. Do not write to it."""
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_model(tiny_gpt2_dir: Path) -> Model:
    """The tiny GPT-2 as the app loads it (a bridge). Shared: never attach SAEs to it."""
    return load_model(tiny_gpt2_dir, device="cpu", backend="bridge")


@pytest.fixture(scope="session")
def tiny_hooked(tiny_gpt2_dir: Path) -> Model:
    """The same model as a `HookedSAETransformer`. Shared: never attach SAEs to it."""
    return load_model(tiny_gpt2_dir, device="cpu", backend="hooked")


@pytest.fixture(scope="session", params=["bridge", "hooked"])
def any_model(request: pytest.FixtureRequest) -> Model:
    """Each of the two model classes in turn, with the same weights."""
    return request.getfixturevalue("tiny_model" if request.param == "bridge" else "tiny_hooked")


@pytest.fixture(scope="session")
def tiny_tokens() -> Tensor:
    """Token ids [2, 9] of the tiny models, BOS first."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, 290, (2, 9), generator=generator)
    tokens[:, 0] = 0
    return tokens


@pytest.fixture(scope="session")
def tiny_sae() -> SAE:
    """A standard SAE of 64 latents that reads the tiny models' residual stream before layer 1."""
    return make_sae("standard", d_in=32, d_sae=64, hook_name="blocks.1.hook_resid_pre")
