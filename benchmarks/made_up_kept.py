"""What the runs on a made-up release kept, read as pages do: bit by bit."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.activations.stored_index import open_index
from core.activations.text_index import make_index
from core.firings.kept import kept_firings
from core.lease import Lease
from core.run.arguments import parser
from core.run.tasks import task_of
from core.settings import Settings
from core.shell import Machine
from core.splitting.map import compute_map
from core.splitting.rows import LabelledSae, decoder_rows


def environment(folder: Path, cache: str) -> dict[str, str]:
    """For a run in the store called `cache`."""
    saes = os.pathsep.join(str(folder / name) for name in ("made-up", "made-up-site"))
    return {"SAE_EXPLORER_SAES": saes, "SAE_EXPLORER_CACHE": str(folder / cache)}


def machine(folder: Path, cache: str) -> Machine:
    """What the commands saw, for reading what they kept."""
    read = Settings.from_environment({**os.environ, **environment(folder, cache)})
    return Machine(replace(read, device="cpu"))


def index_digests(folder: Path, cache: str, words: tuple[str, ...]) -> dict[str, str]:
    """What the firings and the indexes of a run are, bit by bit, read as pages do."""
    found = {}
    here = machine(folder, cache)
    task: Any = task_of(parser().parse_args(words), here)
    wanted = {(*entry.key, entry.version) for entry in task.entries}
    for one in kept_firings(here.store.directory):
        for file in sorted(one.folder.iterdir()) if one.about.sae in wanted else []:
            if file.suffix == ".parquet" or file.name == "totals":
                found[f"{one.folder.name}/{file.name}"] = _digest(file.read_bytes())
    lease = here.engine.lease("docs-small", [entry.key for entry in task.entries])
    for entry, opened in zip(
        task.entries, make_index(lease, here.store, task.request, readers=_Nobody()), strict=True
    ):
        index = open_index(here.store, opened.key)
        assert index is not None
        for name, array in index.to_arrays().items():
            found[f"index of {entry.sae_id}: {name}"] = _digest(np.ascontiguousarray(array).data)
    here.close()
    return found


def map_digests(folder: Path, cache: str, words: tuple[str, ...]) -> dict[str, str]:
    """What the map is, likewise."""
    found = {}
    here = machine(folder, cache)
    task: Any = task_of(parser().parse_args(words), here)
    with here.engine.lease("docs-small", [entry.key for entry in task.entries]).turn() as (_, saes):
        members = zip(task.request.members, saes, strict=True)
        rows = decoder_rows([LabelledSae(member.label, sae) for member, sae in members])
    found_map = compute_map(rows, task.request.config, store=here.store, fit=_nothing)
    for name in ("umap_x", "umap_y", "cluster"):
        found[f"map: {name}"] = _digest(found_map.points[name].to_numpy().tobytes())
    here.close()
    return found


class _Nobody:
    def statistics(self, lease: Lease, reading: Any) -> list:
        """Fails: an index that is kept is not made again."""
        raise AssertionError("this was computed before")


def _nothing(function: str, *args: Any, **settings: Any) -> Any:
    raise AssertionError(f"{function} was asked for, of a map that was computed before")


def _digest(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


def unlike(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of what is not the same in both."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
