"""How much of the model's loss is kept when an SAE's version of its site takes the site's place?"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.fit_check.sums import Figure, draws, figure
from core.models.hooks import Model, run_with_replacements
from core.saes import put_at_site, read_at_site, reconstruct


@torch.no_grad()
def loss_sums(
    model: Model,
    sae: SAE,
    tokens: Int[Tensor, "rows pos"],
    mask: Bool[Tensor, "rows pos"],
    hook_name: str,
    hook_out: str,
) -> Float[np.ndarray, "rows 3 2"]:
    """(sum of losses, number of them) of each row: as it is, with the SAE, with zeros in its place.

    Only positions of `mask` are replaced, and only the prediction of tokens that count is summed.
    `hook_out` is the site that is replaced; a transcoder's differs from the one that it reads.
    """
    at = mask.to(tokens.device)
    with_sae = site_replaced(
        sae, at, hook_name, hook_out, lambda read, site: reconstruct(sae, read)
    )
    with_zeros = site_replaced(
        sae, at, hook_name, hook_out, lambda read, site: torch.zeros_like(read_at_site(sae, site))
    )
    return np.stack([_losses(model, tokens, at, run) for run in ({}, with_sae, with_zeros)], 1)


def site_replaced(
    sae: SAE,
    mask: Bool[Tensor, "rows pos"],
    hook_name: str,
    hook_out: str,
    make: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Hooks that put something else in the place of the site which an SAE writes.

    `make(read, site)` returns it in the shape that the SAE gives, from the site that the SAE reads
    (`hook_name`) and the one it writes (`hook_out`): one and the same, except for transcoders.
    Positions outside `mask` stay as they are.
    """
    seen: list[Tensor] = []

    def note(site: Tensor) -> Tensor:
        seen.append(site.detach())
        return site

    def put(site: Tensor) -> Tensor:
        made = put_at_site(sae, site, make(seen[-1] if seen else site, site))
        return torch.where(mask.view(*mask.shape, *([1] * (site.dim() - 2))), made, site)

    return {hook_out: put} if hook_out == hook_name else {hook_name: note, hook_out: put}


def loss_recovered(
    parts: Sequence[Float[np.ndarray, "rows 3 2"]],
) -> tuple[Figure | None, int]:
    """(with zeros − with the SAE) / (with zeros − as it is), and the tokens that it rests on.

    None where nothing was measured, or zeros do no harm.
    """
    if not parts:
        return None, 0
    sums = np.concatenate(parts)
    value = float(_share(sums.sum(0)[None])[0])
    samples = _share(np.einsum("dr,rkm->dkm", draws(len(sums)), sums))
    n = int(sums[:, 0, 1].sum())
    return (figure(value, samples, rows=len(sums)) if np.isfinite(value) else None), n


def _share(totals: np.ndarray) -> np.ndarray:
    clean, with_sae, ablated = totals[:, 0, 0], totals[:, 1, 0], totals[:, 2, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (ablated - with_sae) / np.where(ablated > clean, ablated - clean, np.nan)


def _losses(
    model: Model, tokens: Tensor, mask: Tensor, replaced: dict[str, Callable[[Tensor], Tensor]]
) -> np.ndarray:
    logits = run_with_replacements(model, tokens, replaced)[:, :-1].float()
    loss = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    counts = mask[:, 1:].double()
    return torch.stack([(loss * counts).sum(1), counts.sum(1)], 1).cpu().numpy()
