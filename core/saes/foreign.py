"""SAEs in the formats of other libraries, handed to sae_lens in its own words."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.catalog.formats import describe, load_tensors, place_of
from core.catalog.formats.own import NAME as OWN

if TYPE_CHECKING:
    from torch import Tensor

Converter = Callable[..., tuple[dict[str, Any], dict[str, "Tensor"]]]
"""`(path, device, cfg_overrides)`: what `SAE.load_from_disk` asks for config and tensors."""


def foreign_converter(path: Path) -> Converter | None:
    """How sae_lens gets the SAE at `path`; None where it is in sae_lens' own format, or nowhere.

    Raises:
        ValueError: its format is known and it cannot be loaded, with the remedy.
    """
    if not path.exists():
        return None
    place = place_of(path)
    if place.file_format is not None and place.problem is not None:
        raise ValueError(place.problem)
    if place.file_format in (None, OWN):
        return None
    description = describe(place)
    if description.problem is not None:
        raise ValueError(description.problem)

    def convert(
        path: str | Path, device: str, cfg_overrides: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
        config, tensors = load_tensors(place, description)
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        return {**config, "device": device, **(cfg_overrides or {})}, moved

    return convert
