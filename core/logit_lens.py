"""Which tokens does a latent push up or down? Its decoder direction, read by the unembedding.

The direction (`core.saes.writes.residual_directions`) is projected as if it went straight from the
SAE to the logits: layers in between, the final norm's division and a cap on the logits (Gemma 2)
are left out, as everywhere this figure is published.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.saes.writes import residual_directions

__all__ = ["residual_directions", "top_tokens"]


@torch.no_grad()
def top_tokens(
    W_dec: Float[Tensor, "n d"],
    W_U: Float[Tensor, "d vocab"],
    k: int = 10,
    *,
    largest: bool = True,
    chunk_size: int = 2048,
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Ids and values of the `k` largest (or smallest) entries of each row of `W_dec @ W_U`.

    Best first; among equal values the order is unspecified. Only `chunk_size` rows of the product
    exist at a time. Computed in float32 (float64 if given), on the device of `W_U`, where the
    results are.

    Raises:
        ValueError: shapes that do not fit, or `k` beyond the vocabulary.
    """
    if W_dec.dim() != 2 or W_U.dim() != 2 or W_dec.shape[1] != W_U.shape[0]:
        raise ValueError(
            f"W_dec {list(W_dec.shape)} and W_U {list(W_U.shape)} do not multiply; give [n, d] and "
            "[d, vocab] (one direction as direction[None])."
        )
    vocab = W_U.shape[1]
    if not 1 <= k <= vocab:
        raise ValueError(f"k is {k}; the vocabulary has {vocab} tokens, so ask for 1 to {vocab}.")
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; use 1 or more rows at a time.")
    dtype = torch.promote_types(torch.promote_types(W_dec.dtype, W_U.dtype), torch.float32)
    unembedding = W_U.to(dtype)
    ids = torch.empty(len(W_dec), k, dtype=torch.long, device=W_U.device)
    values = torch.empty(len(W_dec), k, dtype=dtype, device=W_U.device)
    for start in range(0, len(W_dec), chunk_size):
        rows = slice(start, start + chunk_size)
        logits = W_dec[rows].to(device=W_U.device, dtype=dtype) @ unembedding
        values[rows], ids[rows] = logits.topk(k, dim=-1, largest=largest)
    return ids, values
