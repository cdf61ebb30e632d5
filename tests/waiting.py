"""Waiting in tests for what another thread or process does."""

import time
from collections.abc import Callable

import pytest


def wait_until(condition: Callable[[], object], *, patience: float) -> None:
    """Return once `condition` holds; the test fails when it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"still false after {patience} s")
        time.sleep(0.01)
