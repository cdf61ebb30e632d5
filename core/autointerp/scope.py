"""Explaining without reading examples: the model itself says what the latent's direction means.

Patch scoping (`core.patch_scoping`) as an explainer: the decoder direction takes the place of a
word in a question about that word. It costs a few short texts of the local model for a latent,
however much text the latent was gathered on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sae_lens import SAE

from core.autointerp.roles import Explained
from core.jobs.progress import Progress
from core.models.hooks import Model
from core.patch_scoping import SweepConfig, sweep, template_prompt
from core.saes import sae_layer


@dataclass(frozen=True)
class ScopeOptions:
    """How the model is asked."""

    template: str = "definition"
    """Name of a template of `core.patch_scoping`."""
    layer: int | None = None
    """Layer before which the word is replaced; None for the SAE's, at least 1."""
    multiples: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0)
    """Norms of the direction, in multiples of the residual stream's around the word."""
    max_new_tokens: int = 25
    """Longest answer, in tokens."""


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
    """The answer that the model is surest of, over all scales; latents without one are left out.

    `raw` holds the answers at all scales, the surest first, and `messages` the question.

    Raises:
        ValueError: latents that do not exist or do not write to the residual stream.
        JobCancelled: through `progress`.
    """
    options = options or ScopeOptions()
    layer = scope_layer(model, sae) if options.layer is None else options.layer
    prompt = template_prompt(model, options.template)
    config = SweepConfig(
        layers=(layer,),
        multiples=options.multiples,
        max_new_tokens=options.max_new_tokens,
        n_controls=0,
    )
    found = sweep(
        model, sae, list(latents), {options.template: prompt}, config, progress=progress
    ).table.sort_values("mean_log_prob", ascending=False, kind="stable")
    explained = {}
    for latent in latents:
        answers = [str(text) for text in found.loc[found["latent"] == latent, "answer"]]
        told = [" ".join(text.split()) for text in answers]
        said = [text for text in dict.fromkeys(told) if any(map(str.isalnum, text))]
        if said:
            messages = [{"role": "user", "content": prompt.text}]
            explained[latent] = Explained(said[0], messages, tuple(said))
    return explained
