"""SAEs in folders of this machine: the demo bundle and the folders of SAE_EXPLORER_SAES.

`core.catalog.formats` finds and describes them; here they become entries of the catalog. A folder
that cannot be used is listed with the reason.
"""

import os
from pathlib import Path, PurePosixPath

from core.catalog.entries import ReleaseEntry, SaeEntry, Source
from core.catalog.families import layer_of, width_from_names
from core.catalog.formats import (
    FORMATS,
    MAX_DEPTH,
    Place,
    describe,
    find,
    place_at,
    place_of,
    version_of,
)
from core.catalog.formats.own import NAME as OWN
from core.catalog.formats.reading import finite, read_object
from core.catalog.trained_sites import reading_of

METRICS = "metrics.json"


def release_names(folders: tuple[Path, ...]) -> dict[str, Path]:
    """The user's folders by release name: their own, after their parent's where names clash."""
    places = [Path(os.path.realpath(folder)) for folder in folders]  # loops of links included
    names = [place.name for place in places]
    parents = [place.parent.name for place in places]
    return {
        f"{parent}/{name}" if names.count(name) > 1 else name: folder
        for folder, name, parent in zip(folders, names, parents, strict=True)
    }


def user_release(folder: Path, name: str) -> tuple[ReleaseEntry, tuple[SaeEntry, ...]]:
    """One of the user's folders as it is now: an SAE itself, or SAEs at most `MAX_DEPTH` down."""
    entries, problem = tuple[SaeEntry, ...](), None
    if not folder.is_dir():
        problem = f"{folder} is not a folder; correct SAE_EXPLORER_SAES."
    else:
        entries = tuple(
            read_place(place, release=name, sae_id=sae_id_of(folder, place))
            for place in find(folder)
        )
        if not entries:
            formats = "; ".join(
                f"{sae_format.contents} ({sae_format.name})" for sae_format in FORMATS.values()
            )
            problem = (
                f"{folder} holds no SAE in it or at most {MAX_DEPTH} folders down. Save SAEs there "
                f"with sae.save_model(path), or copy a folder of another format there: {formats}."
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


def sae_id_of(folder: Path, place: Place) -> str:
    """Name of an SAE within its release: its path from the release's folder, without `.pt`."""
    path = place.path
    if place.file_format is not None and path.suffix == ".pt":
        path = path.with_suffix("") if path.name.count(".") == 1 else path.parent / path.name[:-3]
    return folder.name if path == folder else path.relative_to(folder).as_posix()


def find_sae(folder: Path, sae_id: str) -> Place | None:
    """The SAE `sae_id` of the release in `folder`, without looking at the others."""
    relative = PurePosixPath(sae_id)
    # Ids come from links: they must not lead anywhere else on the disk.
    if relative.is_absolute() or ".." in relative.parts or "\0" in sae_id:
        return None
    itself = place_of(folder) if sae_id == folder.name else None
    if itself is not None and itself.path == folder and itself.file_format is not None:
        return itself
    return place_at(folder, relative.parts)


def sae_folders(folder: Path) -> list[Path]:
    """Folders below `folder` that hold an SAE, sorted; unreadable and unknown ones left out."""
    return [place.path for place in find(folder) if place.file_format and not place.problem]


def read_sae_folder(
    path: Path, *, release: str, sae_id: str, source: Source = "user", model: str | None = None
) -> SaeEntry:
    """The entry of the SAE in one folder, or of one weight file; see `read_place`."""
    place = place_of(path)
    return read_place(place, release=release, sae_id=sae_id, source=source, model=model)


def read_place(
    place: Place, *, release: str, sae_id: str, source: Source = "user", model: str | None = None
) -> SaeEntry:
    """The entry of one SAE, with a `problem` where it cannot be loaded. Never raises.

    `model` overrides the model that the config names (the demo bundle knows its own).
    """
    version = version_of(place)
    found = describe(place, version)
    reading = reading_of(
        {
            "model_name": found.model_name,
            "hook_name": found.hook_name,
            "hook_name_out": found.hook_name_out,
            "hf_hook_name": found.hf_hook_name,
            "hf_hook_name_out": found.hf_hook_name_out,
            "architecture": found.architecture,
            "model_from_pretrained_kwargs": dict(found.processing),
        },
        folder=place.path,
    )
    folder = place.path if place.path.is_dir() else place.path.parent
    file = folder / METRICS
    metrics = read_object(file)[0] if file.is_file() and place.path == folder else {}
    return SaeEntry(
        release=release,
        sae_id=sae_id,
        model=model or found.model_name,
        source=source,
        hook_name=reading.hook_name,
        layer=_layer(reading.hook_name),
        head=found.head,
        width=found.d_sae or width_from_names(sae_id),
        d_in=found.d_in,
        kind="transcoder" if "transcoder" in (found.architecture or "") else "sae",
        architecture=found.architecture,
        l0=finite(metrics.get("l0")),
        explained_variance=finite(metrics.get("explained_variance")),
        loss_recovered=finite(metrics.get("loss_recovered")),
        dead_fraction=finite(metrics.get("dead_fraction")),
        neuronpedia_id=found.neuronpedia_id,
        conversion=None if found.file_format in ("", OWN) else found.file_format,
        path=place.path,
        version=version + reading.version,
        processing=reading.processing,
        prepend_bos=found.prepend_bos,
        problem=found.problem,
    )


def _layer(hook_name: str | None) -> int | None:
    try:
        return layer_of(hook_name)
    except ValueError:  # thousands of digits
        return None
