"""How the engine gets its objects; tests hand it others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from core.catalog.entries import ModelEntry, SaeEntry
from core.engine.input_scale import complete
from core.hub import Progress, download, plan_download


def _fetch(
    entry: SaeEntry | ModelEntry, *, device: str, dtype: str, progress: Progress | None
) -> int:
    """Download what is missing; bytes of memory that the entry will take."""
    sae = isinstance(entry, SaeEntry)
    plan = plan_download(entry, device=device, dtype="float32" if sae else dtype)
    plan.check()
    download(plan, progress=progress)
    return plan.bytes_in_memory


def _load_model(location: str, **options: Any) -> Any:
    from core.models import load_model

    return load_model(location, **options)


def _load_sae(entry: SaeEntry, *, device: str) -> Any:
    from core.saes import load_sae, load_sae_from_disk

    if entry.path is not None:
        return load_sae_from_disk(entry.path, device=device, scaled_later=True)
    return load_sae(entry.release, entry.sae_id, device=device, scaled_later=True)


def _processing_of(sae: Any) -> Mapping[str, bool]:
    from core.models import DEFAULT_PROCESSING, processing_for_sae

    asked = processing_for_sae(sae)
    return {name: flag for name, flag in asked.items() if flag != DEFAULT_PROCESSING[name]}


def _check_fits(sae: Any, model: Any, *, model_name: str | None) -> None:
    from core.saes import check_fits, sae_hook_name

    if sae_hook_name(sae).endswith("hook_mlp_in"):
        # This site is silent until asked for; the model's numbers are the same either way.
        model.set_use_hook_mlp_in(True)
    check_fits(sae, model, model_name=model_name or sae.cfg.metadata.model_name)


def _size_of(value: Any) -> int:
    from core.engine.guard import size_in_bytes

    return size_in_bytes(value)


@dataclass(frozen=True)
class Loaders:
    """The functions through which an engine loads; heavy imports happen inside them."""

    load_model: Callable[..., Any] = _load_model
    """`(location, *, device, dtype, **processing)`: `core.models.load_model`."""
    load_sae: Callable[..., Any] = _load_sae
    """`(entry, *, device)`: a function of `core.saes`, by where the entry lies."""
    processing_of: Callable[[Any], Mapping[str, bool]] = _processing_of
    """`(sae)`: weight processing it asks for, where it is not the default one."""
    check_fits: Callable[..., None] = _check_fits
    """`(sae, model, *, model_name)`: raises ValueError where an SAE does not fit."""
    complete: Callable[..., None] = complete
    """`(sae, model, *, store, progress)`: what an SAE needs that only its model can tell."""
    fetch: Callable[..., int | None] = _fetch
    """`(entry, *, device, dtype, progress)`: downloads, returns bytes of memory if known."""
    size_of: Callable[[Any], int] = _size_of
    """`(object)`: its bytes."""
