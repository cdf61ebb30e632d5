"""How much variance would random directions explain, as many of them active as the SAE has?"""

import torch
from jaxtyping import Float
from torch import Tensor

_BYTES = 64 << 20


@torch.no_grad()
def random_explained_variance(
    wanted: Float[Tensor, "n d_out"], *, d_sae: int, l0: float, seed: int = 0
) -> float:
    """Variance explained by `d_sae` random directions of which the `l0` with the largest
    projections are active at each position.

    Projections of the centred activations are written back along their directions, all times the
    one factor that serves best, so that the null is not worse than it has to be.

    Raises:
        ValueError: no position, or activations without variance.
    """
    if len(wanted) < 2:
        raise ValueError("There are no two positions to compare; choose a longer text.")
    generator = torch.Generator().manual_seed(seed)
    x = wanted.float() - wanted.float().mean(0)
    directions = torch.randn(d_sae, x.shape[1], generator=generator).to(x)
    directions = directions / directions.norm(dim=1, keepdim=True)
    k = min(d_sae, max(1, round(l0)))
    both = written = total = 0.0
    for some in x.split(max(1, _BYTES // (4 * d_sae))):
        scores = some @ directions.T
        best = scores.topk(k, dim=1)
        sparse = torch.zeros_like(scores).scatter_(1, best.indices, best.values.clamp_min(0))
        reconstruction = sparse @ directions
        both += float((reconstruction * some).double().sum())
        written += float(reconstruction.double().pow(2).sum())
        total += float(some.double().pow(2).sum())
    if total == 0:
        raise ValueError("The activations do not vary over this text; choose another.")
    # The best factor c minimises the sum of (x - c·r)², which is then total - both² / written.
    return both**2 / (written * total) if written else 0.0
