"""SAEs in folders of this machine: the demo bundle and the folders of SAE_EXPLORER_SAES.

Configs are read in the current style of sae_lens (a `metadata` object) and in that before its
version 6 (`hook_point`, `hook_name` at the top level). A folder that cannot be used is listed
with the reason.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from core.catalog.entries import ReleaseEntry, SaeEntry, Source
from core.catalog.families import layer_of, width_from_names
from core.catalog.input_scale import SCALER_FILE, WHITENING_FILE, input_scale_problem
from core.catalog.trained_sites import reading_of
from core.hub.file_checks import safetensors_problem

CONFIG, WEIGHTS, METRICS = "cfg.json", "sae_weights.safetensors", "metrics.json"
MAX_DEPTH = 3
"""How far below a folder of SAE_EXPLORER_SAES an SAE may lie."""
MAX_CONFIG_BYTES = 1_000_000


def release_names(folders: tuple[Path, ...]) -> dict[str, Path]:
    """The user's folders by release name: their own, after their parent's where names clash."""
    names = [folder.resolve().name for folder in folders]
    parents = [folder.resolve().parent.name for folder in folders]
    return {
        f"{parent}/{name}" if names.count(name) > 1 else name: folder
        for folder, name, parent in zip(folders, names, parents, strict=True)
    }


def user_release(folder: Path, name: str) -> tuple[ReleaseEntry, tuple[SaeEntry, ...]]:
    """One of the user's folders as it is now: an SAE itself, or SAEs at most `MAX_DEPTH` down."""
    entries, problem = tuple[SaeEntry, ...](), None
    if not folder.is_dir():
        problem = f"{folder} is not a folder; correct SAE_EXPLORER_SAES."
    elif (folder / CONFIG).is_file():
        entries = (read_sae_folder(folder, release=name, sae_id=folder.name),)
    else:
        entries = tuple(
            read_sae_folder(path, release=name, sae_id=path.relative_to(folder).as_posix())
            for path in sae_folders(folder)
        )
        if not entries:
            problem = (
                f"{folder} holds no SAE: no {CONFIG} in it or at most {MAX_DEPTH} folders "
                "down. Save SAEs there with sae.save_model(path)."
            )
    release = ReleaseEntry(
        release=name,
        model=entries[0].model if entries else "",
        source="user",
        n_saes=len(entries),
        title=str(folder),
        problem=problem,
    )
    return release, entries


def find_sae_folder(folder: Path, sae_id: str) -> Path | None:
    """Folder of the SAE `sae_id` of the release in `folder`, without looking at the others."""
    if (folder / CONFIG).is_file():
        return folder if sae_id == folder.name else None
    relative = PurePosixPath(sae_id)
    # Ids come from links: they must not lead anywhere else on the disk.
    if relative.is_absolute() or ".." in relative.parts or len(relative.parts) > MAX_DEPTH:
        return None
    path = folder / relative
    return path if (path / CONFIG).is_file() else None


def sae_folders(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Folders below `folder`, at most `depth` down, that hold a cfg.json; sorted by name."""
    if depth == 0:
        return
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError:
        return
    for child in children:
        if child.name.startswith("."):
            continue
        if (child / CONFIG).is_file():
            yield child
        else:
            yield from sae_folders(child, depth - 1)


def read_sae_folder(
    path: Path, *, release: str, sae_id: str, source: Source = "user", model: str | None = None
) -> SaeEntry:
    """The entry of one SAE folder, with a `problem` where it cannot be loaded.

    `model` overrides the model that the config names (the demo bundle knows its own).
    """
    cfg, problem = _read_json(path / CONFIG)
    metadata = cfg.get("metadata") if isinstance(cfg.get("metadata"), dict) else {}
    flat = {**cfg, **(metadata or {})}
    hook_name = flat.get("hook_name") or flat.get("hook_point")
    if problem is None:
        problem = _config_problem(path, flat, hook_name) or _weights_problem(path)
    problem = problem or input_scale_problem(flat, path)
    reading = reading_of({**flat, "hook_name": hook_name}, folder=path)
    hook_name = reading.hook_name
    metrics, _ = _read_json(path / METRICS) if (path / METRICS).is_file() else ({}, None)
    architecture = flat.get("architecture", "standard")
    return SaeEntry(
        release=release,
        sae_id=sae_id,
        model=model or str(flat.get("model_name") or ""),
        source=source,
        hook_name=hook_name if isinstance(hook_name, str) else None,
        layer=layer_of(hook_name) if isinstance(hook_name, str) else None,
        width=flat["d_sae"] if isinstance(flat.get("d_sae"), int) else width_from_names(sae_id),
        d_in=flat["d_in"] if isinstance(flat.get("d_in"), int) else None,
        kind="transcoder" if "transcoder" in str(architecture) else "sae",
        architecture=str(architecture),
        l0=_number(metrics.get("l0")),
        explained_variance=_number(metrics.get("explained_variance")),
        loss_recovered=_number(metrics.get("loss_recovered")),
        dead_fraction=_number(metrics.get("dead_fraction")),
        neuronpedia_id=flat.get("neuronpedia_id"),
        path=path,
        version=_version(path) + reading.version,
        processing=reading.processing,
        problem=problem,
    )


def _config_problem(path: Path, flat: dict[str, Any], hook_name: object) -> str | None:
    missing = [name for name in ("d_in", "d_sae") if not isinstance(flat.get(name), int)]
    if not isinstance(hook_name, str):
        missing.append("hook_name")
    if not flat.get("model_name"):
        missing.append("model_name")
    if missing:
        return f"{path / CONFIG} does not say {', '.join(missing)}; save the SAE with sae_lens."
    return None


def _weights_problem(path: Path) -> str | None:
    weights = path / WEIGHTS
    if not weights.is_file():
        return f"{weights} is missing; save the SAE again with sae.save_model."
    stat = weights.stat()
    return _cached_weights_problem(weights, stat.st_mtime_ns, stat.st_size)


def _version(path: Path) -> str:
    files = [path / CONFIG, path / WEIGHTS, path / SCALER_FILE, path / WHITENING_FILE]
    stats = [file.stat() for file in files if file.is_file()]
    return " ".join(f"{stat.st_mtime_ns}:{stat.st_size}" for stat in stats)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _read_json(path: Path) -> tuple[dict[str, Any], str | None]:
    """An object from a JSON file, or `{}` and what is wrong with the file."""
    try:
        stat = path.stat()
    except OSError as error:
        return {}, f"{path} cannot be read: {error.strerror}."
    return _cached_json(path, stat.st_mtime_ns, stat.st_size)


# Keyed by time and size as well, so that an edited file is read again and others are not.
@lru_cache(maxsize=4096)
def _cached_json(path: Path, mtime_ns: int, size: int) -> tuple[dict[str, Any], str | None]:
    if size > MAX_CONFIG_BYTES:
        return {}, f"{path} has {size} bytes; a config is smaller than {MAX_CONFIG_BYTES}."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        return {}, f"{path} is not readable JSON: {error}."
    if not isinstance(content, dict):
        return {}, f"{path} holds a {type(content).__name__}, not an object."
    return content, None


@lru_cache(maxsize=4096)
def _cached_weights_problem(path: Path, mtime_ns: int, size: int) -> str | None:
    return safetensors_problem(path)
