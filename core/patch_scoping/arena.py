"""ARENA's functions: patch scoping of one latent, at one scale or over a range of scales.

A decoder direction takes the place of a word in a question about that word, and the model answers
(Kharlapenko et al. 2024, "Self-explaining SAE features"; after Ghandeharioun et al. 2024,
"Patchscopes"). Whole sweeps are in `core.patch_scoping.sweep`.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.jobs.progress import Progress
from core.models import Model
from core.patch_scoping.diagnostics import diagnose
from core.patch_scoping.generation import complete
from core.patch_scoping.injection import Injection, check_layer, unit_directions
from core.patch_scoping.prompt import scope_prompt
from core.patch_scoping.sampling import Sampling
from core.patch_scoping.scale_ranking import diagnostics_table


def hook_fn_patch_scoping(
    activations: Float[Tensor, "batch pos d_model"],
    hook: Any,
    seq_pos: Sequence[int],
    latent_vector: Float[Tensor, " d_model"],
) -> None:
    """Put `latent_vector` at the positions `seq_pos`, in place, while the prompt is read.

    Tokens that are generated with a KV cache come one at a time (`pos` is 1) and stay as they
    are. The rest of this package uses `core.patch_scoping.injection`, which does a whole batch.
    """
    if activations.shape[1] > 1:
        activations[:, list(seq_pos)] = latent_vector.to(activations)


def generate_patch_scoping_explanation(
    model: Model,
    sae: SAE,
    prompt: str,
    latent_idx: int,
    replacement_layer: int,
    scale: float,
    max_new_tokens: int = 50,
    *,
    temperature: float = 0.5,
    freq_penalty: float = 2.0,
    top_p: float = 1.0,
    seed: int = 0,
    placeholder: str | None = None,
) -> str:
    """The prompt and what the model goes on to say of the latent.

    The latent's decoder direction, of norm `scale`, replaces the residual stream before
    `replacement_layer` wherever the placeholder stands (see `scope_prompt`). Temperature 0 is
    greedy and takes no penalty; the penalty counts the prompt's tokens too, as
    `model.generate` does. The same seed gives the same text.

    Raises:
        ValueError: a latent, layer, placeholder or length that is not there.
    """
    direction = unit_directions(model, sae, [latent_idx])[0]
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        freq_penalty=freq_penalty if temperature else 0.0,
        penalty_counts_prompt=True,
        seed=seed,
    )
    check_layer(model, replacement_layer)
    where = scope_prompt(model, prompt, placeholder=placeholder)
    injection = Injection(where, replacement_layer, direction * scale)
    [[completion]] = complete(
        model, [injection], max_new_tokens=max_new_tokens, stop=None, sampling=sampling
    )
    return prompt + completion.text


def scale_tuning(
    model: Model,
    sae: SAE,
    prompt: str,
    latent_idx: int,
    replacement_layer: int,
    diagnostic_layer: int,
    scales: Sequence[float],
    *,
    derivatives: bool = True,
    placeholder: str | None = None,
    base_norm: float = 1.0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """How the model reacts to the latent at each scale; a row a scale, in the order given.

    Columns: `scale`, `self_similarity`, `first_derivative`, `second_derivative` (of the
    self-similarity with respect to scale; NaN without `derivatives`), `entropy` and
    `cross_entropy` in nats. See `Diagnostics` for what they are and `diagnose` for what is raised.
    """
    directions = unit_directions(model, sae, [latent_idx])
    found = diagnose(
        model,
        scope_prompt(model, prompt, placeholder=placeholder),
        directions,
        scales,
        replacement_layer=replacement_layer,
        diagnostic_layer=diagnostic_layer,
        derivatives=derivatives,
        base_norm=base_norm,
        progress=progress,
    )
    return diagnostics_table(found)
