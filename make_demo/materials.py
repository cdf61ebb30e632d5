"""What several stages of `make demo` need, loaded once, when it is first asked for."""

import logging
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sae_lens import SAE
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from core.models import Model, load_model
from core.saes import load_sae_from_disk
from make_demo.activations import SiteActivations, gather, sample_windows
from make_demo.measure import VectorReader
from make_demo.recipe import Recipe
from make_demo.saes import SaePlan
from make_demo.stages import Stages
from make_demo.vectors import ResidualSample, sample_residuals

logger = logging.getLogger(__name__)


class Materials:
    """Results of earlier stages, as the later ones read them."""

    def __init__(self, recipe: Recipe, stages: Stages, device: torch.device) -> None:
        self.recipe, self.stages, self.device = recipe, stages, device
        self._site: tuple[str, SiteActivations] | None = None

    def path(self, stage: str) -> Path:
        """Folder of a stage's results."""
        return self.stages.path(stage)

    def tokens(self, name: str) -> np.ndarray:
        """Token ids of a text: `train`, `held_out_docstrings` or `held_out_packages`."""
        return np.load(self.path("text") / f"{name}.npy", allow_pickle=False)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer trained on the text."""
        return Tokenizer.from_file(str(self.path("text") / "tokenizer.json"))

    @cached_property
    def processed_base(self) -> Model:
        """The base model as the explorer loads it; the SAEs live in its activations."""
        return load_model(self.path("base") / "model", device=str(self.device))

    def activations(self, hook_name: str) -> SiteActivations:
        """At one site: all sites at once are tens of gigabytes. The last site is kept."""
        if self._site is None or self._site[0] != hook_name:
            self._site = None
            logger.info("gathering activations at %s", hook_name)
            windows = self.windows("train", self.recipe.saes.tokens, seed=11)
            found = gather(self.processed_base, windows.to(self.device), [hook_name])
            self._site = (hook_name, found[hook_name])
        return self._site[1]

    def windows(self, name: str, n_tokens: int, *, seed: int) -> torch.Tensor:
        """Token ids [window, context], drawn from a text by `seed`."""
        context = self.recipe.base.context
        return sample_windows(self.tokens(name), n_tokens=n_tokens, context=context, seed=seed)

    @cached_property
    def residuals(self) -> dict[int, ResidualSample]:
        """The residual stream before each layer that the tuned model reads vectors of."""
        windows = self.windows("train", self.recipe.tune.sample_tokens, seed=13)
        return sample_residuals(
            self.processed_base, windows.to(self.device), self.recipe.tune.layers
        )

    def sae(self, plan: SaePlan) -> SAE:
        """A trained SAE."""
        return load_sae_from_disk(self.path(f"saes/{plan.folder}"), device=str(self.device))

    def hugging_face(self, stage: str) -> GPT2LMHeadModel:
        """The `base` or `tuned` model as plain transformers loads it, in float32."""
        model = GPT2LMHeadModel.from_pretrained(self.path(stage) / "model", dtype=torch.float32)
        return model.eval()

    @cached_property
    def measuring_windows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows of held-out documentation, and of the training text for rare latents."""
        n = self.recipe.saes.tokens
        return (
            self.windows("held_out_docstrings", min(100_000, n), seed=17),
            self.windows("train", min(200_000, n), seed=19),
        )

    @cached_property
    def reader(self) -> VectorReader:
        """The tuned model, asked what vectors mean."""
        model = self.hugging_face("tuned")
        torch.nn.Module.to(model, self.device)
        return VectorReader(model, self.tokenizer)
