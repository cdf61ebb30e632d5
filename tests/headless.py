"""`python -m core.run` on a demo bundle, in a process that a test may kill."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
_CODE = """
import sys
from pathlib import Path
from core.run.command import main
from core.settings import Settings
from core.shell import Machine

cache, demo, batch, *words = sys.argv[1:]
if int(batch):
    import pytest
    from tests.headless import shorten

    shorten(pytest.MonkeyPatch(), int(batch))
settings = Settings(cache_dir=Path(cache), demo_dir=Path(demo), device="cpu")
sys.exit(main(words, machine=lambda: Machine(settings)))
"""


def shorten(patch: pytest.MonkeyPatch, batch_tokens: int = 128) -> None:
    """Indexes and firings in batches of so few tokens, sixteen a stretch: many files of little."""
    names = ("activations.text_index", "firings.make", "run.handing_out", "run.worker")
    for name in names:
        patch.setattr(f"core.{name}.BATCH_TOKENS", batch_tokens)


def begin(cache: Path, demo: Path, *words: str, batch_tokens: int = 0) -> "subprocess.Popen[str]":
    """The command, begun, with batches of so many tokens, or its own."""
    command = [sys.executable, "-c", _CODE, str(cache), str(demo), str(batch_tokens), *words]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(found: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Until something is there that the process makes."""
    end = time.monotonic() + 120
    while not found():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
