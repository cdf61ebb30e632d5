"""How the engine gets its objects; tests hand it others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from core.asking import check_may_fetch, fetching
from core.catalog.entries import ModelEntry, SaeEntry
from core.engine.input_scale import complete
from core.hub import Progress, download, plan_download


def _fetch(
    entry: SaeEntry | ModelEntry,
    *,
    device: str,
    dtype: str,
    progress: Progress | None,
    idle_bytes: int = 0,
) -> int:
    """Download what is missing; bytes of memory that the entry will take."""
    dtype = "float32" if isinstance(entry, SaeEntry) else dtype
    plan = plan_download(entry, device=device, dtype=dtype, idle_bytes=idle_bytes)
    if not plan.complete:
        check_may_fetch(plan.name)
    plan.check()
    with fetching(plan.bytes_to_download) as came:

        def told(done: int, total: int | None, message: str) -> None:
            came(max(0, done - plan.bytes_cached))
            if progress is not None:
                progress(done, total, message)

        download(plan, progress=told)
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


def processing_words(asked: Mapping[str, bool]) -> str:
    """What an SAE asks of its model's weights, to stand in a sentence."""
    words = [f"{'with' if flag else 'without'} {name}" for name, flag in sorted(asked.items())]
    return ", ".join(words) or "as transformer_lens does by default"


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
    """`(entry, *, device, dtype, progress, idle_bytes)`: downloads, returns bytes of memory if
    known; `idle_bytes` are loaded and unloaded where the room is needed."""
    size_of: Callable[[Any], int] = _size_of
    """`(object)`: its bytes."""
