"""Load a language model as transformer_lens presents it, ready to be looked into.

Models are `SAETransformerBridge`s in compatibility mode: the weights of Hugging Face, processed as
`HookedSAETransformer.from_pretrained` processes them, under the hook names that SAEs use. Running
them with hooks is in `core.models.hooks`, whose functions can be imported from here as well.
"""

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from sae_lens import SAE
from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge
from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES

from core.catalog.model_names import official_name
from core.catalog.trained_sites import DEFAULT_PROCESSING, site_processing
from core.device import DTYPES, choose_device, is_out_of_memory
from core.models.fallback import load_hooked_transformer
from core.models.folder import check_model_folder
from core.models.hooks import (
    HookFunction,
    Model,
    cache_sites,
    check_tokens,
    context_length,
    has_hook,
    hook_width,
    hooks_at,
    layer_of_hook,
    resolve_hook_name,
    run_layers,
    run_with_replacements,
    site_shape,
)

__all__ = [
    "DEFAULT_PROCESSING",
    "NO_PROCESSING",
    "HookFunction",
    "Model",
    "cache_sites",
    "check_tokens",
    "context_length",
    "has_hook",
    "hook_width",
    "hooks_at",
    "layer_of_hook",
    "load_model",
    "processing_for_sae",
    "resolve_hook_name",
    "run_layers",
    "run_with_replacements",
    "site_shape",
]

logger = logging.getLogger(__name__)

_VALUE_BIASES_STAY = ("GptOssForCausalLM",)
"""Architectures whose grouped value biases transformer_lens 3.9 folds wrongly: the model would
compute something else (`tests/test_trained_sites.py` tells)."""

_MISREAD = ("CohereForCausalLM", "Cohere2ForCausalLM", "HunYuanDenseV1ForCausalLM")
"""Architectures of which transformer_lens 3.9 computes something else than Hugging Face, whatever
is done to the weights (`tests/test_model_families.py` tells)."""

NO_PROCESSING: dict[str, bool] = dict.fromkeys(DEFAULT_PROCESSING, False)
"""The weights as Hugging Face has them: `load_model(name, **NO_PROCESSING)`."""


def load_model(
    name_or_path: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    backend: Literal["auto", "bridge", "hooked"] = "auto",
    default_prepend_bos: bool = True,
    **processing: bool,
) -> Model:
    """A model with its tokenizer, in eval mode, with frozen parameters.

    Args:
        name_or_path: a name of transformer_lens ("gpt2-small"), a hub repository, or a folder as
            `save_pretrained` writes it, with weights as safetensors.
        device: "cpu", "cuda", "cuda:1", "mps"; by default CUDA where there is one.
        dtype: float32 unless said otherwise.
        backend: "bridge" is a `SAETransformerBridge`, "hooked" a `HookedSAETransformer`; "auto"
            is a bridge unless the bridge cannot process that architecture's weights.
        default_prepend_bos: whether `to_tokens` puts BOS in front when it is not told.
        processing: flags of `DEFAULT_PROCESSING` to change; see `processing_for_sae`.

    Raises:
        ValueError: unknown name, device, dtype or flag; a folder that lacks something.
        Errors of huggingface_hub pass through; `core.hub` puts them into words.
    """
    unknown = sorted(set(processing) - set(DEFAULT_PROCESSING))
    if unknown:
        raise ValueError(
            f"Unknown weight processing {', '.join(unknown)}; use {', '.join(DEFAULT_PROCESSING)}."
        )
    if backend not in ("auto", "bridge", "hooked"):
        raise ValueError(f"Unknown backend {backend!r}; use 'auto', 'bridge' or 'hooked'.")
    name = _checked_name(name_or_path)
    flags = {**DEFAULT_PROCESSING, **processing}
    options: dict[str, Any] = {
        "device": choose_device(str(device) if device is not None else "auto"),
        "dtype": _torch_dtype(dtype),
    }
    model: Model | None = None
    if backend != "hooked":
        model = _load_bridge(name, flags, **options)
    if model is None and backend == "bridge":
        raise ValueError(f"The bridge cannot process the weights of {name}; use backend='auto'.")
    if model is None:
        if backend == "auto":
            logger.warning("No bridge for %s: loading it as HookedSAETransformer.", name)
        model = load_hooked_transformer(name, flags, **options)
    model.cfg.default_prepend_bos = default_prepend_bos
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def processing_for_sae(sae: SAE) -> dict[str, bool]:
    """Weight processing under which the activations are those the SAE was trained on.

    That of transformer_lens by default, changed where the SAE's metadata says so
    (`model_from_pretrained_kwargs`, for example `{"center_writing_weights": False}`) or its site
    needs it (the input of an MLP holds the norm's gain only while that is not folded). Options
    there that are not about weights are left out. To be given on: `load_model(name, **flags)`.
    """
    asked = sae.cfg.metadata.model_from_pretrained_kwargs or {}
    flags = {
        **DEFAULT_PROCESSING,
        **site_processing(str(sae.cfg.metadata.hook_name), asked),
    }
    if asked.get("no_processing"):
        flags = dict(NO_PROCESSING)
    return {name: bool(asked.get(name, value)) for name, value in flags.items()}


def _load_bridge(
    name: str, flags: dict[str, bool], *, device: str, dtype: torch.dtype
) -> SAETransformerBridge | None:
    """The model as a bridge in compatibility mode; None when the bridge does not do that one."""
    with _family_errors(name):
        model = SAETransformerBridge.boot_transformers(name, device=device, dtype=dtype)
    architecture = getattr(model.cfg, "architecture", None)
    if architecture in _MISREAD:
        raise ValueError(
            f"transformer_lens computes other numbers than Hugging Face for {name} "
            f"({architecture}), so nothing read from it would be right; choose another model."
        )
    if not getattr(model.adapter, "supports_compatibility_mode", True):
        return None
    if architecture in _VALUE_BIASES_STAY:
        flags = {**flags, "fold_value_biases": False}
    with _family_errors(name):
        if any(flags.values()):
            model.enable_compatibility_mode(disable_warnings=True, **flags)
        else:
            model.enable_compatibility_mode(disable_warnings=True, no_processing=True)
        # Some variants load and then do not run: better said now than at the first text.
        with torch.no_grad():
            model(torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device))
    return model


@contextmanager
def _family_errors(name: str) -> Iterator[None]:
    """Turn what transformer_lens says of models that it does not know into a sentence."""
    try:
        yield
    except ValueError as error:
        if "Could not determine supported architecture" not in str(error):
            raise
        raise ValueError(
            f"transformer_lens does not support the architecture of {name}; choose a decoder "
            "language model such as GPT-2, Pythia, Llama, Gemma or Qwen."
        ) from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ValueError(
            f"transformer_lens cannot take {name} apart, of whose family it supports other "
            f"variants ({reason}); choose another model."
        ) from error


def _checked_name(name_or_path: str | Path) -> str:
    """The hub repository or folder to load from, with everything that is known to be missing."""
    name = str(name_or_path)
    folder = Path(name).expanduser()
    known = official_name(name)
    if known is not None and not isinstance(name_or_path, Path):
        return known
    if folder.is_dir():
        check_model_folder(folder)
        return str(folder)
    if isinstance(name_or_path, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ValueError(f"There is no folder {name}; give a folder with config.json and weights.")
    if "/" not in name:
        names = {alias for aliases in MODEL_ALIASES.values() for alias in aliases}
        names.update(OFFICIAL_MODEL_NAMES)
        close = difflib.get_close_matches(name, names, n=4, cutoff=0.6)
        remedy = f"Close to it: {', '.join(close)}." if close else "Names look like 'gpt2-small'."
        raise ValueError(
            f"transformer_lens knows no model {name!r}. {remedy} A hub repository is given as "
            "'owner/name', a folder by its path."
        )
    return name


def _torch_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    if dtype is None:
        return torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) and dtype in DTYPES else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"Unknown dtype {dtype!r}; use one of {', '.join(DTYPES)}.")
    return found
