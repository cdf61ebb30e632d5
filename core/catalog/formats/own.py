"""sae_lens' own format: cfg.json and sae_weights.safetensors, as `sae.save_model` writes them.

Configs are read in the current style (a `metadata` object) and in that before version 6
(`hook_point`, `hook_name` at the top level).
"""

from pathlib import Path
from typing import Any

from core.catalog.formats import sites
from core.catalog.formats.description import Description
from core.catalog.formats.reading import (
    Shapes,
    name_of,
    positive_int,
    quote,
    read_object,
    shapes_problem,
    tensor_shapes,
)
from core.catalog.input_scale import SCALER_FILE, WHITENING_FILE, input_scale_problem
from core.catalog.sae_config import MOST_INPUTS, folder_problem, weights_problem, whole_number

NAME = "sae_lens"
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

_UNCHECKED = ("matching_pursuit",)
"""Architectures whose tensors are left for sae_lens to check."""
_OPTIONAL = ("scaling_factor",)
"""Tensors that old files have besides; sae_lens says when they matter."""


def files(path: Path) -> tuple[Path, ...]:
    """Files whose change is a change of the SAE."""
    return path / CONFIG, path / WEIGHTS, path / SCALER_FILE, path / WHITENING_FILE


def describe(path: Path) -> Description:
    """The SAE in the folder `path` from its config and the header of its weights."""
    cfg, problem = read_object(path / CONFIG)
    if not (path / CONFIG).exists():
        problem = f"{path} has {WEIGHTS} but no {CONFIG}; save the SAE again with sae.save_model."
    metadata = cfg.get("metadata")
    flat = {**cfg, **metadata} if isinstance(metadata, dict) else cfg
    hook_name = name_of(flat.get("hook_name") or flat.get("hook_point"))
    model_name = name_of(flat.get("model_name")) or ""
    architecture = flat.get("architecture", "standard")
    problem = (
        problem
        or _missing(path, flat)
        or folder_problem(path, cfg)
        or _names_problem(path, flat, hook_name, model_name)
        or _weights_problem(path, cfg, str(architecture))
        or input_scale_problem(flat, path)
    )
    processing = flat.get("model_from_pretrained_kwargs")
    plain = (str, bool, int, float, type(None))
    asked = processing.items() if isinstance(processing, dict) else ()
    return Description(
        NAME,
        problem=problem,
        model_name=model_name,
        hook_name=hook_name,
        hook_name_out=name_of(flat.get("hook_name_out")),
        hf_hook_name=name_of(flat.get("hf_hook_name")),
        hf_hook_name_out=name_of(flat.get("hf_hook_name_out")),
        head=_head(flat),
        d_in=positive_int(flat.get("d_in")),
        d_sae=positive_int(flat.get("d_sae")),
        architecture=architecture if isinstance(architecture, str) else quote(architecture),
        dataset=name_of(flat.get("dataset_path")),
        context_size=positive_int(flat.get("context_size")),
        neuronpedia_id=name_of(flat.get("neuronpedia_id")),
        processing=tuple(
            sorted((str(key), value) for key, value in asked if isinstance(value, plain))
        ),
        prepend_bos=flat.get("prepend_bos") is not False,
    )


def _head(flat: dict[str, Any]) -> int | None:
    head = flat.get("hook_head_index", flat.get("hook_point_head_index"))
    return head if isinstance(head, int) and whole_number(head, 0, MOST_INPUTS) else None


def _missing(path: Path, flat: dict[str, Any]) -> str | None:
    missing = [name for name in ("d_in", "d_sae") if flat.get(name) is None]
    missing += ["hook_name"] if not (flat.get("hook_name") or flat.get("hook_point")) else []
    missing += [] if flat.get("model_name") else ["model_name"]
    if "transcoder" in str(flat.get("architecture")) and not flat.get("hook_name_out"):
        missing.append("hook_name_out")
    if not missing:
        return None
    return f"{path / CONFIG} does not say {', '.join(missing)}; save the SAE with sae_lens."


def _names_problem(
    path: Path, flat: dict[str, Any], hook_name: str | None, model_name: str
) -> str | None:
    for name, value in (("hook_name", hook_name), ("model_name", model_name)):
        if not value:
            given = flat.get(name) or flat.get("hook_point")
            return (
                f"{path / CONFIG} gives {name} as {quote(given)}; it must be a name, so correct it"
                " there."
            )
    advice = sites.advice_on_module(hook_name or "")
    return None if advice is None else f"{path / CONFIG} {advice}"


def _weights_problem(path: Path, cfg: dict[str, Any], architecture: str) -> str | None:
    weights = path / WEIGHTS
    if not weights.exists():
        return f"{weights} is missing; save the SAE again with sae.save_model."
    shapes, problem = tensor_shapes(weights)
    problem = problem or weights_problem(weights)
    if problem is not None or architecture in _UNCHECKED:
        return problem
    d_in, d_sae = cfg.get("d_in"), cfg.get("d_sae")
    if not isinstance(d_in, int) or not isinstance(d_sae, int):
        return None
    return shapes_problem(weights, shapes, tensors_of(cfg, architecture), _OPTIONAL)


def tensors_of(cfg: dict[str, Any], architecture: str) -> Shapes:
    """Names and shapes of the tensors that sae_lens saves for that architecture and those sizes."""
    d_in, d_sae = cfg["d_in"], cfg["d_sae"]
    d_out = cfg.get("d_out", d_in) if "transcoder" in architecture else d_in
    shapes: Shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_dec": (d_out,)}
    if architecture == "gated":
        return shapes | dict.fromkeys(("b_gate", "b_mag", "r_mag"), (d_sae,))
    shapes["b_enc"] = (d_sae,)
    if "jumprelu" in architecture:
        shapes["threshold"] = (d_sae,)
    if "skip" in architecture:
        shapes["W_skip"] = (d_out, d_in)
    return shapes
