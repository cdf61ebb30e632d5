"""dictionary_learning: config.json and ae.pt (github.com/saprmarks/dictionary_learning).

    AutoEncoder            f = relu(W (x - bias) + b)                     x' = D f + bias
    AutoEncoderNew         f = relu(W x + b)                              x' = D f + b_decoder
    AutoEncoderTopK        f = the k largest of relu(W (x - b_dec) + b)   x' = D f + b_dec
    BatchTopKSAE, Matryoshka…  f = h where h > threshold, h = relu(W (x - b_dec) + b)
    JumpReluAutoEncoder    f = h where h > threshold, h = W x + b
    GatedAutoEncoder       f = [W c + b_gate > 0] relu(exp(r) W c + b_mag), c = x - b_decoder

A norm factor in the config needs nothing: the library scales the biases back when it saves.
sae_lens' own loader reads `AutoEncoderNew` without a decoder bias and every site as the residual
stream after the layer, so the mapping is written out here.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.catalog.formats import sites
from core.catalog.formats.archives import load_torch_file, torch_file_problem
from core.catalog.formats.description import Description
from core.catalog.formats.reading import (
    Shapes,
    name_of,
    positive_int,
    quote,
    read_object,
    sizes_problem,
)
from core.catalog.formats.tensors import check_tensors

if TYPE_CHECKING:
    from torch import Tensor

NAME = "dictionary_learning"
CONFIG, WEIGHTS = "config.json", "ae.pt"

_ARCHITECTURES = {
    "AutoEncoder": "standard",
    "AutoEncoderNew": "standard",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "jumprelu",
    "MatryoshkaBatchTopKSAE": "jumprelu",
    "JumpReluAutoEncoder": "jumprelu",
    "GatedAutoEncoder": "gated",
}
_NO_INPUT_BIAS = ("AutoEncoderNew", "JumpReluAutoEncoder")
_BUFFERS = ("k", "threshold", "group_sizes", "active_groups")
"""Tensors that say how to train or to select, and are no weights."""
_NAMED_SITES = (
    (r"resid(?:ual)?_(?:post|out)", "hook_resid_post"),
    (r"resid(?:ual)?_(?:pre|in)", "hook_resid_pre"),
    (r"att(?:ention|n)_out", "hook_attn_out"),
    (r"mlp_out", "hook_mlp_out"),
)


def files(path: Path) -> tuple[Path, ...]:
    """Files whose change is a change of the SAE."""
    return path / CONFIG, path / WEIGHTS


def describe(path: Path) -> Description:
    """The SAE in the folder `path` from its config; its weights are not loaded."""
    cfg, problem = read_object(path / CONFIG)
    if not (path / CONFIG).exists():
        problem = f"{path} ({NAME}) has {WEIGHTS} but no {CONFIG}; copy the one saved with it."
    trainer, buffer = _part(cfg, "trainer"), _part(cfg, "buffer")
    dict_class = str(trainer.get("dict_class")).rstrip("'>").rsplit(".", 1)[-1]
    said_of = sites.read_user_settings(path)
    lm_name = name_of(trainer.get("lm_name"))
    model_name = said_of.model_name or lm_name or said_of.model_above
    model_name = model_name or sites.model_from_path(path) or ""
    hook_name, site_problem = said_of.hook_name, None
    if hook_name is None:
        hook_name, site_problem = _site(path, trainer, buffer, model_name)
    problem = (
        problem
        or said_of.problem
        or _config_problem(path, trainer, dict_class)
        or _weights_problem(path)
        or site_problem
        or sites.missing_problem(path, NAME, said_of, model_name=model_name, hook_name=hook_name)
    )
    return Description(
        NAME,
        problem=problem,
        model_name=model_name,
        hook_name=hook_name,
        d_in=positive_int(trainer.get("activation_dim")),
        d_sae=positive_int(trainer.get("dict_size")),
        architecture=_ARCHITECTURES.get(dict_class, dict_class[:60]),
        context_size=positive_int(buffer.get("ctx_len")),
        processing=sites.NO_CENTRING,
        details={
            "dict_class": dict_class,
            "k": positive_int(trainer.get("k")),
            "module": None if said_of.hook_name else name_of(trainer.get("submodule_name")),
        },
    )


def _part(cfg: dict[str, Any], name: str) -> dict[str, Any]:
    part = cfg.get(name)
    return part if isinstance(part, dict) else {}


def _config_problem(path: Path, trainer: dict[str, Any], dict_class: str) -> str | None:
    if not trainer:
        return f"{path / CONFIG} has no trainer entry; copy the config.json saved with {WEIGHTS}."
    if dict_class not in _ARCHITECTURES:
        return (
            f"{path / CONFIG} ({NAME}) names the class {quote(trainer.get('dict_class'))}, which is"
            f" not read; {', '.join(_ARCHITECTURES)} are."
        )
    return sizes_problem(path / CONFIG, trainer, ("activation_dim", "dict_size"))


def _weights_problem(path: Path) -> str | None:
    if (path / WEIGHTS).exists():
        return torch_file_problem(path / WEIGHTS)
    others = sorted(file.name for file in path.glob("ae_*.pt"))[:3]
    found = f" (it has {', '.join(others)}: rename the one you want)" if others else ""
    return f"{path} ({NAME}) has no {WEIGHTS}{found}; copy the weights there."


def _site(
    path: Path, trainer: dict[str, Any], buffer: dict[str, Any], model_name: str
) -> tuple[str | None, str | None]:
    """Site that the config names, or None and why that one cannot be read."""
    layer, module = trainer.get("layer"), trainer.get("submodule_name")
    reads = buffer.get("io", "out")
    if reads not in ("out", "in"):
        return None, (
            f"{path} ({NAME}) reads one tensor and writes another (io {quote(reads)}): it is no"
            " SAE; transcoders are read in sae_lens' format."
        )
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < 10_000:
        return None, None
    if module is None:
        return f"blocks.{layer}.hook_resid_{'post' if reads == 'out' else 'pre'}", None
    hook, named = None, re.search(r"(?:layer)?[._]?(\d{1,4})$", str(module))
    for pattern, site in _NAMED_SITES:
        if re.fullmatch(rf"{pattern}(?:[._]?(?:layer)?[._]?\d{{1,4}})?", str(module)):
            hook = f"blocks.{int(named.group(1)) if named else layer}.{site}"
    hook = hook or sites.site_of_module(str(module))
    if hook is None or reads == "in" or (hook.startswith("blocks.") and f".{layer}." not in hook):
        return None, (
            f"{path / CONFIG} ({NAME}) names the site {quote(module)} of layer {layer}"
            f" ({reads}put), which is no site known here; say it as hook_name in"
            f" {path / sites.SIDECAR}."
        )
    problem = sites.module_problem(str(module), hook, model_name)
    return hook, None if problem is None else f"{path} ({NAME}): {problem}"


def load(path: Path, description: Description) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Config entries and float32 tensors in sae_lens' names.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; with the remedy.
    """
    import torch

    weights = load_torch_file(path / WEIGHTS)
    dict_class = description.details["dict_class"]
    d_in, d_sae = description.d_in or 0, description.d_sae or 0
    buffers = {name: weights.pop(name) for name in _BUFFERS if name in weights}
    if dict_class in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):
        wanted: Shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}
        wanted |= {"b_enc": (d_sae,), "b_dec": (d_in,)}
    else:
        wanted = {"encoder.weight": (d_sae, d_in), "decoder.weight": (d_in, d_sae)}
        if dict_class == "GatedAutoEncoder":
            wanted |= dict.fromkeys(("gate_bias", "mag_bias", "r_mag"), (d_sae,))
        else:
            wanted["encoder.bias"] = (d_sae,)
        wanted[_decoder_bias(dict_class)] = (d_in,)
    given = check_tensors(path / WEIGHTS, weights, wanted)
    transposed = {"encoder.weight": "W_enc", "decoder.weight": "W_dec"}
    names = {"encoder.bias": "b_enc", "gate_bias": "b_gate", "mag_bias": "b_mag"}
    names[_decoder_bias(dict_class)] = "b_dec"
    state = {
        transposed.get(name, names.get(name, name)): tensor.T.contiguous()
        if name in transposed
        else tensor
        for name, tensor in given.items()
    }
    entries: dict[str, Any] = {"apply_b_dec_to_input": dict_class not in _NO_INPUT_BIAS}
    if description.architecture == "topk":
        entries["k"] = _k(path, buffers.get("k"), description.details["k"], d_sae)
    if description.architecture == "jumprelu":
        threshold = buffers.get("threshold")
        # A BatchTopK SAE has -1 there until it has measured one.
        lowest = -torch.inf if dict_class == "JumpReluAutoEncoder" else 0.0
        if (
            threshold is None
            or threshold.numel() not in (1, d_sae)
            or float(threshold.min()) < lowest
        ):
            raise ValueError(
                f"{path / WEIGHTS} holds no threshold for {d_sae} latents, without which"
                f" {dict_class} works on whole batches only; save it after threshold_start_step."
            )
        state["threshold"] = threshold.float().flatten() * torch.ones(d_sae)
    return entries, state


def _decoder_bias(dict_class: str) -> str:
    names = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}
    return names.get(dict_class, "decoder_bias" if dict_class == "GatedAutoEncoder" else "b_dec")


def _k(path: Path, stored: "Tensor | None", configured: int | None, d_sae: int) -> int:
    # The config was written before training, which may have lowered k since: the weights know.
    k = int(stored) if stored is not None and stored.numel() == 1 else configured
    if k is None or not 1 <= k <= d_sae:
        raise ValueError(
            f"{path} gives k as {quote(k)}; it must be between 1 and the {d_sae} latents, so"
            " correct it in config.json."
        )
    return k
