"""Does an SAE's config say what the explorer computes with, and can it be true?

sae_lens leaves out entries that it does not know and fills in those that are missing, so that a
config can be read as another SAE than was meant. Asked of a config before anything is loaded, where
it is listed and where it is loaded; nothing heavy is imported.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from core.catalog.sae_config_names import names_problem
from core.catalog.sae_kinds import architecture_problem, dashboard_problem, quote

DTYPES = ("float32", "float64", "float16", "bfloat16")
"""Precisions that sae_lens reads, also written with "torch." in front."""
NORMALISATIONS = (
    *("none", "layer_norm", "constant_norm_rescale", "expected_average_only_in"),
    "covariance_whitening",
)
"""What sae_lens knows as `normalize_activations`."""
MOST_INPUTS, MOST_LATENTS = 2**20, 2**28
"""Larger numbers are slips of the pen."""
NEURONPEDIA_ID = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII
)
_FLOATS = {"F64", "F32", "F16", "BF16"}
_IN_METADATA = (
    *("hook_name", "hook_head_index", "hook_head_index_out"),
    *("neuronpedia_id", "model_from_pretrained_kwargs", "prepend_bos"),
)
_YES_OR_NO = ("apply_b_dec_to_input", "rescale_acts_by_decoder_norm")


def config_problem(config: Mapping[str, Any]) -> str | None:
    """What is wrong with the contents of a cfg.json, as the end of a sentence; None if nothing is.

    Both styles of sae_lens are understood: with a `metadata` object, and that before its version 6.
    """
    metadata = config.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        return f"gives metadata as a {type(metadata).__name__}; it must be an object."
    flat = _as_read(config, metadata or {})
    for check in _CHECKS:
        problem = check(flat)
        if problem is not None:
            return problem
    return None


def whole_number(value: object, least: int, most: int) -> bool:
    """Whether a value is a whole number in that range (true and false are none)."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def weights_problem(path: Path) -> str | None:
    """What is wrong with how a whole safetensors file stores numbers; None if nothing is."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for name, tensor in header.items():
        if name != "__metadata__" and str(tensor.get("dtype")) not in _FLOATS:
            return (
                f"{path} stores {name} as {tensor.get('dtype')!s:.60}, and what its numbers stand "
                "for is not known; save the SAE in float32, float16 or bfloat16."
            )
    return None


def _as_read(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that sae_lens reads, on one level."""
    version = config.get("sae_lens_version") or metadata.get("sae_lens_version")
    flat = {**config, "sae_lens_version": version}
    if metadata:
        flat |= {name: metadata.get(name) for name in _IN_METADATA}
    return flat


def _version(flat: Mapping[str, Any]) -> str | None:
    version = flat.get("sae_lens_version")
    try:
        Version(str(version or "6"))
    except InvalidVersion:
        return (
            f"gives sae_lens_version as {quote(version)}; write a version such as '6.0.0', or none."
        )
    if flat.get("metadata") and is_old_style(flat):
        return (
            "has metadata but no sae_lens_version from 6.0.0 up, without which sae_lens does not "
            "read them; add it to metadata."
        )
    return None


def is_old_style(flat: Mapping[str, Any]) -> bool:
    """Whether sae_lens reads a config as one from before its version 6."""
    version = flat.get("sae_lens_version")
    return not version or Version(str(version)) < Version("6.0.0rc0")


def _sizes(flat: Mapping[str, Any]) -> str | None:
    limits = {"d_in": MOST_INPUTS, "d_sae": MOST_LATENTS}
    if "transcoder" in str(flat.get("architecture")):
        limits["d_out"] = MOST_INPUTS
    for name, most in limits.items():
        if not whole_number(flat.get(name), 1, most):
            return (
                f"gives {name} as {quote(flat.get(name))}; it must be a whole positive number (up "
                f"to {most}). Save the SAE again with sae.save_model."
            )
    return None


def _architecture(flat: Mapping[str, Any]) -> str | None:
    if "architecture" not in flat and not is_old_style(flat):
        return (
            "lacks 'architecture'; save the SAE again with sae.save_model, or add the entry, such "
            "as 'standard'."
        )
    problem = architecture_problem(flat.get("architecture", "standard"))
    return problem or dashboard_problem(flat.get("neuronpedia_id"))


def _activation(flat: Mapping[str, Any]) -> str | None:
    """The activation function: named in configs before version 6, and not looked at by sae_lens."""
    named = flat.get("activation_fn_str") or flat.get("activation_fn")
    architecture = flat.get("architecture", "standard")
    kwargs = flat.get("activation_fn_kwargs")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        return f"gives activation_fn_kwargs as {quote(kwargs)}; it must be an object, such as {{}}."
    if (kwargs or {}).get("signed"):
        return (
            "says that the activation is signed: its latents also fire below 0, which the explorer "
            "does not show; choose another SAE."
        )
    is_topk = named == "topk" and (architecture == "topk" or is_old_style(flat))
    if named not in (None, "relu", architecture) and not is_topk:
        return (
            f"names the activation function {quote(named)}, which a {architecture} SAE of sae_lens "
            "does not compute (it takes relu); choose another SAE, or correct the entry if it is "
            "wrong."
        )
    if flat.get("threshold") is not None:
        return (
            "gives a threshold, which sae_lens reads from the weights only; store it there as a "
            "tensor of d_sae numbers with the architecture 'jumprelu', and take it out here."
        )
    return None


def _k(flat: Mapping[str, Any]) -> str | None:
    named = flat.get("activation_fn_str") or flat.get("activation_fn")
    architecture = flat.get("architecture", "standard")
    if architecture in ("standard", "gated") and named != "topk" and flat.get("k") is not None:
        return (
            f"gives k as {quote(flat['k'])}, which a {architecture} SAE does not have; correct the "
            "architecture if it is a TopK SAE, or take k out."
        )
    if architecture != "topk" and named != "topk":
        return None
    k = flat.get("k")
    if is_old_style(flat) and (flat.get("activation_fn_kwargs") or named == "topk"):
        # The k beside it is not read: the SAE would be one with a ReLU.
        k = (flat.get("activation_fn_kwargs") or {}).get("k")
    if not whole_number(k, 1, flat["d_sae"]):
        return (
            f"gives k as {quote(k)}; of {flat['d_sae']} latents, a whole number from 1 to "
            f"{flat['d_sae']} can be active. Correct k."
        )
    return None


def _matching_pursuit(flat: Mapping[str, Any]) -> str | None:
    if flat.get("architecture") != "matching_pursuit":
        return None
    most, threshold = flat.get("max_iterations"), flat.get("residual_threshold", 0.0)
    if most is not None and not whole_number(most, 1, MOST_LATENTS):
        return (
            f"gives max_iterations as {quote(most)}; it must be a whole number from 1 up, or null."
        )
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        return f"gives residual_threshold as {quote(threshold)}; it must be a number."
    return None


def _choices(flat: Mapping[str, Any]) -> str | None:
    old = is_old_style(flat)
    norm = flat.get("normalize_activations", "none")
    if norm not in NORMALISATIONS and not (old and (norm is None or isinstance(norm, bool))):
        return (
            f"gives normalize_activations as {quote(norm)}, which sae_lens does not know; it knows "
            f"{', '.join(NORMALISATIONS)}."
        )
    shape = flat.get("reshape_activations", "none")
    if shape not in ("none", "hook_z"):
        return f"gives reshape_activations as {quote(shape)}; it must be 'none' or 'hook_z'."
    dtype = flat.get("dtype", "float32")
    if not isinstance(dtype, str) or dtype.removeprefix("torch.") not in DTYPES:
        return (
            f"gives dtype as {quote(dtype)}; the explorer reads {', '.join(DTYPES)}. Save the SAE "
            "in one of them."
        )
    if flat.get("apply_b_dec_to_input") is True and "transcoder" in str(flat["architecture"]):
        return (
            "gives apply_b_dec_to_input as True, which a transcoder cannot do, as its b_dec is of "
            "the site that it writes; make it false if that is how it was trained."
        )
    for name in _YES_OR_NO:
        if not isinstance(flat.get(name, False), bool):
            return f"gives {name} as {quote(flat[name])}; it must be true or false."
    return None


def _site(flat: Mapping[str, Any]) -> str | None:
    hook_name = flat.get("hook_name", flat.get("hook_point"))
    if hook_name is not None and not isinstance(hook_name, str):
        return (
            f"gives hook_name as {quote(hook_name)}; it must be the name of one site, such as "
            "'blocks.3.hook_resid_pre'."
        )
    shape = flat.get("reshape_activations")
    if shape == "hook_z" and hook_name is not None and not hook_name.endswith("_z"):
        return (
            f"gives reshape_activations as 'hook_z' for the site {hook_name}; it must be 'none' "
            "there."
        )
    kwargs = flat.get("model_from_pretrained_kwargs")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        return f"gives model_from_pretrained_kwargs as {quote(kwargs)}; it must be an object."
    front = flat.get("prepend_bos")
    if front is not None and not isinstance(front, bool):
        return f"gives prepend_bos as {quote(front)}; it must be true, false or null."
    name = flat.get("neuronpedia_id")
    if name not in (None, "") and not (isinstance(name, str) and NEURONPEDIA_ID.fullmatch(name)):
        return (
            f"gives neuronpedia_id as {quote(name)}; it must be MODEL/SOURCE as on "
            "neuronpedia.org, such as 'gpt2-small/7-res-jb', or null."
        )
    return _head(flat)


def _head(flat: Mapping[str, Any]) -> str | None:
    heads = {name: flat.get(name) for name in ("hook_head_index", "hook_point_head_index")}
    given = {name: head for name, head in heads.items() if head is not None}
    for name, head in given.items():
        if not whole_number(head, 0, MOST_INPUTS):
            return (
                f"gives {name} as {quote(head)}; it must be the number of a head from 0, or null."
            )
    is_transcoder = "transcoder" in str(flat.get("architecture"))
    if is_transcoder and (given or flat.get("hook_head_index_out") is not None):
        return (
            "is a transcoder of single heads, which the explorer does not read; choose one of "
            "whole sites."
        )
    return None


_CHECKS: tuple[Callable[[Mapping[str, Any]], str | None], ...] = (
    *(_version, _architecture, _sizes, _activation, _k, _matching_pursuit, _choices, _site),
)


def folder_problem(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The same as a whole sentence about the SAE in `folder`, whose cfg.json holds `config`."""
    problem = config_problem(config)
    if problem is None:
        metadata = config.get("metadata")
        old_style = is_old_style(_as_read(config, metadata or {}))
        problem = names_problem(config, old_style=old_style)
    if problem is None:
        return None
    is_about_kind = problem.startswith(("is ", "has the architecture "))
    return f"{folder if is_about_kind else folder / 'cfg.json'} {problem}"
