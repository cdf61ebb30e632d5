"""Stage 3: train the SAEs with sae_lens' own trainer and save them in its format, fp16 on disk."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save_file
from torch import Tensor

from make_demo.activations import SiteActivations
from make_demo.recipe import BaseRecipe, SaeRecipe
from make_demo.revival import DenseTopK, RevivalPlan, SparseTopK

MODEL_NAME = "docs-small"
_WIDE = 4096
"""From this width on, SAEs take the sparse training step and start from data."""
DATASET = "docstrings of the installed scientific Python packages"


@dataclass(frozen=True)
class SaePlan:
    """One SAE to train."""

    release: str
    """Release it is published under, e.g. `docs-small-res`."""
    sae_id: str
    """Its id within the release."""
    hook_name: str
    """Site it reads and writes."""
    width: int
    """Number of latents, d_sae."""
    k: int
    """Active latents a token."""
    steps: int
    """Optimiser steps."""
    seed: int
    """Initial weights and batches."""
    revival_share: float = 0.75
    """Share of the steps up to which dead latents are started again."""
    shipped: bool = True
    """False for the SAEs that only serve the tuning of docs-small-it."""

    @property
    def residual_layer(self) -> int | None:
        """L of `blocks.L.hook_resid_pre`; None at other sites."""
        match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_pre", self.hook_name)
        return int(match.group(1)) if match else None

    @property
    def folder(self) -> str:
        """Path below the folder of all SAEs."""
        return f"{self.release}/{self.sae_id}"


def sae_plans(recipe: SaeRecipe, base: BaseRecipe) -> list[SaePlan]:
    """All SAEs, by site, so that the activations of a site are gathered once; narrow ones first."""
    d = base.d_model
    n_narrow = max(0, len(recipe.family_multiples) - len(recipe.wide_steps))
    family_steps = (recipe.steps,) * n_narrow + recipe.wide_steps
    family_revival = (recipe.revival_share,) * n_narrow + recipe.wide_revival_shares

    def residual_hook(layer: int) -> str:
        if layer == base.n_layers:
            return f"blocks.{layer - 1}.hook_resid_post"
        return f"blocks.{layer}.hook_resid_pre"

    wide = recipe.residual_multiple * d
    k_of = dict(zip(recipe.tuning_layers, recipe.read_ks, strict=True))
    steps_of = dict.fromkeys(recipe.tuning_layers, recipe.read_steps)
    plans = [
        SaePlan(
            "tuning-only", f"{residual_hook(layer)}_seed{seed}", residual_hook(layer), wide,
            k_of[layer], recipe.tuning_steps, seed, recipe.revival_share, shipped=False,
        )
        for layer in recipe.tuning_layers
        for seed in range(recipe.seed + 101, recipe.seed + 101 + recipe.tuning_saes)
    ]  # fmt: skip
    plans += [
        SaePlan(
            "docs-small-res", residual_hook(layer), residual_hook(layer), wide,
            k_of.get(layer, recipe.k), steps_of.get(layer, recipe.steps), recipe.seed,
            recipe.revival_share,
        )
        for layer in range(base.n_layers + 1)
    ]  # fmt: skip
    plans += [
        SaePlan(
            "docs-small-hook-z", f"blocks.{layer}.hook_z", f"blocks.{layer}.attn.hook_z",
            recipe.attention_multiple * d, recipe.attention_k, recipe.steps, recipe.seed,
            recipe.revival_share,
        )
        for layer in range(base.n_layers)
    ]  # fmt: skip
    site = residual_hook(recipe.family_layer)
    plans += [
        SaePlan(
            "docs-small-res-splitting", f"{site}_{multiple * d}", site, multiple * d,
            recipe.k, steps, recipe.seed + 1, revival,
        )
        for multiple, steps, revival in zip(
            recipe.family_multiples, family_steps, family_revival, strict=True
        )
    ]  # fmt: skip
    sites = list(dict.fromkeys(plan.hook_name for plan in plans))
    return sorted(plans, key=lambda plan: sites.index(plan.hook_name))


def _start_from_data(sae: TopKTrainingSAE, activations: SiteActivations, seed: int) -> None:
    """Decoder directions of a wide SAE are centred activations drawn at random, encoders tied.

    Started from random directions, half of 4,096 latents and three quarters of 8,192 never fired.
    """
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randint(0, len(activations.values), (sae.cfg.d_sae,), generator=rng)
    rows = activations.values[chosen.to(activations.values.device)].float() - activations.mean
    norm = sae.W_dec.norm(dim=-1).mean()
    directions = (rows / rows.norm(dim=-1, keepdim=True)).to(sae.W_dec) * norm
    sae.W_dec.data = directions.detach().clone()
    sae.W_enc.data = directions.detach().T.clone().contiguous()


def batches(activations: SiteActivations, size: int, seed: int) -> Iterator[Tensor]:
    """Endless random batches: float32 [size, d_in]."""
    generator = torch.Generator().manual_seed(seed)
    n = len(activations.values)
    while True:
        rows = torch.randint(0, n, (size,), generator=generator).to(activations.values.device)
        yield activations.values[rows].float()


def train_sae(
    plan: SaePlan, activations: SiteActivations, recipe: SaeRecipe, base: BaseRecipe, *, device: str
) -> TopKTrainingSAE:
    """Train one TopK SAE on centred, rescaled activations; both are folded into the weights."""
    torch.manual_seed(plan.seed)
    metadata = SAEMetadata(
        model_name=MODEL_NAME,
        hook_name=plan.hook_name,
        dataset_path=DATASET,
        context_size=base.context,
        prepend_bos=True,
        exclude_special_tokens=True,
        model_from_pretrained_kwargs={"center_writing_weights": True},
    )
    # Selecting and recomputing pays where the dense product would be much wider than k.
    trained_class = SparseTopK if plan.width >= _WIDE else DenseTopK
    sae = trained_class(
        TopKTrainingSAEConfig(
            d_in=activations.values.shape[1],
            d_sae=plan.width,
            k=plan.k,
            device=device,
            apply_b_dec_to_input=True,
            normalize_activations="expected_average_only_in",
            # hook_z sites are [n_heads, d_head]; batches() already yields them flat.
            reshape_activations="none",
            metadata=metadata,
        )
    )
    sae.b_dec.data = (activations.mean * activations.scale).to(device)
    if plan.width >= _WIDE:
        _start_from_data(sae, activations, plan.seed)
    window = max(25, plan.steps // 20)
    sae.revival = RevivalPlan(every=window, until=int(plan.steps * plan.revival_share))
    samples = plan.steps * recipe.batch
    trainer: SAETrainer[Any, Any] = SAETrainer(
        SAETrainerConfig(
            total_training_samples=samples,
            train_batch_size_samples=recipe.batch,
            lr=recipe.lr,
            lr_end=recipe.lr,  # a constant rate, then the linear decay to zero
            lr_warm_up_steps=min(20, plan.steps // 4),
            lr_decay_steps=plan.steps // 3,
            device=device,
            autocast=plan.width < _WIDE,
            dead_feature_window=window,
            feature_sampling_window=plan.steps + 1,
        ),
        sae,
        batches(activations, recipe.batch, plan.seed),
    )
    # The scale of the centred activations, which the trainer would otherwise take uncentred.
    trainer.activation_scaler.scaling_factor = activations.scale
    return trainer.fit()


def save_sae(sae: TopKTrainingSAE, plan: SaePlan, folder: Path) -> None:
    """Write cfg.json and sae_weights.safetensors (fp16) as sae_lens reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights_path, cfg_path = sae.save_inference_model(folder)
    weights = {name: value.half().contiguous() for name, value in load_file(weights_path).items()}
    save_file(weights, weights_path)
    cfg = json.loads(cfg_path.read_text())
    cfg["dtype"] = "float32"  # computed with in float32; fp16 is only the size on disk
    cfg["device"] = "cpu"
    cfg["normalize_activations"] = "none"
    if plan.hook_name.endswith("hook_z"):
        cfg["reshape_activations"] = "hook_z"
    cfg_path.write_text(json.dumps(cfg, indent=1) + "\n")
