"""Which tokens does a latent push up or down? Its decoder direction, read by the unembedding.

The direction is projected as if it went straight from the SAE to the logits: layers in between and
the final LayerNorm's division are left out, as everywhere this figure is published.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.models.hooks import Model, layer_of_hook


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


@torch.no_grad()
def residual_directions(
    model: Model, sae: SAE, latents: Sequence[int]
) -> Float[Tensor, "n d_model"]:
    """What each of these latents adds to the residual stream, per unit of activation.

    That is its decoder row, taken through the output weights of the attention layer (of the one
    head for an SAE of a single head) for SAEs of hook_z, and through those of the MLP for SAEs of
    its hidden layer.

    Raises:
        ValueError: a latent that does not exist, or a site that does not write to the stream.
    """
    d_sae = sae.cfg.d_sae
    wrong = [latent for latent in latents if not 0 <= latent < d_sae]
    if wrong:
        raise ValueError(
            f"There is no latent {wrong[0]}; this SAE has {d_sae}, so choose 0 to {d_sae - 1}."
        )
    directions = sae.W_dec[list(latents)]
    site = getattr(sae.cfg.metadata, "hook_name_out", None) or sae.cfg.metadata.hook_name or ""
    layer = layer_of_hook(site)
    if layer is not None and site.endswith("attn.hook_z"):
        W_O = model.blocks[layer].attn.W_O
        head = sae.cfg.metadata.hook_head_index
        if head is not None and not 0 <= head < len(W_O):
            raise ValueError(
                f"The SAE reads head {head} of {site}, which has heads 0 to {len(W_O) - 1}."
            )
        weights = W_O.flatten(0, 1) if head is None else W_O[head]
    elif layer is not None and site.endswith(("mlp.hook_post", "mlp.hook_pre")):
        weights = model.blocks[layer].mlp.W_out
    elif directions.shape[1] == model.cfg.d_model:
        return directions
    else:
        raise ValueError(
            f"{site or 'The site of this SAE'} holds {directions.shape[1]} numbers and the "
            f"residual stream {model.cfg.d_model}, so its latents do not map to tokens; choose an "
            "SAE of the residual stream, of an attention or of an MLP output."
        )
    return directions.to(device=weights.device, dtype=weights.dtype) @ weights
