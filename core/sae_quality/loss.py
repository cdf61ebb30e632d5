"""What does the model lose when an SAE's version of its site takes the site's place?

Beside the SAE stand the two floors that are in use: zeros, and the mean of the site on the text.
Against zeros nearly anything looks good at sites with a large mean; the mean is the stricter floor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.fit_check.loss import site_replaced
from core.fit_check.sums import Figure, draws, figure
from core.models.hooks import Model, run_with_replacements
from core.saes import read_at_site, reconstruct

ARMS = ("model", "sae", "zero", "mean")
"""What stands at the site: its own activations, the SAE's version, zeros, the text's mean."""


@dataclass(frozen=True)
class LossFigures:
    """Losses in nats a token, with 95 % intervals by bootstrap over rows."""

    n_tokens: int
    """Predictions that were summed."""
    model: Figure
    """Cross-entropy as the model is."""
    sae: Figure
    """With the SAE's version in place."""
    zero: Figure
    """With zeros in place."""
    mean: Figure
    """With the text's mean in place."""
    kl_sae: Figure
    """KL divergence of the predictions with the SAE from those of the model."""
    kl_zero: Figure
    """With zeros."""
    kl_mean: Figure
    """With the mean."""
    recovered_zero: Figure
    """(zeros − SAE) / (zeros − model); NaN where zeros do no harm."""
    recovered_mean: Figure
    """(mean − SAE) / (mean − model); NaN where the mean does no harm."""


@torch.no_grad()
def loss_sums(
    model: Model,
    sae: SAE,
    tokens: Int[Tensor, "rows pos"],
    mask: Bool[Tensor, "rows pos"],
    hook_name: str,
    hook_out: str,
    mean: Float[Tensor, " d_out"],
) -> Float[np.ndarray, "rows 8"]:
    """Of each row: losses of `ARMS`, KL divergences of the last three from the first, and the
    number of predictions.

    Only positions of `mask` are replaced, and only predictions of tokens that count are summed.
    """
    at = mask.to(tokens.device)

    def version(read: Tensor, site: Tensor) -> Tensor:
        return reconstruct(sae, read)

    def zeros(read: Tensor, site: Tensor) -> Tensor:
        return torch.zeros_like(read_at_site(sae, site))

    def average(read: Tensor, site: Tensor) -> Tensor:
        part = read_at_site(sae, site)
        return mean.to(part).reshape(part.shape[2:]).expand_as(part)

    clean = _log_probabilities(model, tokens, {})
    counts = mask[:, 1:].to(tokens.device).double()
    losses, divergences = [_loss(clean, tokens, counts)], []
    for make in (version, zeros, average):
        replaced = site_replaced(sae, at, hook_name, hook_out, make)
        other = _log_probabilities(model, tokens, replaced)
        losses.append(_loss(other, tokens, counts))
        kl = F.kl_div(other, clean, reduction="none", log_target=True).sum(-1)
        divergences.append((kl.double() * counts).sum(1))
    return torch.stack([*losses, *divergences, counts.sum(1)], 1).cpu().numpy()


def loss_figures(parts: Sequence[Float[np.ndarray, "rows 8"]]) -> LossFigures | None:
    """The figures of all rows; None where nothing was predicted."""
    sums = np.concatenate(parts) if parts else np.zeros((0, 8))
    sums = sums[sums[:, 7] > 0]
    if len(sums) == 0:
        return None
    samples = draws(len(sums)) @ sums
    totals = sums.sum(0)

    def shown(of: Callable[[np.ndarray], np.ndarray]) -> Figure:
        with np.errstate(divide="ignore", invalid="ignore"):
            return figure(float(of(totals[None])[0]), of(samples), rows=len(sums))

    def per_token(column: int) -> Figure:
        return shown(lambda sums: sums[:, column] / sums[:, 7])

    def recovered(floor: int) -> Figure:
        return shown(
            lambda sums: (
                (sums[:, floor] - sums[:, 1])
                / np.where(sums[:, floor] > sums[:, 0], sums[:, floor] - sums[:, 0], np.nan)
            )
        )

    return LossFigures(
        n_tokens=int(totals[7]),
        model=per_token(0),
        sae=per_token(1),
        zero=per_token(2),
        mean=per_token(3),
        kl_sae=per_token(4),
        kl_zero=per_token(5),
        kl_mean=per_token(6),
        recovered_zero=recovered(2),
        recovered_mean=recovered(3),
    )


def _log_probabilities(
    model: Model, tokens: Tensor, replaced: dict[str, Callable[[Tensor], Tensor]]
) -> Tensor:
    return run_with_replacements(model, tokens, replaced)[:, :-1].float().log_softmax(-1)


def _loss(log_probabilities: Tensor, tokens: Tensor, counts: Tensor) -> Tensor:
    own = log_probabilities.gather(2, tokens[:, 1:, None].long())[..., 0]
    return -(own.double() * counts).sum(1)
