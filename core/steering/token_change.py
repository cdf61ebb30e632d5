"""Which next tokens become likelier in running text when a latent is amplified?

TokenChange (Gur-Arieh et al. 2025, arXiv 2501.08319): the latent is amplified over some texts, and
those tokens are told whose probability rises most. Unlike the logit lens it runs the layers that
follow. Here each latent is added at every position at the strength at which the predictions on one
of the texts change by the same KL divergence, and so is a random direction: a rise that is not
above the largest rise of any token under it says nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.models import Model
from core.patch_scoping.injection import rows_at_once
from core.steering.effects import MEMORY_BYTES, reference_text
from core.steering.intervention import Intervention
from core.steering.steerer import Steerer
from core.steering.strengths import solved

KL = 0.5
"""Change of the predictions, in nats, to which everything is amplified."""


@dataclass(frozen=True, eq=False)
class TokenChanges:
    """The tokens that each latent makes likelier, the largest rise first."""

    tokens: Int[Tensor, "n k"]
    """Their ids."""
    rise: Float[Tensor, "n k"]
    """Rise of their probability, mean over all positions; NaN where no strength reaches the KL."""
    null: Float[Tensor, " n"]
    """Largest rise of any token under a random direction at the same KL divergence."""

    def beyond(self, row: int) -> list[int]:
        """The tokens of a latent that rise more than any does under the random direction."""
        kept = self.rise[row] > self.null[row]
        found: list[int] = self.tokens[row][kept].tolist()
        return found


@torch.no_grad()
def token_changes(
    model: Model,
    sae: SAE,
    latents: Sequence[int],
    texts: Int[Tensor, "texts pos"],
    *,
    n_leading: int,
    k: int = 10,
    kl: float = KL,
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> TokenChanges:
    """TokenChange of latents over equally long texts, of which `n_leading` first tokens are BOS.

    `check` may raise, to stop. Raises ValueError as `Steerer` and `solved`, and for no text.
    """
    if texts.numel() == 0 or texts.shape[1] <= n_leading:
        raise ValueError("There is no text to amplify latents over; read a longer one.")
    n = len(latents)
    # Rows 0 to n - 1 are latents, the others a random direction for each.
    rows = [Intervention((it,), (1.0,)) for it in latents]
    rows += [Intervention((it,), (1.0,), random=seed + i + 1) for i, it in enumerate(latents)]
    reference = reference_text(model, texts[:1], n_leading)
    length = texts.shape[1]
    factors = solved(
        model, sae, rows, reference, kl, n_prompt=length, n_leading=n_leading, check=check
    )
    steered = [
        it.times(f) if f == f else it.times(0.0) for it, f in zip(rows, factors, strict=True)
    ]
    steerer = Steerer(model, sae, steered, n_prompt=length, n_leading=n_leading)
    total = torch.zeros(2 * n, int(model.cfg.d_vocab))
    plain = _sums(model, texts, n_leading)
    step = rows_at_once(model, length, length, MEMORY_BYTES // 4)
    pairs = [(row, text) for row in range(2 * n) for text in range(len(texts))]
    for start in range(0, len(pairs), step):
        if check is not None:
            check()
        numbers, which = (list(it) for it in zip(*pairs[start : start + step], strict=True))
        with steerer.around(numbers):
            total.index_add_(0, torch.tensor(numbers), _probs(model, texts[which], n_leading))
    rise = (total - plain) / (len(texts) * (length - n_leading))
    known = torch.tensor([f == f for f in factors])
    rise[~known] = torch.nan
    best = rise[:n].nan_to_num(-1.0).topk(min(k, rise.shape[1]), dim=1)
    values = torch.where(known[:n, None], best.values, torch.nan)
    return TokenChanges(best.indices, values, rise[n:].amax(1))


def _sums(model: Model, texts: Tensor, n_leading: int) -> Float[Tensor, " vocab"]:
    step = rows_at_once(model, texts.shape[1], texts.shape[1], MEMORY_BYTES // 4)
    return torch.stack([_probs(model, it, n_leading).sum(0) for it in texts.split(step)]).sum(0)


def _probs(model: Model, rows: Tensor, n_leading: int) -> Float[Tensor, "rows vocab"]:
    """Sum of each row's next-token distributions over its positions."""
    logits = model(rows, return_type="logits")[:, n_leading:].float()
    return logits.softmax(-1).sum(1).cpu()
