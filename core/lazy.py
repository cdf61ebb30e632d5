"""Names of a package that are imported when first asked for.

A package whose analyses bring torch also holds what a page reads before torch is there (its link,
its requests), so the package itself must import nothing:

    if TYPE_CHECKING:
        from core.gradients.sparse import SparseTensor

    __all__ = ["SparseTensor"]
    __getattr__ = lazily(__name__, {"SparseTensor": "sparse"})
"""

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
