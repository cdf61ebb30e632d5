"""Is this SAE of a kind that the explorer shows? Asked of SAEs and of what their loaders give."""

import os
from typing import Any

import torch
from sae_lens import SAE, TrainingSAE
from sae_lens.loading.pretrained_sae_loaders import (
    NAMED_PRETRAINED_SAE_LOADERS,
    PretrainedSaeHuggingfaceLoader,
    get_conversion_loader_name,
)
from sae_lens.registry import SAE_CLASS_REGISTRY
from sae_lens.saes.topk_sae import TopK
from torch import Tensor, nn

from core.catalog.sae_config import NORMALISATIONS, config_problem, whole_number
from core.catalog.sae_kinds import TRAINING_ONLY, architecture_problem, dashboard_problem

_UNSAFE_ENVIRONMENT = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def check_kind(sae: SAE, *, where: str = "The SAE") -> None:
    """Raise ValueError, with the remedy, unless the explorer shows such SAEs.

    `where` begins the sentence. Nothing is computed: this is asked wherever an SAE comes in.
    """
    architecture = sae.cfg.architecture()
    if isinstance(sae, TrainingSAE) and architecture not in ("abstopk", *TRAINING_ONLY):
        raise ValueError(
            f"{where} is still in training ({type(sae).__name__}); write it for use with "
            "sae.save_inference_model(folder) and load that folder."
        )
    problem = architecture_problem(architecture)
    problem = problem or dashboard_problem(sae.cfg.metadata.neuronpedia_id)
    if problem is not None:
        raise ValueError(f"{where} {problem}")
    if type(sae) is not SAE_CLASS_REGISTRY[architecture][0]:
        raise ValueError(
            f"{where} is a {type(sae).__name__}, which computes something of its own; give "
            f"sae_lens' {SAE_CLASS_REGISTRY[architecture][0].__name__}."
        )
    if not isinstance(sae.activation_fn, nn.ReLU | TopK):
        raise ValueError(
            f"{where} has the activation function {sae.activation_fn!r}, under which latents might "
            "fire below 0; give an SAE with a ReLU or TopK."
        )
    k = getattr(sae.cfg, "k", None)
    if k is not None and not whole_number(k, 1, sae.cfg.d_sae):
        raise ValueError(
            f"{where} has k {k!r} and {sae.cfg.d_sae} latents; k must be a whole number from 1 to "
            f"{sae.cfg.d_sae}. Correct k in its cfg.json."
        )
    if sae.cfg.normalize_activations not in NORMALISATIONS:
        raise ValueError(
            f"{where} normalises its input by {sae.cfg.normalize_activations!r}, which is not "
            f"known; it must be one of {', '.join(NORMALISATIONS)}."
        )


def check_numbers(sae: SAE, *, where: str) -> None:
    """Raise ValueError for weights that are not finite, or a decoder that divides by zero."""
    for name, parameter in sae.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"{name} in {where} holds NaN or infinity; save the SAE again.")
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        silent = torch.nonzero(sae.W_dec.norm(dim=-1) == 0)
        if len(silent):
            raise ValueError(
                f"The decoder row of latent {int(silent[0])} in {where} is all zeros, and this SAE "
                "divides by its length (rescale_acts_by_decoder_norm), which makes every "
                "reconstruction NaN; take that latent out, or give it a direction."
            )


def checked_loader(release: str, sae_id: str) -> PretrainedSaeHuggingfaceLoader:
    """sae_lens' loader for a release, with the config checked that it finds there.

    Some of these loaders read pickles. torch only takes tensors out of them, as nothing else may be
    asked of a file that others have written; where the environment switches that off, nothing is
    loaded at all.
    """
    load = NAMED_PRETRAINED_SAE_LOADERS[get_conversion_loader_name(release)]

    def loader(
        repo_id: str,
        folder_name: str,
        device: str,
        force_download: bool,
        cfg_overrides: dict[str, Any] | None,
    ) -> tuple[dict[str, Any], dict[str, Tensor], Tensor | None]:
        _check_unpickling()
        config, weights, sparsity = load(
            repo_id=repo_id,
            folder_name=folder_name,
            device=device,
            force_download=force_download,
            cfg_overrides=cfg_overrides,
        )
        problem = config_problem(config)
        if problem is not None:
            raise ValueError(f"{sae_id} of {release} {problem}")
        return config, weights, sparsity

    return loader


def _check_unpickling() -> None:
    if os.environ.get(_UNSAFE_ENVIRONMENT, "0").lower() in ("1", "y", "yes", "true"):
        raise ValueError(
            f"{_UNSAFE_ENVIRONMENT} is set, under which weights of others could run code while "
            "they are loaded; unset it and start again."
        )
