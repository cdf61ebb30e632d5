"""At which site, and under which weights, does a model have what an SAE was trained on?

sae_lens says of some published SAEs that they read a site at which transformer_lens has another
tensor, and of some sites the tensor depends on how the weights were processed. The rules for both
are here, and only here: the catalog applies them to configs, `core.saes` to what it loads, and
`core.models.processing_for_sae` to what it is given.

Sources. Gemma Scope 2: the publisher's config.json of a transcoder names the output of
`pre_feedforward_layernorm`, gain included, which is `mlp.hook_in` of a model whose norms are not
folded; sae_lens says `hook_mlp_in`, which is the stream before that norm. Gemma Scope 1: its
transcoders were trained with that gain folded into the MLP (arXiv 2408.05147v2, p. 18, and the
repository's README), so that `ln2.hook_normalized`, which has no gain either way, is right.
dictionary_learning reads the modules of Hugging Face, whose weights are not centred.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.catalog.model_folders import model_type

_HF_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)(?:\.(.+))?$")
_HF_SITES = {
    "": "hook_resid_post",
    "output": "hook_resid_post",
    "input": "hook_resid_pre",
    "self_attn.o_proj.input": "attn.hook_z",
    "pre_feedforward_layernorm.input": "hook_resid_mid",
    "pre_feedforward_layernorm.output": "mlp.hook_in",
    "post_feedforward_layernorm.output": "hook_mlp_out",
}
"""Places of a Hugging Face block that published configs name, at transformer_lens' sites."""

_AFTER_GAIN = re.compile(
    r"(?:ln1|ln2|ln_final)\.hook_out$|mlp\.hook_in$|mlp\.(?:in|gate)\.hook_in$"
    r"|attn\.hook_in$|attn\.[qkv]\.hook_in$"
)
"""Sites behind a norm's gain: folding the norms takes the gain out of them."""

_BEFORE_VALUE_BIAS = re.compile(r"attn\.hook_(?:z|v|result)$")
"""Sites from which folding the value biases takes these biases."""

RAW_LOADERS = ("dictionary_learning_1",)
"""Loaders of SAEs that were trained on Hugging Face's own weights."""
RAW_RELEASES = (
    "pythia-70m-deduped-res-sm",
    "pythia-70m-deduped-mlp-sm",
    "pythia-70m-deduped-att-sm",
)
"""Releases in sae_lens' format that were trained by dictionary_learning."""
_LAYER_NORM_TYPES = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt")
"""Types of models whose writing weights can be centred, which is what changes their stream."""


@dataclass(frozen=True)
class Reading:
    """Where and how an SAE is read."""

    hook_name: str | None
    """Site that holds what it was trained to read."""
    hook_name_out: str | None
    """Site that a transcoder was trained to predict; None for others."""
    processing: tuple[tuple[str, object], ...]
    """Weight processing that it asks for, as sae_lens' `model_from_pretrained_kwargs`, sorted."""
    corrected: str | None = None
    """What its config says instead, in a few words; None where that is right."""
    version: str = ""
    """Part of whatever identifies results; not empty where its config alone would mislead."""


DEFAULT_PROCESSING: dict[str, bool] = {
    "fold_ln": True,
    "center_writing_weights": True,
    "center_unembed": True,
    "fold_value_biases": True,
    "refactor_factored_attn_matrices": False,
}
"""What transformer_lens does to weights by default; each can be given to `load_model`."""


def reading_of(
    config: Mapping[str, Any],
    *,
    folder: Path | None = None,
    loader: str | None = None,
    release: str | None = None,
) -> Reading:
    """How an SAE is read, from its flat config (`hook_name`, `model_name`, `architecture`, ...).

    Args:
        config: what the config or the metadata says; `hf_hook_name` and `hf_hook_name_out` are
            the publisher's own words for the places and go before `hook_name`.
        folder: the SAE's folder, from which a relative `model_name` is looked for.
        loader: sae_lens' loader of a published SAE; None for its own format.
        release: release of a published SAE.
    """
    kind = model_type(_text(config.get("model_name")), folder)
    said, said_out = _text(config.get("hook_name")), _text(config.get("hook_name_out"))
    is_transcoder = said_out is not None or "transcoder" in str(config.get("architecture", ""))
    hook = _site(config.get("hf_hook_name")) or said
    hook_out = (_site(config.get("hf_hook_name_out")) or said_out) if is_transcoder else said_out
    if is_transcoder and (kind or "").startswith("gemma3") and hook is not None:
        hook = re.sub(r"(?<=\.)hook_mlp_in$", "mlp.hook_in", hook)
    kwargs = config.get("model_from_pretrained_kwargs")
    given: dict[str, Any] = dict(kwargs) if isinstance(kwargs, Mapping) else {}
    asked = dict(given)
    if (loader in RAW_LOADERS or release in RAW_RELEASES) and kind in _LAYER_NORM_TYPES:
        asked.setdefault("center_writing_weights", False)
    if hook is not None and not asked.get("no_processing"):
        for name, flag in site_processing(hook, asked).items():
            asked.setdefault(name, flag)
    corrected, version = None, ""
    if hook != said and said is not None:
        corrected = f"its config says {said}, where the model has another tensor"
    if corrected or asked != given:
        added = sorted(set(asked) - set(given))
        version = " ".join(["", str(hook), *(f"{name}={asked[name]}" for name in added)])
    if kind == "gpt_oss":
        version += " value biases stay"  # results from before `core.models` left them alone
    return Reading(hook, hook_out, tuple(sorted(asked.items())), corrected, version)


def weights_asked(processing: Mapping[str, Any]) -> dict[str, bool]:
    """What of an SAE's `model_from_pretrained_kwargs` changes weights, where it is not the default.

    SAEs for which that is the same can be used with one model.
    """
    none = bool(processing.get("no_processing"))
    found = {
        name: bool(processing.get(name, value and not none))
        for name, value in DEFAULT_PROCESSING.items()
    }
    return {name: flag for name, flag in found.items() if flag != DEFAULT_PROCESSING[name]}


def site_processing(hook_name: str, asked: Mapping[str, Any]) -> dict[str, bool]:
    """Weight processing that a site needs to hold what Hugging Face's model has there.

    `asked` is what the SAE's config says. sae_lens trains on unprocessed weights and then writes
    `center_writing_weights: False` there, so with that the value biases are left where they are.
    """
    needed = {}
    if _AFTER_GAIN.search(hook_name):
        needed["fold_ln"] = False
    if _BEFORE_VALUE_BIAS.search(hook_name) and asked.get("center_writing_weights") is False:
        needed["fold_value_biases"] = False
    return needed


def _site(hf_name: object) -> str | None:
    """transformer_lens' site of a place that a publisher names as Hugging Face does."""
    match = _HF_LAYER.search(hf_name) if isinstance(hf_name, str) else None
    site = None if match is None else _HF_SITES.get(match.group(2) or "")
    return None if match is None or site is None else f"blocks.{match.group(1)}.{site}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
