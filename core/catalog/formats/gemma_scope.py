"""Gemma Scope: params.npz, and Gemma Scope 2: config.json with params.safetensors.

    f = h where h > threshold, h = x W_enc + b_enc        x' = f W_dec + b_dec

b_dec is not taken off the input. params.npz does not name the site: it is in the path, which is
kept as the publisher has it (`gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_68`). Not read
are transcoders, and SAEs of the embeddings, which were trained before the model scales those.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.catalog.formats import sites
from core.catalog.formats.archives import array_shapes, load_arrays
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
from core.catalog.formats.tensors import check_tensors

if TYPE_CHECKING:
    from torch import Tensor

NAME, NAME_2 = "gemma_scope", "gemma_scope_2"
CONFIG, WEIGHTS, WEIGHTS_2 = "config.json", "params.npz", "params.safetensors"

_REPOSITORY = re.compile(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)(?![a-z])")
_REPOSITORY_2 = re.compile(r"gemma-scope-2-(270m|1b|4b|12b|27b)-(pt|it)(?![a-z])")
_SITES = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
_SITES_2 = {"resid_post": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "attn.hook_z"}
_MODULES_2 = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    "post_feedforward_layernorm.output": "hook_mlp_out",
}
_ARCHITECTURE_2 = "jump_relu"
_NAMES = {"w_enc": "W_enc", "w_dec": "W_dec"}


def files(path: Path) -> tuple[Path, ...]:
    """Files whose change is a change of the SAE."""
    return path / WEIGHTS, path / WEIGHTS_2, path / CONFIG


def describe(path: Path) -> Description:
    """The SAE in a folder with params.npz, from the headers of its arrays and its path."""
    model_name, hook_name = _from_path(path)
    shapes, problem = array_shapes(path / WEIGHTS)
    return _described(path, NAME, path / WEIGHTS, shapes, problem, model_name, hook_name)


def describe_2(path: Path) -> Description:
    """The SAE in a folder with params.safetensors, from its config, header and path."""
    weights = path / WEIGHTS_2
    if not weights.exists():
        return Description(
            NAME_2, problem=f"{weights} is missing ({NAME_2}); copy the weights there."
        )
    cfg, problem = read_object(path / CONFIG) if (path / CONFIG).exists() else ({}, None)
    model_name, hook_name = _from_path_2(path, cfg)
    if problem is None and cfg.get("architecture", _ARCHITECTURE_2) != _ARCHITECTURE_2:
        problem = (
            f"{path / CONFIG} ({NAME_2}) names the architecture {quote(cfg['architecture'])}, which"
            f" is not read; only {_ARCHITECTURE_2} is."
        )
    if problem is None and re.search(r"transcoder|clt|crosscoder", str(path)):
        problem = (
            f"{path} ({NAME_2}) is a transcoder, which is read only as sae_lens lists it; choose"
            " it under the published SAEs, or an SAE of resid_post, mlp_out or attn_out."
        )
    shapes, damage = tensor_shapes(weights)
    return _described(path, NAME_2, weights, shapes, problem or damage, model_name, hook_name)


def _described(
    path: Path,
    label: str,
    weights: Path,
    shapes: Shapes,
    problem: str | None,
    model_name: str | None,
    hook_name: str | None,
) -> Description:
    said_of = sites.read_user_settings(path)
    model_name = said_of.model_name or model_name or said_of.model_above or ""
    hook_name = said_of.hook_name or hook_name
    rows = shapes.get("w_enc", ())
    d_in, d_sae = (positive_int(rows[0]), positive_int(rows[1])) if len(rows) == 2 else (None, None)
    if problem is None:
        wanted = _tensors(d_in or 0, d_sae or 0)
        problem = shapes_problem(weights, shapes, wanted, ("scaling_factor",))
    problem = problem or (_kind_problem(path) if label == NAME else None)
    missing = sites.missing_problem(
        path, label, said_of, model_name=model_name, hook_name=hook_name
    )
    if missing is not None:
        missing = missing.removesuffix(".") + (
            ", or keep the path as published (gemma-scope-2b-pt-res/layer_5/width_16k/...)."
        )
    return Description(
        label,
        problem=problem or said_of.problem or missing,
        model_name=model_name,
        hook_name=hook_name,
        d_in=d_in,
        d_sae=d_sae,
        architecture="jumprelu",
        dataset="monology/pile-uncopyrighted",
        context_size=1024,
    )


def _tensors(d_in: int, d_sae: int) -> Shapes:
    shapes: Shapes = {"w_enc": (d_in, d_sae), "w_dec": (d_sae, d_in)}
    return shapes | {"b_enc": (d_sae,), "b_dec": (d_in,), "threshold": (d_sae,)}


def _kind_problem(path: Path) -> str | None:
    parts = path.absolute().parts
    match = next(filter(None, map(_REPOSITORY.search, reversed(parts))), None)
    if match is not None and match.group(3) == "transcoders":
        return (
            f"{path} ({NAME}) is a transcoder, which is read only as sae_lens lists it; choose it"
            " under the published SAEs."
        )
    if match is not None and "embedding" in parts:
        return (
            f"{path} ({NAME}) reads the embeddings before {match.group(1)} scales them, which is no"
            " site of the model here; choose an SAE of a layer."
        )
    return None


def _from_path(path: Path) -> tuple[str | None, str | None]:
    parts = path.absolute().parts
    match = next(filter(None, map(_REPOSITORY.search, reversed(parts))), None)
    if match is None:
        return None, None
    size, tuning, kind = match.groups()
    model_name = f"gemma-2-{size}-it" if tuning == "it" else f"gemma-2-{size}"
    layer = _layer(parts)
    site = _SITES.get(kind)
    return model_name, f"blocks.{layer}.{site}" if site and layer is not None else None


def _from_path_2(path: Path, cfg: dict[str, Any]) -> tuple[str | None, str | None]:
    parts = path.absolute().parts
    match = next(filter(None, map(_REPOSITORY_2.search, reversed(parts))), None)
    # Configs write gemma-v3-1b-pt; the hub's 270m base model has no ending.
    named = (name_of(cfg.get("model_name")) or "").removeprefix("google/").replace("-v3", "-3")
    if not named and match is not None:
        named = f"gemma-3-{match.group(1)}-{match.group(2)}"
    # Who trained SAEs in this format on a model of their own names it as it is.
    model_name = f"google/{named}" if named.startswith("gemma-") else named or None
    if model_name and "270m" in model_name:
        model_name = model_name.removesuffix("-pt")
    inside = re.fullmatch(r"model\.layers\.(\d{1,4})\.(.+)", str(cfg.get("hf_hook_point_in")))
    if inside is not None:
        site = _MODULES_2.get(inside.group(2))
        return model_name, f"blocks.{int(inside.group(1))}.{site}" if site else None
    layer = _layer(parts)
    for name, site in _SITES_2.items():
        if layer is not None and any(re.match(rf"{name}(?![a-z])", part) for part in parts):
            return model_name, f"blocks.{layer}.{site}"
    return model_name, None


def _layer(parts: tuple[str, ...]) -> int | None:
    found = (re.match(r"layer_(\d{1,4})(?!\d)", part) for part in reversed(parts))
    return next((int(match.group(1)) for match in found if match), None)


def load(path: Path, description: Description) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Config entries and float32 tensors in sae_lens' names.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; with the remedy.
    """
    import torch

    if description.file_format == NAME:
        weights, tensors = path / WEIGHTS, load_arrays(path / WEIGHTS)
    else:
        from safetensors.torch import load_file

        weights = path / WEIGHTS_2
        tensors = load_file(weights)
    wanted = _tensors(description.d_in or 0, description.d_sae or 0)
    given = check_tensors(weights, tensors, wanted, ("scaling_factor",))
    factor = tensors.get("scaling_factor")
    if factor is not None and not torch.allclose(factor.float(), torch.ones(())):
        raise ValueError(
            f"{weights} holds a scaling_factor other than 1, which Gemma Scope does not have; fold"
            " it into w_dec and save the file without it."
        )
    state = {_NAMES.get(name, name): tensor for name, tensor in given.items()}
    return {"apply_b_dec_to_input": False}, state
