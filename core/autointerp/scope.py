"""Explaining without reading examples: the model itself says what the latent's direction means.

Patch scoping (`core.patch_scoping`) as an explainer: the decoder direction takes the place of a
word in a question about that word. It costs a few short texts of the local model for a latent,
however much text the latent was gathered on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.autointerp.roles import Explained
from core.jobs.progress import Progress
from core.models.hooks import Model
from core.patch_scoping.choice import By, choose
from core.patch_scoping.injection import unit_directions
from core.patch_scoping.prompt import template_prompt
from core.patch_scoping.sweep import SweepConfig, sweep_directions
from core.saes import sae_layer


@dataclass(frozen=True)
class ScopeOptions:
    """How the model is asked."""

    template: str = "definition"
    """Name of a template of `core.patch_scoping`."""
    layers: tuple[int, ...] = ()
    """Layers before which the word is replaced; none for the SAE's, at least 1."""
    multiples: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0)
    """Norms of the direction, in multiples of the residual stream's around the word."""
    max_new_tokens: int = 25
    """Longest answer, in tokens."""
    by: By = "surest"
    """Which of the answers counts; see `core.patch_scoping.choice.choose`."""


def scope_layer(model: Model, sae: SAE) -> int:
    """The SAE's layer, within those that the model can be patched before."""
    layer = sae_layer(sae)
    return min(max(1 if layer is None else layer, 1), model.cfg.n_layers - 1)


def scope_explanations(
    model: Model,
    sae: SAE,
    latents: Sequence[int],
    *,
    options: ScopeOptions | None = None,
    progress: Progress | None = None,
) -> dict[int, Explained]:
    """What the model says of each latent; latents that it says nothing about are left out.

    Raises:
        ValueError: latents that do not exist or do not write to the residual stream.
        JobCancelled: through `progress`.
    """
    options = options or ScopeOptions()
    layers = options.layers or (scope_layer(model, sae),)
    directions = unit_directions(model, sae, latents)
    table, question = scope_directions(
        model, list(latents), directions, layers, options=options, progress=progress
    )
    return explained_by(table, question, options.by)


def scope_directions(
    model: Model,
    names: Sequence[int],
    directions: Float[Tensor, "n d_model"],
    layers: Sequence[int],
    *,
    options: ScopeOptions | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, str]:
    """What the model says of unit directions: the table of a sweep, and the question as it read it.

    `layers` are those before which the word is replaced. Raises as `scope_explanations`.
    """
    options = options or ScopeOptions()
    prompt = template_prompt(model, options.template)
    config = SweepConfig(
        layers=tuple(layers),
        multiples=options.multiples,
        max_new_tokens=options.max_new_tokens,
        n_controls=0,
    )
    prompts = {options.template: prompt}
    swept = sweep_directions(model, names, directions, prompts, config, progress=progress)
    return swept.table, prompt.text


def explained_by(table: pd.DataFrame, question: str, by: By) -> dict[int, Explained]:
    """One answer for each latent of a sweep's table; latents without a word said are left out.

    `raw` holds all different answers, the chosen one first and then the surest first; `messages`
    the question.
    """
    told = table.assign(answer=[" ".join(str(it).split()) for it in table["answer"]])
    told = told[[any(map(str.isalnum, it)) for it in told["answer"]]]
    if told.empty:
        return {}
    chosen = choose(told.reset_index(drop=True), by, per=("latent",))
    surest = told.sort_values("mean_log_prob", ascending=False, kind="stable")
    explained = {}
    for latent, text in zip(chosen["latent"].astype(int), chosen["answer"], strict=True):
        others = surest.loc[surest["latent"] == latent, "answer"]
        raw = tuple(dict.fromkeys([text, *others]))
        explained[latent] = Explained(text, [{"role": "user", "content": question}], raw)
    return explained
