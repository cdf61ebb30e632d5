"""TopK training that puts dead latents back to work.

A wide SAE has more latents than a short training finds use for: of 16,384, two thirds never fired.
Every so often those that have stopped firing start again as the error of an activation that the
SAE reconstructs badly (neuron resampling, Bricken et al. 2023, appendix "Neuron resampling"), so
that each begins with something to explain. sae_lens' auxiliary loss goes on in between.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from sae_lens.saes.topk_sae import TopKTrainingSAE
from torch import Tensor
from typing_extensions import override

from make_demo.fast_topk import FastTopKTrainingSAE

_SHARE_OF_BATCH = 0.5
"""At most this share of a batch's activations become directions at once; the worst come first."""
_ENCODER_GAIN = 0.8
"""How much of the error a fresh latent explains; 1 would take over what its neighbours do well."""


@dataclass(frozen=True)
class RevivalPlan:
    """When dead latents start again."""

    every: int
    """Steps between revivals."""
    until: int
    """Step after which there is none, so that the last ones can settle."""


class _RevivesDead(TopKTrainingSAE):
    """Adds the revival to whichever training step comes after it in the inheritance order."""

    revival: RevivalPlan | None = None

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        plan, step = self.revival, step_input.n_training_steps
        if plan is not None and 0 < step <= plan.until and step % plan.every == 0:
            revive(self, step_input.sae_in, step_input.dead_neuron_mask)
        return super().training_forward_pass(step_input)


class DenseTopK(_RevivesDead, TopKTrainingSAE):
    """The library's step, for narrow SAEs."""


class SparseTopK(_RevivesDead, FastTopKTrainingSAE):
    """The sparse step, for wide SAEs."""


@torch.no_grad()
def revive(
    sae: TopKTrainingSAE, sae_in: Float[Tensor, "batch d_in"], dead: Bool[Tensor, " d_sae"] | None
) -> int:
    """Point dead latents at the largest errors of this batch; how many were revived.

    Their decoder norm is the mean of the living latents', their bias zero.
    """
    if dead is None or not bool(dead.any()) or bool(dead.all()):
        return 0
    errors = sae_in - sae(sae_in)
    sizes = errors.norm(dim=-1)
    n_revived = min(int(dead.sum()), int(_SHARE_OF_BATCH * len(errors)))
    # Drawn rather than ranked: the worst of all are often alike.
    rows = torch.multinomial(sizes.pow(2) + 1e-12, n_revived)
    latents = dead.nonzero().flatten()[torch.randperm(int(dead.sum()))[:n_revived]]
    directions = errors[rows] / sizes[rows, None].clamp(min=1e-8)
    norm = sae.W_dec[~dead].norm(dim=-1).mean()
    sae.W_dec[latents] = (directions * norm).to(sae.W_dec)
    sae.W_enc[:, latents] = (directions * _ENCODER_GAIN / norm).T.to(sae.W_enc)
    sae.b_enc[latents] = 0.0
    return n_revived
