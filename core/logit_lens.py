"""Which tokens does a latent push up or down? Its decoder direction, read by the unembedding.

The direction (`core.saes.writes.residual_directions`) is projected as if it went straight from the
SAE to the logits: layers in between, the final norm's division and a cap on the logits (Gemma 2)
are left out, as everywhere this figure is published.

`top_tokens` is for some latents. `top_token_ids` is for all of an SAE: both ends of each row of
logits from one product, in pieces small enough to cancel, stored as ids, of which texts are made
when they are looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.jobs.progress import Progress
from core.models.hooks import Model
from core.saes.writes import residual_directions
from core.store import ARRAYS, Key
from core.store.fingerprint import fingerprint
from core.store.memory import Memory, ResultStore

_VERSION = 1
_PIECE_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
_FLOAT16_MAX = float(np.finfo(np.float16).max)


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


@dataclass(frozen=True)
class TopTokens:
    """The tokens at both ends of each latent's logits, the strongest first."""

    boosted: Int[np.ndarray, "n k"]
    """Ids of the tokens with the highest values (int32)."""
    boosted_values: Float[np.ndarray, "n k"]
    """Their values (float16): change of the logit per unit of activation."""
    suppressed: Int[np.ndarray, "n k"]
    """Ids of the tokens with the lowest values (int32)."""
    suppressed_values: Float[np.ndarray, "n k"]
    """Their values (float16)."""


@torch.no_grad()
def all_directions(model: Model, sae: SAE) -> Float[Tensor, "d_sae d_model"]:
    """`residual_directions` of all latents, as a copy that may outlive the SAE."""
    return residual_directions(model, sae, range(sae.cfg.d_sae)).float().clone()


@torch.no_grad()
def top_token_ids(
    directions: Float[Tensor, "n d"],
    W_U: Float[Tensor, "d vocab"],
    k: int = 10,
    *,
    store: ResultStore | None = None,
    progress: Progress | None = None,
) -> TopTokens:
    """The `k` tokens (fewer in a smaller vocabulary) at both ends of each row of the product.

    Computed in float32 on the device of `W_U`, a piece of the logits at a time.

    Raises:
        ValueError: shapes that do not multiply, or a `k` below 1.
    """
    if directions.dim() != 2 or W_U.dim() != 2 or directions.shape[1] != W_U.shape[0]:
        raise ValueError(
            f"Directions {list(directions.shape)} and W_U {list(W_U.shape)} do not multiply; give "
            "[n, d] and [d, vocab]."
        )
    if k < 1:
        raise ValueError(f"k is {k}; ask for 1 token or more.")
    k = min(k, W_U.shape[1])

    def compute() -> dict[str, np.ndarray]:
        return _both_ends(directions, W_U, k, progress)

    weights = fingerprint({"directions": directions, "W_U": W_U}) if store is not None else ""
    key = Key("splitting-tokens", _VERSION, {"weights": weights, "k": k})
    waiting = progress.check if progress is not None else None
    kept: ResultStore = Memory() if store is None else store
    return TopTokens(**kept.get_or_compute(key, compute, ARRAYS, waiting=waiting))


def _both_ends(
    directions: Tensor, W_U: Tensor, k: int, progress: Progress | None
) -> dict[str, np.ndarray]:
    n, vocab = len(directions), W_U.shape[1]
    unembedding = W_U.float()
    piece = max(1, _PIECE_BYTES.get(W_U.device.type, _PIECE_BYTES["cpu"]) // (4 * vocab))
    found: dict[str, np.ndarray] = {
        "boosted": np.empty((n, k), dtype=np.int32),
        "boosted_values": np.empty((n, k), dtype=np.float16),
        "suppressed": np.empty((n, k), dtype=np.int32),
        "suppressed_values": np.empty((n, k), dtype=np.float16),
    }
    for start in range(0, n, piece):
        if progress is not None:
            progress.update(start, n, unit="latents", message="Reading boosted tokens")
        rows = slice(start, start + piece)
        logits = directions[rows].to(device=W_U.device, dtype=torch.float32) @ unembedding
        for name, largest in (("boosted", True), ("suppressed", False)):
            values, ids = logits.topk(k, dim=1, largest=largest)
            found[name][rows] = ids.cpu().numpy()
            clipped = values.clamp(-_FLOAT16_MAX, _FLOAT16_MAX)
            found[f"{name}_values"][rows] = clipped.cpu().numpy()
    if progress is not None:
        progress.update(n, n, unit="latents", message="Reading boosted tokens")
    return found


def join_tokens(parts: Sequence[TopTokens]) -> TopTokens:
    """Tables of several SAEs below each other. Raises `ValueError` for none."""
    if not parts:
        raise ValueError("There are no tables to join; give one or more.")
    names = ("boosted", "boosted_values", "suppressed", "suppressed_values")
    return TopTokens(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
