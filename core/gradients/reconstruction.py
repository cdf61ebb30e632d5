"""How faithfully SAEs stand in for the activations that a gradient is taken through."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from core.gradients.sparse import SparseTensor

POOR_RELATIVE_ERROR = 0.5
"""A reconstruction that misses more than this share of the activations' norm is called poor."""
POOR_MISMATCH = 0.25
"""So is one under which this share of the later latents appears or disappears."""


@dataclass(frozen=True)
class SaeFit:
    """How well one SAE reconstructs its site on the prompt, a BOS in front of it left out.

    BOS is an attention sink whose norm dwarfs all others; alone, it counts. The first token of a
    prompt without BOS counts: the SAE was trained on such positions.
    """

    relative_error: float
    """Norm of the error over norm of the activations."""
    explained_variance: float
    """1 - squared error over squared distance from the mean of all positions; NaN for one."""


@dataclass(frozen=True)
class ReconstructionReport:
    """Whether gradients of reconstructed latents speak for the true ones."""

    n_true: int
    """Later latents active on the clean prompt, counted once a position."""
    n_reconstructed: int
    """Those active once the earlier site holds its SAE's reconstruction."""
    n_mismatched: int
    """Those active in one of the two only."""
    source: SaeFit
    """Fit of the earlier SAE."""
    target: SaeFit
    """Fit of the later SAE, on clean activations."""

    @property
    def mismatch(self) -> float:
        """Mismatched latents as a share of those active in either; 0 where there are none."""
        either = (self.n_true + self.n_reconstructed + self.n_mismatched) / 2
        return self.n_mismatched / either if either else 0.0

    @property
    def is_poor(self) -> bool:
        """Whether conclusions from this prompt need care."""
        return self.source.relative_error > POOR_RELATIVE_ERROR or self.mismatch > POOR_MISMATCH

    @property
    def warning(self) -> str | None:
        """What is wrong, in a sentence; None when nothing is."""
        if not self.n_reconstructed:
            return "No later latent is active on this prompt, so there is nothing to explain."
        if not self.is_poor:
            return None
        return (
            f"The earlier SAE misses {self.source.relative_error:.0%} of its activations' norm on "
            f"this prompt, and {self.mismatch:.0%} of the later latents appear or disappear with "
            "its reconstruction: the gradients describe that reconstruction rather than the model."
        )


def reconstruction_report(
    acts_next: SparseTensor, acts_next_recon: SparseTensor, *, source: SaeFit, target: SaeFit
) -> ReconstructionReport:
    """Count the later latents that agree; both tensors are [batch, pos, d_sae]."""
    true, recon = acts_next.dense > 0, acts_next_recon.dense > 0
    return ReconstructionReport(
        n_true=int(true.sum()),
        n_reconstructed=int(recon.sum()),
        n_mismatched=int((true ^ recon).sum()),
        source=source,
        target=target,
    )


@torch.no_grad()
def sae_fit(
    activations: Float[Tensor, "batch pos ..."],
    reconstruction: Float[Tensor, "batch pos ..."],
    *,
    n_leading: int = 1,
) -> SaeFit:
    """Fit of a reconstruction to activations of the same site.

    The first `n_leading` positions, BOS, are left out where there are others.
    """
    skip = n_leading if activations.shape[1] > n_leading else 0
    x = activations[:, skip:].flatten(0, 1).flatten(1).double()
    error = (x - reconstruction[:, skip:].flatten(0, 1).flatten(1).to(x)).square().sum()
    spread = (x - x.mean(0)).square().sum()
    return SaeFit(
        relative_error=float((error / x.square().sum()).sqrt()),
        explained_variance=float(1 - error / spread) if len(x) > 1 else float("nan"),
    )
