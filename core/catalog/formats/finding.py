"""Where SAEs lie below a folder, told from the names of its files; nothing is opened for it.

Folders that hold weights which nobody recognises are places too, with the reason: what is left out
in silence cannot be mended.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from core.catalog.formats import dictionary_learning, gemma_scope, hook_z, own, sparsify
from core.catalog.formats.description import Place
from core.catalog.formats.reading import read_object

MAX_DEPTH = 3
"""How far below a folder of SAE_EXPLORER_SAES an SAE may lie."""
_GEMMA_DEPTH = MAX_DEPTH + 3
"""The same for Gemma Scope, which is published as layer_5/width_16k/average_l0_68."""
_LOOKED_DEPTH = _GEMMA_DEPTH + 2
"""How far down one that lies too deep is still named."""
_LOOKED_FOLDERS = 500
"""Folders below `MAX_DEPTH` that are looked at for that, in all; Gemma Scope's do not count."""
_GEMMA_FOLDER = re.compile(r"(layer_|width_|average_l0_|resid_post|attn_out|mlp_out).*|canonical")

_BY_WEIGHTS = {
    own.WEIGHTS: own.NAME,
    sparsify.WEIGHTS: sparsify.NAME,
    dictionary_learning.WEIGHTS: dictionary_learning.NAME,
    gemma_scope.WEIGHTS: gemma_scope.NAME,
    gemma_scope.WEIGHTS_2: gemma_scope.NAME_2,
}
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_WEIGHTS = (".safetensors", ".npz", ".npy", ".h5", ".msgpack", *_PICKLES)
_OF_MODELS = re.compile(
    r"tokenizer.*|generation_config\.json|adapter_config\.json|vocab\..*|merges\.txt|.*\.gguf"
)
"""Files that lie beside the weights of a language model, which is no SAE."""
_KNOWN = (
    "cfg.json with sae_weights.safetensors (sae_lens) or sae.safetensors (sparsify), config.json"
    " with ae.pt (dictionary_learning), params.npz (Gemma Scope), config.json with"
    " params.safetensors (Gemma Scope 2), or NAME.pt with NAME_cfg.json"
)


def find(folder: Path) -> tuple[Place, ...]:
    """All SAEs in `folder` and at most `MAX_DEPTH` folders down, sorted by path, and what there
    looks like one and is none, with the reason. Never raises."""
    budget = [_LOOKED_FOLDERS]
    return tuple(_find(folder, 0, frozenset(), budget))


def place_of(path: str | Path) -> Place:
    """The SAE at `path`, a folder or one weight file, wherever it lies.

    Its problem says so where there are none, or several, or nobody knows the format.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix == hook_z.WEIGHTS_ENDING and hook_z.config_of(path).is_file():
            return Place(path, hook_z.NAME)
        return Place(path, problem=f"{path} is a file; give the folder of the SAE.")
    try:
        names, _ = _listing(path)
    except (OSError, ValueError) as error:
        return _unreadable(path, error)
    places = _places(path, names)
    if len(places) == 1:
        return places[0]
    if places:
        found = ", ".join(place.path.name for place in places[:4])
        problem = f"{path} holds {len(places)} SAEs; give one of {found}."
        return Place(path, places[0].file_format, problem)
    return Place(path, problem=_unknown(path, names) or f"{path} holds no SAE: none of {_KNOWN}.")


def place_at(root: Path, parts: tuple[str, ...]) -> Place | None:
    """The SAE that `find` lists for `root` under that id, without looking at the others."""
    if not parts or ".." in parts or len(parts) > _LOOKED_DEPTH:
        return None
    named = root.joinpath(*parts)
    for folder in (named, named.parent):
        levels = len(parts) if folder == named else len(parts) - 1
        try:
            names, _ = _listing(folder)
        except (OSError, ValueError):
            continue
        for place in _places(folder, names):
            if named in (place.path, _stem(place)) and levels <= _limit(place):
                return replace(place, levels=levels)
    return None


def _stem(place: Place) -> Path | None:
    """The path that names one of several SAEs of a folder: its file's, without the ending."""
    if place.file_format != hook_z.NAME:
        return None
    return place.path.with_name(place.path.name.removesuffix(hook_z.WEIGHTS_ENDING))


def _find(folder: Path, levels: int, above: frozenset[str], budget: list[int]) -> Iterator[Place]:
    if levels > MAX_DEPTH and not _GEMMA_FOLDER.fullmatch(folder.name):
        budget[0] -= 1
        if budget[0] < 0 or levels > _LOOKED_DEPTH:
            return
    try:
        names, folders = _listing(folder)
        own_path = os.path.realpath(folder)
    except (OSError, ValueError) as error:
        yield replace(_unreadable(folder, error), levels=levels)
        return
    places = _places(folder, names)
    # A config alone may be that of all SAEs below, and is no reason to leave them out.
    is_sae = bool(places) and any(name.endswith(_WEIGHTS) for name in names)
    below = []
    if not is_sae and own_path not in above:  # a link that leads back up is a loop
        below = [
            place
            for name in folders
            for place in _find(folder / name, levels + 1, above | {own_path}, budget)
        ]
    if is_sae or not any(place.file_format and not place.problem for place in below):
        for place in places:
            too_deep = levels > _limit(place)
            yield _too_deep(place, levels) if too_deep else replace(place, levels=levels)
    yield from below
    if places or own_path in above:
        return
    reason = None if below or levels > MAX_DEPTH else _unknown(folder, names)
    if reason is not None:
        yield Place(folder, problem=reason, levels=levels)


def _listing(folder: Path) -> tuple[frozenset[str], list[str]]:
    """All names in a folder, and those of its folders in order, hidden ones left out."""
    names, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            with suppress(OSError):  # a link that leads to itself
                if not entry.name.startswith(".") and entry.is_dir():
                    folders.append(entry.name)
    return frozenset(names), sorted(folders)


def _places(folder: Path, names: frozenset[str]) -> list[Place]:
    """SAEs of this very folder."""
    found = [name for weights, name in _BY_WEIGHTS.items() if weights in names]
    pairs = [
        folder / name
        for name in sorted(names)
        if name.endswith(hook_z.WEIGHTS_ENDING) and hook_z.config_of(folder / name).name in names
    ]
    if len(found) + bool(pairs) > 1:
        formats = " and ".join([*found, *([hook_z.NAME] if pairs else [])])
        return [
            Place(
                folder,
                (found or [hook_z.NAME])[0],
                f"{folder} holds SAEs in several formats ({formats}), and it cannot be told"
                " which files belong together; put each into a folder of its own.",
            )
        ]
    if found:
        return [Place(folder, found[0])]
    if pairs:
        return [Place(path, hook_z.NAME) for path in pairs]
    if own.CONFIG in names:
        return [Place(folder, _of_config(folder / own.CONFIG), _pickled(folder, names))]
    if dictionary_learning.CONFIG in names:
        content, _ = read_object(folder / dictionary_learning.CONFIG)
        trainer = content.get("trainer")
        if isinstance(trainer, dict) and "dict_class" in trainer:
            return [Place(folder, dictionary_learning.NAME)]
    return []


def _of_config(config: Path) -> str:
    """Format of a cfg.json whose weights are missing."""
    content, _ = read_object(config)
    sparse = {"num_latents", "expansion_factor"} & set(content) and "d_sae" not in content
    return sparsify.NAME if sparse else own.NAME


def _pickled(folder: Path, names: frozenset[str]) -> str | None:
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if not pickles:
        return None
    return (
        f"{folder / pickles[0]} is a pickle, which can run code when loaded, and was not opened."
        f" Give the folder that sae.save_model wrote ({own.CONFIG} and {own.WEIGHTS})."
    )


def _unknown(folder: Path, names: frozenset[str]) -> str | None:
    """Why the weights in a folder are no SAE, or None where there are none, or a model's."""
    weights = sorted(name for name in names if name.endswith(_WEIGHTS))
    if not weights or any(_OF_MODELS.fullmatch(name) for name in names):
        return None
    if "config.json" in names and "model_type" in read_object(folder / "config.json")[0]:
        return None
    found = ", ".join(weights[:3]) + (", ..." if len(weights) > 3 else "")
    opened = " Pickles were not opened." if any(file.endswith(_PICKLES) for file in weights) else ""
    return (
        f"{folder} holds weights ({found}) in no format that is read.{opened} Read are {_KNOWN};"
        " convert them to one of these."
    )


def _limit(place: Place) -> int:
    gemma = place.file_format in (gemma_scope.NAME, gemma_scope.NAME_2)
    return _GEMMA_DEPTH if gemma else MAX_DEPTH


def _too_deep(place: Place, levels: int) -> Place:
    problem = (
        f"{place.path} lies {levels} folders down and only {_limit(place)} are read; move it up or"
        " name a folder nearer to it in SAE_EXPLORER_SAES."
    )
    return replace(place, levels=levels, problem=problem)


def _unreadable(path: Path, error: Exception) -> Place:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return Place(path, problem=f"{path} cannot be read ({reason}); check its permissions.")
