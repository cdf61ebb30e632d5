"""sparsify: cfg.json and sae.safetensors (github.com/EleutherAI/sparsify, once called sae).

    f = the k largest of relu(W (x - b_dec) + b)        x' = f W_dec + b_dec

The folder's name is the module that was read, as Hugging Face names it (`layers.10`,
`layers.5.mlp`); config.json in the folder above says which model. b_dec is always taken off the
input; `normalize_decoder` and `multi_topk` only matter in training. sae_lens' disk loader is not
used: it takes b_dec off only where the decoder is not normalised, turns W_dec, and rounds all to
bfloat16.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.catalog.formats import sites
from core.catalog.formats.description import Description
from core.catalog.formats.reading import (
    name_of,
    positive_int,
    quote,
    read_object,
    shapes_problem,
    sizes_problem,
    tensor_shapes,
)
from core.catalog.formats.tensors import check_tensors

if TYPE_CHECKING:
    from torch import Tensor

NAME = "sparsify"
CONFIG, WEIGHTS, RUN = "cfg.json", "sae.safetensors", "config.json"

_REFUSED = {
    "transcode": "is a TopK transcoder, for which sae_lens has no class",
    "skip_connection": "adds a linear map of its input, for which sae_lens has no SAE class",
    "embed_skip": "adds a map of the embeddings, which is no part of an SAE here",
    "gram_lookup": "works on what a table of n-grams leaves over, which is not at hand here",
    "signed": "takes the largest latents of either sign, which TopK here does not",
}
"""Flags that change what the SAE computes, with why each is not read."""
_SEED = re.compile(r"seed\d+")


def files(path: Path) -> tuple[Path, ...]:
    """Files whose change is a change of the SAE."""
    return path / CONFIG, path / WEIGHTS, _hookpoint(path).parent / RUN


def describe(path: Path) -> Description:
    """The SAE in the folder `path` from its config and the header of its weights."""
    cfg, problem = read_object(path / CONFIG)
    if not (path / CONFIG).exists():
        problem = f"{path} ({NAME}) has {WEIGHTS} but no {CONFIG}; copy the one saved with it."
    run_file = _hookpoint(path).parent / RUN
    run = read_object(run_file)[0] if run_file.exists() else {}
    said_of = sites.read_user_settings(path)
    model_name = said_of.model_name or name_of(run.get("model")) or said_of.model_above
    model_name = model_name or sites.model_from_path(path) or ""
    module = _hookpoint(path).name
    hook_name = said_of.hook_name or sites.site_of_module(module)
    d_in, d_sae = positive_int(cfg.get("d_in")), _latents(cfg)
    k = positive_int(cfg.get("k"))
    problem = (
        problem
        or said_of.problem
        or _config_problem(path, cfg, d_sae, k)
        or _weights_problem(path, d_in or 0, d_sae or 0)
        or (None if said_of.hook_name else _site_problem(path, module, hook_name, model_name))
        or sites.missing_problem(path, NAME, said_of, model_name=model_name, hook_name=hook_name)
    )
    return Description(
        NAME,
        problem=problem,
        model_name=model_name,
        hook_name=hook_name,
        d_in=d_in,
        d_sae=d_sae,
        architecture="topk",
        dataset=name_of(run.get("dataset")),
        context_size=positive_int(run.get("ctx_len")),
        processing=sites.NO_CENTRING,
        details={"k": k, "module": None if said_of.hook_name else module},
    )


def _hookpoint(path: Path) -> Path:
    """The folder whose name is the module: with several seeds, the one above."""
    return path.parent if _SEED.fullmatch(path.name) else path


def _latents(cfg: dict[str, Any]) -> int | None:
    if cfg.get("num_latents"):
        return positive_int(cfg["num_latents"])
    d_in, factor = positive_int(cfg.get("d_in")), positive_int(cfg.get("expansion_factor"))
    return None if d_in is None or factor is None else positive_int(d_in * factor)


def _config_problem(
    path: Path, cfg: dict[str, Any], d_sae: int | None, k: int | None
) -> str | None:
    config = path / CONFIG
    sizes = sizes_problem(config, cfg, ("d_in",))
    if sizes is not None:
        return sizes
    if d_sae is None:
        return (
            f"{config} ({NAME}) gives num_latents as {quote(cfg.get('num_latents'))} and"
            f" expansion_factor as {quote(cfg.get('expansion_factor'))}; one of them must be a"
            " whole number from 1."
        )
    if k is None or k > d_sae:
        return (
            f"{config} ({NAME}) gives k as {quote(cfg.get('k'))}; it must be between 1 and the"
            f" {d_sae} latents, so correct it there."
        )
    if cfg.get("activation", "topk") != "topk":
        return (
            f"{config} ({NAME}) names the activation {quote(cfg['activation'])}, which is not read;"
            " only topk is."
        )
    for flag, why in _REFUSED.items():
        if cfg.get(flag):
            return f"{path} ({NAME}) {why} ({flag} in {CONFIG}); choose a plain TopK SAE."
    return None


def _weights_problem(path: Path, d_in: int, d_sae: int) -> str | None:
    weights = path / WEIGHTS
    if not weights.exists():
        return f"{weights} is missing ({NAME}); copy the weights there."
    shapes, problem = tensor_shapes(weights)
    return problem or shapes_problem(weights, shapes, _tensors(d_in, d_sae))


def _tensors(d_in: int, d_sae: int) -> dict[str, tuple[int, ...]]:
    rows = (d_sae, d_in)
    return {"encoder.weight": rows, "encoder.bias": (d_sae,), "W_dec": rows, "b_dec": (d_in,)}


def _site_problem(path: Path, module: str, hook_name: str | None, model_name: str) -> str | None:
    if hook_name is not None:
        problem = sites.module_problem(module, hook_name, model_name)
        return None if problem is None else f"{path} ({NAME}): {problem}"
    if re.match(r"(?:layers|h|blocks)[._]\d", module):
        return (
            f"{path} ({NAME}) reads the module {quote(module)}, whose output is no site known here;"
            f" say it as hook_name in {path / sites.SIDECAR}, or choose an SAE of layers.N,"
            " layers.N.mlp or layers.N.attn."
        )
    return None


def load(path: Path, description: Description) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Config entries and float32 tensors in sae_lens' names.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; with the remedy.
    """
    from safetensors.torch import load_file

    weights = path / WEIGHTS
    wanted = _tensors(description.d_in or 0, description.d_sae or 0)
    given = check_tensors(weights, load_file(weights), wanted)
    state = {
        "W_enc": given["encoder.weight"].T.contiguous(),
        "b_enc": given["encoder.bias"],
        "W_dec": given["W_dec"],
        "b_dec": given["b_dec"],
    }
    return {"k": description.details["k"], "apply_b_dec_to_input": True}, state
