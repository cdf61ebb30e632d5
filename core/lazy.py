"""Names of a package that are imported when first asked for.

A package whose analyses bring torch also holds what a page reads before torch is there (its link,
its requests), so the package itself must import nothing:

    if TYPE_CHECKING:
        from core.gradients.sparse import SparseTensor

    __all__ = ["SparseTensor"]
    __getattr__ = lazily(__name__, {"SparseTensor": "sparse"})
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for `package`; `modules` says which of its modules has each name."""

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return find


def imported(name: str) -> Any:
    """A module that is imported already, else None.

    None also while another thread imports it: it is listed then, and lacks most of its names.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return None if module is None or getattr(spec, "_initializing", False) else module
