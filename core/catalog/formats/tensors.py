"""Tensors of a file checked against what its format should hold, and made float32."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from core.catalog.formats.reading import shapes_problem

if TYPE_CHECKING:
    from torch import Tensor


def check_tensors(
    path: Path,
    tensors: Mapping[str, "Tensor"],
    wanted: Mapping[str, tuple[int, ...]],
    optional: tuple[str, ...] = (),
) -> dict[str, "Tensor"]:
    """The `wanted` tensors in float32, contiguous; `optional` ones may be there too.

    Raises:
        ValueError: one is missing, unknown, of another shape or not floating point.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    problem = shapes_problem(path, shapes, wanted, optional)
    if problem is not None:
        raise ValueError(problem)
    for name in wanted:
        if not tensors[name].dtype.is_floating_point:
            raise ValueError(
                f"{path} holds {name} as {tensors[name].dtype}; save floating-point weights."
            )
    return {name: tensors[name].detach().float().contiguous() for name in wanted}
