"""`python -m core.run` on a demo bundle, in a process that a test may kill."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_CODE = """
import sys
from pathlib import Path
from core.run.command import main
from core.settings import Settings
from core.shell import Machine

cache, demo, *words = sys.argv[1:]
settings = Settings(cache_dir=Path(cache), demo_dir=Path(demo), device="cpu")
sys.exit(main(words, machine=lambda: Machine(settings)))
"""


def begin(cache: Path, demo: Path, *words: str) -> "subprocess.Popen[str]":
    """The command, begun."""
    command = [sys.executable, "-c", _CODE, str(cache), str(demo), *words]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said_by(process: "subprocess.Popen[str]") -> str:
    """What the command said, once it has ended well."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def wait_until(found: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Until something is there that the process makes."""
    end = time.monotonic() + 120
    while not found():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
