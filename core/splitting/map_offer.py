"""A map of very many latents takes minutes: it is made when somebody asks who was told how long.

That a map was made is noted by the names in its request, so that a page can tell before any weights
are loaded.
"""

import time

import torch
from jaxtyping import Float
from torch import Tensor

from core.asking import may_compute
from core.lease import Lease
from core.logit_lens import all_directions, top_token_ids
from core.splitting.fits import Fit
from core.splitting.large_config import LARGE
from core.splitting.large_time import seconds_left
from core.splitting.map_data import MapRequest
from core.splitting.rows import LabelledSae, decoder_rows
from core.splitting.sample_words import N_TOKENS
from core.store import JSON, Key, Store

_TRIED_ROWS = 2048


def n_latents(request: MapRequest) -> int:
    """Latents of all SAEs on the map, those that are left out among them."""
    return sum(member.entry.width or 0 for member in request.members)


def must_ask(store: Store, request: MapRequest) -> bool:
    """Whether making this map takes minutes and was not done before."""
    return n_latents(request) > LARGE.above and not was_made(store, request)


def was_made(store: Store, request: MapRequest) -> bool:
    """Whether the map was made before, judged by names alone."""
    return store.get(_mark(request), JSON) is not None


def note_made(store: Store, request: MapRequest) -> None:
    """Note that it was."""
    if may_compute() and not was_made(store, request):
        store.keep(_mark(request), {"n": n_latents(request)}, JSON)


def seconds_needed(lease: Lease, store: Store, fit: Fit, request: MapRequest) -> float:
    """About how long a large map of the request, whose SAEs the lease has, will take here.

    Measured on a first bit of each part; what is kept of an earlier run takes nothing. A text that
    tells which latents are dead is not counted. Raises ValueError as `build_map`.
    """
    lease.progress.update(0, 1, message="Measuring how long the map will take")
    with lease.turn() as (model, saes):
        labelled = [
            LabelledSae(member.label, sae)
            for member, sae in zip(request.members, saes, strict=True)
        ]
        rows = decoder_rows(labelled)
        directions = all_directions(model, saes[0])[:_TRIED_ROWS].clone()
        W_U = model.W_U.detach().clone()
    of_tokens = seconds_of_tokens(directions, W_U, len(rows))
    parts = seconds_left(rows, request.config, LARGE, fit, store)
    return of_tokens + sum(parts)


def seconds_of_tokens(
    directions: Float[Tensor, "some d"], W_U: Float[Tensor, "d vocab"], n: int
) -> float:
    """About how long finding the boosted tokens of `n` latents takes, tried on some of them."""
    top_token_ids(directions[: max(1, len(directions) // 8)], W_U, N_TOKENS)  # threads start
    began = time.perf_counter()
    top_token_ids(directions, W_U, N_TOKENS)
    if W_U.device.type == "cuda":
        torch.cuda.synchronize(W_U.device)
    return (time.perf_counter() - began) / len(directions) * n


def _mark(request: MapRequest) -> Key:
    return Key("map-made", 1, {"request": request.key})
