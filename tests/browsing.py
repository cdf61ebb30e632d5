"""Servers for a headless Chromium, and which one it is; its fixtures are in browser_fixtures."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE_MS = 180_000
"""How long a test waits for what must come."""
UNEXPECTED = "Reference "
"""How the log begins what a page did not expect (`pages.parts.errors`)."""
SETTLED_SECONDS = 60.0
"""A page that polls is never at rest for long; then the last click wins."""
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
REPOSITORY = Path(__file__).resolve().parent.parent
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found; set CHROMIUM to its path"),
]
"""Marks of a module whose tests drive the browser."""


def settled(page: "Page") -> None:
    """Return once the page's script has run: a click before that goes to what stood there before.

    The state is watched for a moment, because what a widget has sent starts the next run.
    """
    deadline = time.monotonic() + SETTLED_SECONDS
    calm = 0
    while calm < 3 and time.monotonic() < deadline:
        state = page.get_by_test_id("stApp").get_attribute("data-test-script-state")
        calm = calm + 1 if state == "notRunning" else 0
        page.wait_for_timeout(100)


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def demo_server(
    demo: Path,
    folder: Path,
    *,
    module: str = "tests.serve_demo",
    port: int | None = None,
    **environment: str,
) -> Iterator[str]:
    """Address of a fresh server on the bundle in `demo`; its log and cache are in `folder`.

    `module` starts it: the app, or the hosted app (`tests.serve_hosted`).
    """
    port = free_port() if port is None else port
    command = [sys.executable, "-m", module, str(demo)]
    options = ["--server.port", str(port), "--server.address", "127.0.0.1"]
    env: Mapping[str, str] = {
        **os.environ,
        "SAE_EXPLORER_CACHE": str(folder / "cache"),
        "SAE_EXPLORER_DEVICE": "cpu",
        **environment,
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], cwd=REPOSITORY, env=env, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _await(process, address, folder / "server.log")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)
    said = (folder / "server.log").read_text(errors="replace")
    if UNEXPECTED in said:  # at the foot of a page, perhaps, where no test looks
        pytest.fail(f"A page met what it did not expect: {said[said.index(UNEXPECTED) :][:3000]}")


def _await(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5)
            return
        time.sleep(0.1)
    pytest.fail(f"The server did not start: {log.read_text()}")
