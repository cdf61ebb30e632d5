"""What runs numba for a map: the worker process in the app, this process in a notebook."""

from typing import Any, Protocol

from core.worker.child import find_function


class Fit(Protocol):
    """Runs a function named `module:name`; `WorkerProcess.run` is one."""

    def __call__(self, function: str, *args: Any, progress: Any = None, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`, with reports to `progress`."""


def run_here(function: str, *args: Any, progress: Any = None, **kwargs: Any) -> Any:
    """A `Fit` in this process."""
    return find_function(function)(*args, **kwargs, progress=progress)
