"""Every format in which people have SAEs on disk: recognised, described, loaded.

`find` says where SAEs lie below a folder, `describe` what one is without reading its weights, and
`load_tensors` reads them. Finding and describing import neither torch nor sae_lens: a listing is
asked for at every click. Each format is a module with `NAME`, `files`, `describe` and `load`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.catalog.formats import dictionary_learning, gemma_scope, hook_z, own, sites, sparsify
from core.catalog.formats.description import Description, Place
from core.catalog.formats.finding import MAX_DEPTH, find, place_at, place_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMATS",
    "MAX_DEPTH",
    "Description",
    "Format",
    "Place",
    "describe",
    "find",
    "load_tensors",
    "place_at",
    "place_of",
    "version_of",
    "weight_files",
]

_REMEMBERED = 65_536


@dataclass(frozen=True)
class Format:
    """How one format is read."""

    name: str
    """Name shown and searched for."""
    contents: str
    """What lies in the folder, for people."""
    files: Callable[[Path], tuple[Path, ...]]
    """`(path)`: the files that an SAE consists of, there or not."""
    describe: Callable[[Path], Description]
    """`(path)`: what the SAE is; weights stay unread."""
    load: Callable[[Path, Description], tuple[dict[str, Any], dict[str, "Tensor"]]] | None
    """`(path, description)`: config entries and float32 tensors; None where sae_lens loads it."""


FORMATS: dict[str, Format] = {
    sae_format.name: sae_format
    for sae_format in (
        Format(own.NAME, "cfg.json, sae_weights.safetensors", own.files, own.describe, None),
        Format(
            dictionary_learning.NAME,
            "config.json, ae.pt",
            dictionary_learning.files,
            dictionary_learning.describe,
            dictionary_learning.load,
        ),
        Format(
            sparsify.NAME,
            "cfg.json, sae.safetensors",
            sparsify.files,
            sparsify.describe,
            sparsify.load,
        ),
        Format(
            gemma_scope.NAME,
            "params.npz",
            gemma_scope.files,
            gemma_scope.describe,
            gemma_scope.load,
        ),
        Format(
            gemma_scope.NAME_2,
            "config.json, params.safetensors",
            gemma_scope.files,
            gemma_scope.describe_2,
            gemma_scope.load,
        ),
        Format(hook_z.NAME, "NAME.pt, NAME_cfg.json", hook_z.files, hook_z.describe, hook_z.load),
    )
}
"""All formats by name."""


def describe(place: Place, version: str | None = None) -> Description:
    """The SAE at `place`, from its small files alone. Never raises: what fails is its problem.

    `version` is what `version_of` says, for who has asked already.
    """
    if place.problem is not None or place.file_format is None:
        return Description(place.file_format or "", problem=place.problem)
    try:
        return _described(place, version_of(place) if version is None else version)
    except Exception as error:  # noqa: BLE001 — one folder of a stranger must not hide all the others
        detail = f"{type(error).__name__}: {error}"[:200]
        return Description(
            place.file_format,
            problem=f"{place.path} ({place.file_format}) cannot be read ({detail}); copy it again.",
        )


def version_of(place: Place) -> str:
    """Changes when any file that the SAE at `place` consists of does, or one that speaks for it."""
    if place.file_format is None:
        return ""
    reader = FORMATS[place.file_format]
    parts = []
    # As texts: thousands of SAEs are asked for this at every click, and paths are slow to build.
    for file in (*map(str, reader.files(place.path)), *sites.sidecar_names(place.path)):
        try:
            stat = os.stat(file)
        except (OSError, ValueError):
            parts.append("-")
        else:
            parts.append(f"{stat.st_mtime_ns}:{stat.st_size}")
    return " ".join(parts)


def weight_files(place: Place) -> tuple[Path, ...]:
    """Files with the numbers of the SAE at `place`."""
    reader = FORMATS.get(place.file_format or "")
    files = reader.files(place.path) if reader else ()
    return tuple(file for file in files if file.suffix != ".json" and file.is_file())


def load_tensors(
    place: Place, description: Description
) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Config and float32 tensors (on the CPU) of a described SAE, in sae_lens' words.

    Raises:
        ValueError: it cannot be loaded, with the remedy.
    """
    load = FORMATS[place.file_format or ""].load
    if description.problem is not None or load is None:
        raise ValueError(description.problem or f"{place.path} is loaded by sae_lens itself.")
    entries, tensors = load(place.path, description)
    hook_name = description.hook_name or ""
    metadata = {
        "model_name": description.model_name,
        "hook_name": hook_name,
        "hook_head_index": None,
        "hf_module": description.details.get("module"),
        "prepend_bos": description.prepend_bos,
        "dataset_path": description.dataset,
        "context_size": description.context_size,
        "neuronpedia_id": description.neuronpedia_id,
        "model_from_pretrained_kwargs": dict(description.processing),
    }
    config = {
        "architecture": description.architecture,
        "d_in": description.d_in,
        "d_sae": description.d_sae,
        "dtype": "float32",
        "normalize_activations": description.normalisation,
        "reshape_activations": "hook_z" if hook_name.endswith("attn.hook_z") else "none",
        # Says that this config needs none of the changes that sae_lens makes to old ones.
        "sae_lens_version": "6.0.0",
        "metadata": metadata,
        **entries,
    }
    return config, tensors


@lru_cache(maxsize=_REMEMBERED)
def _described(place: Place, version: str) -> Description:
    # `version` is part of the key alone: an edited file is described again, others are not.
    found = FORMATS[place.file_format or ""].describe(place.path)
    if place.file_format == own.NAME:  # its cfg.json says all this itself
        return found
    said_of = sites.read_user_settings(place.path)
    if said_of.prepend_bos is not None:
        found = replace(found, prepend_bos=said_of.prepend_bos)
    return replace(found, normalisation=said_of.normalisation or "none")
