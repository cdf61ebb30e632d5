"""What loading an SAE or a model takes: files, bytes, room on the disk and in memory."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from core import device as devices
from core.catalog import model_names
from core.catalog.entries import ModelEntry, SaeEntry
from core.device import format_bytes
from core.hub import files as hub_files
from core.weight_files import count_numbers

DISK_MARGIN = 500_000_000
"""Bytes that a download must leave free on the disk."""
LOAD_COPIES = 2
"""While weights are loaded, the file's tensors and the module's exist side by side."""


@dataclass(frozen=True)
class PlannedFile:
    """One file of a plan."""

    repo_id: str
    """Hub repository."""
    filename: str
    """Path inside it."""
    size: int | None
    """Bytes, where the hub or the cache tells."""
    path: Path | None = None
    """Where it lies on this machine, if it does."""

    @property
    def cached(self) -> bool:
        """Whether it is on this machine already."""
        return self.path is not None


@dataclass(frozen=True)
class DownloadPlan:
    """What loading one model or SAE takes."""

    name: str
    """What is loaded, for people."""
    files: tuple[PlannedFile, ...] = ()
    """Files to have; empty for what lies in a folder of this machine."""
    cache_dir: Path = field(default_factory=Path)
    """huggingface_hub's cache."""
    disk_free: int = 0
    """Bytes free on the disk of the cache."""
    memory_needed: int = 0
    """Bytes needed while loading, on `device`."""
    memory_free: int = 0
    """Bytes free on `device`, with those that unloading what is idle gives back."""
    device: str = "cpu"
    """Device to load to."""
    dtype: str = "float32"
    """Dtype to load in."""
    offline: bool = False
    """Whether HF_HUB_OFFLINE forbids downloading."""

    @property
    def bytes_total(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(file.size or 0 for file in self.files)

    @property
    def bytes_cached(self) -> int:
        """Bytes of it that are here already."""
        return sum(file.size or 0 for file in self.files if file.cached)

    @property
    def bytes_to_download(self) -> int:
        """Bytes still to fetch."""
        return self.bytes_total - self.bytes_cached

    @property
    def bytes_in_memory(self) -> int:
        """Bytes that stay in use once it is loaded."""
        return self.memory_needed // LOAD_COPIES

    @property
    def complete(self) -> bool:
        """Whether nothing has to be downloaded."""
        return all(file.cached for file in self.files)

    @property
    def outdated(self) -> bool:
        """Whether something that was missing has come since; asks nobody."""
        return any(
            isinstance(cached_file(file.repo_id, file.filename), Path)
            for file in self.files
            if not file.cached
        )

    @property
    def problem(self) -> str | None:
        """Why this cannot be done here, with figures, or None."""
        missing = [file.filename for file in self.files if not file.cached]
        if self.offline and missing:
            return (
                f"{self.name} is not in the cache ({', '.join(missing)} missing from "
                f"{self.cache_dir}) and HF_HUB_OFFLINE forbids downloading; unset it."
            )
        if self.bytes_to_download + DISK_MARGIN > self.disk_free and missing:
            return (
                f"{self.name} needs {format_bytes(self.bytes_to_download)} more on the disk of "
                f"{self.cache_dir}, which has {format_bytes(self.disk_free)} free "
                f"({format_bytes(DISK_MARGIN)} must stay free); make room or set HF_HOME elsewhere."
            )
        if self.memory_needed > self.memory_free:
            return (
                f"{self.name} needs about {format_bytes(self.memory_needed)} of memory on "
                f"{self.device} in {self.dtype}, and {format_bytes(self.memory_free)} is free, "
                "idle models unloaded; choose a smaller one, or try again when running tasks end."
            )
        return None

    def check(self) -> None:
        """Raise ValueError with `problem`, if there is one."""
        if self.problem is not None:
            raise ValueError(self.problem)


def plan_download(
    target: SaeEntry | ModelEntry | str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    idle_bytes: int = 0,
) -> DownloadPlan:
    """What loading `target` (an entry, or a model name) takes; asks the hub only for sizes.

    No request is made for what is cached in full, nor with HF_HUB_OFFLINE.

    Args:
        target: SAE, model, or a model name that transformer_lens knows.
        device: where it will live, as `core.device.choose_device` returns it.
        dtype: what it will be loaded in.
        idle_bytes: loaded on `device` and used by nobody: unloaded where the room is needed.

    Raises:
        ValueError: unknown model, or a repository that cannot be read here.
        OSError: the hub refuses or cannot be reached (`explain_hub_error` says what to do).
    """
    if isinstance(target, str):
        target = ModelEntry(name=target, source="hub", repo_id=model_names.hub_repository(target))
    files: tuple[PlannedFile, ...] = ()
    if target.path is not None:
        params, name = _local_numbers(target), str(target.path)
    elif target.repo_id is None:
        raise ValueError(f"{_name(target)} is neither on the hub nor in a folder here.")
    elif isinstance(target, SaeEntry):
        files = _plan_sae(target)
        name, params = _name(target), _numbers(files, bytes_each=4)
    else:
        files, params = _plan_model(target.repo_id)
        name = _name(target)
    from huggingface_hub import constants

    cache_dir = Path(constants.HF_HUB_CACHE)
    return DownloadPlan(
        name=name,
        files=files,
        cache_dir=cache_dir,
        disk_free=_disk_free(cache_dir),
        memory_needed=params * devices.DTYPES[dtype] * LOAD_COPIES,
        memory_free=devices.memory_free(device) + idle_bytes,
        device=device,
        dtype=dtype,
        offline=constants.is_offline_mode(),
    )


def _local_numbers(target: SaeEntry | ModelEntry) -> int:
    """Numbers in the weights of what lies on this machine."""
    path = target.path or Path()
    if isinstance(target, SaeEntry) and target.conversion and target.d_in and target.width:
        # Archives are compressed, or lie beside others: the sizes in the config tell more.
        return (2 * target.d_in + 4) * target.width
    weights = [file for file in path.iterdir() if hub_files.is_weights(file.name)]
    return sum(count_numbers(file) for file in weights)


def _name(target: SaeEntry | ModelEntry) -> str:
    if isinstance(target, SaeEntry):
        return f"SAE {target.sae_id} of {target.release}"
    return f"model {target.name}"


def _numbers(files: tuple[PlannedFile, ...], *, bytes_each: int) -> int:
    """Numbers in the weight files: counted where a file is here, else from its size."""
    return sum(
        count_numbers(file.path) if file.path else (file.size or 0) // bytes_each
        for file in files
        if hub_files.is_weights(file.filename)
    )


def _disk_free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def cached_file(repo_id: str, filename: str) -> Path | bool | None:
    """Path in the cache, False if known not to exist on the hub, None if unknown."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, filename)
    if isinstance(found, str):
        return Path(found)
    return None if found is None else False


def published_file(entry: SaeEntry, name: str) -> Path | None:
    """A file that lies beside an SAE's weights on this machine; None where it does not."""
    if entry.path is not None:
        path = entry.path / name
        return path if path.is_file() else None
    if entry.repo_id is None or entry.repo_path is None:
        return None
    found = cached_file(entry.repo_id, f"{entry.repo_path}/{name}")
    return found if isinstance(found, Path) else None


def _plan_sae(entry: SaeEntry) -> tuple[PlannedFile, ...]:
    repo_id = entry.repo_id or ""
    wanted = hub_files.files_of_sae(entry)
    found = [_plan_file(repo_id, file) for file in wanted]
    return tuple(file for file in found if file is not None)


def _plan_file(repo_id: str, wanted: hub_files.WantedFile) -> PlannedFile | None:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    path = cached_file(repo_id, wanted.filename)
    if isinstance(path, Path):
        size = path.stat().st_size
        return PlannedFile(repo_id=repo_id, filename=wanted.filename, size=size, path=path)
    if path is False and wanted.optional:
        return None
    if constants.is_offline_mode():
        if wanted.optional:
            return None
        return PlannedFile(repo_id=repo_id, filename=wanted.filename, size=None)
    try:
        metadata = get_hf_file_metadata(hf_hub_url(repo_id, wanted.filename))
    except RemoteEntryNotFoundError:
        if wanted.optional:
            return None
        raise
    return PlannedFile(repo_id=repo_id, filename=wanted.filename, size=metadata.size)


def _plan_model(repo_id: str) -> tuple[tuple[PlannedFile, ...], int]:
    """Files of a model repository and its number of parameters, or an upper bound."""
    from huggingface_hub import HfApi, constants

    files = _cached_model(repo_id)
    if files is not None:
        return files, _numbers(files, bytes_each=2)
    if constants.is_offline_mode():
        missing = PlannedFile(repo_id=repo_id, filename="model.safetensors", size=None)
        return (missing,), 0
    info = HfApi().model_info(repo_id, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
    planned = []
    for filename in hub_files.files_of_model(list(sizes)):
        path = cached_file(repo_id, filename)
        here = path if isinstance(path, Path) else None
        size = here.stat().st_size if here else sizes[filename]
        planned.append(PlannedFile(repo_id=repo_id, filename=filename, size=size, path=here))
    stated = info.safetensors.total if info.safetensors else None
    # Weights may be stored in 16 bits: at least two bytes a parameter.
    return tuple(planned), stated or _numbers(tuple(planned), bytes_each=2)


def _cached_model(repo_id: str) -> tuple[PlannedFile, ...] | None:
    """The files of a model whose snapshot in the cache has a config and all its weights."""
    config = cached_file(repo_id, "config.json")
    if not isinstance(config, Path):
        return None
    names = [path.name for path in config.parent.iterdir()]
    try:
        wanted = hub_files.files_of_model(names)
    except ValueError:
        return None
    shards = [name for name in wanted if "-of-" in name]
    if shards and len(shards) != int(shards[0].split("-of-")[1].split(".")[0]):
        return None
    return tuple(
        PlannedFile(
            repo_id=repo_id,
            filename=name,
            size=(config.parent / name).stat().st_size,
            path=config.parent / name,
        )
        for name in wanted
    )
