"""TopK training at the cost of one matrix product over the latents.

sae_lens' TopK trainer builds dense `[batch, d_sae]` activations and gradients of which all but k
entries a row are zero. Here the dense product only *selects* the k latents, in bf16 and without a
graph; their pre-activations are then computed again from the k encoder columns, and the
reconstruction from the k decoder rows. Loss and gradients are the library's (tested against it);
at d_sae = 16,384 a step is several times cheaper.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from sae_lens.saes.topk_sae import TopKTrainingSAE
from torch import Tensor
from typing_extensions import override

_AUX_ROWS = 256
"""Rows of a batch on which dead latents are revived; the full batch would dominate the step."""
_MAX_AUX_LATENTS = 64
"""Dead latents a row that try to explain the residual."""


class FastTopKTrainingSAE(TopKTrainingSAE):
    """`TopKTrainingSAE` with a sparse forward pass for training; everything else is inherited."""

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        sae_in = step_input.sae_in
        with torch.autocast(sae_in.device.type, enabled=False):
            norms = self.W_dec.norm(dim=-1)
            centred = self.process_sae_in(sae_in)
            scores = self._scores(centred, norms)
            chosen = scores.topk(self.cfg.k, dim=-1, sorted=False).indices
            acts = F.relu(self._pre_activations(centred, chosen))
            sae_out = self._decode_chosen(chosen, acts) + self.b_dec
            mse = (sae_out - sae_in).pow(2).sum(-1).mean()
            aux = self._revive_dead(step_input, centred, scores, sae_out)
        sparse = _as_sparse(chosen, acts.detach() * norms.detach()[chosen], self.cfg.d_sae)
        return TrainStepOutput(
            sae_in=sae_in,
            sae_out=sae_out,
            feature_acts=sparse,
            hidden_pre=scores,
            loss=mse + aux,
            losses={"mse_loss": mse, "auxiliary_reconstruction_loss": aux},
        )

    @torch.no_grad()
    def _scores(
        self, centred: Float[Tensor, "batch d_in"], norms: Float[Tensor, " d_sae"]
    ) -> Float[Tensor, "batch d_sae"]:
        """Pre-activations times decoder norms: what TopK ranks by."""
        scores = centred.bfloat16() @ self.W_enc.bfloat16()
        return scores.add_(self.b_enc.bfloat16()).mul_(norms.bfloat16())

    def _pre_activations(
        self, centred: Float[Tensor, "batch d_in"], chosen: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k"]:
        columns = F.embedding(chosen, self.W_enc.T)
        return torch.einsum("bkd,bd->bk", columns, centred) + self.b_enc[chosen]

    def _decode_chosen(
        self, chosen: Int[Tensor, "batch k"], acts: Float[Tensor, "batch k"]
    ) -> Float[Tensor, "batch d_in"]:
        # acts × norm ÷ norm: the library's rescaling by the decoder norm cancels in the output.
        return F.embedding_bag(chosen, self.W_dec, per_sample_weights=acts, mode="sum")

    def _revive_dead(
        self,
        step_input: TrainStepInput,
        centred: Float[Tensor, "batch d_in"],
        scores: Float[Tensor, "batch d_sae"],
        sae_out: Float[Tensor, "batch d_in"],
    ) -> Float[Tensor, ""]:
        """Dead latents reconstruct what the living ones left over (Gao et al. 2024, A.2)."""
        dead = step_input.dead_neuron_mask
        n_dead = int(dead.sum()) if dead is not None else 0
        if n_dead == 0:
            return sae_out.new_zeros(())
        rows = slice(0, _AUX_ROWS)
        residual = (step_input.sae_in - sae_out).detach()[rows]
        candidates = torch.where(dead[None], scores[rows], -torch.inf)
        n_used = min(n_dead, _MAX_AUX_LATENTS)
        chosen = candidates.topk(n_used, dim=-1, sorted=False).indices
        explained = self._decode_chosen(chosen, self._pre_activations(centred[rows], chosen))
        scale = min(n_dead / (self.cfg.d_in // 2), 1.0) * self.cfg.aux_loss_coefficient
        return scale * (explained - residual).pow(2).sum(-1).mean()


def _as_sparse(
    chosen: Int[Tensor, "batch k"], acts: Float[Tensor, "batch k"], d_sae: int
) -> Float[Tensor, "batch d_sae"]:
    """COO tensor of the positive activations, which the trainer counts firings from."""
    rows, places = (acts > 0).nonzero(as_tuple=True)
    indices = torch.stack([rows, chosen[rows, places]])
    return torch.sparse_coo_tensor(indices, acts[rows, places], (len(acts), d_sae))
