"""Everything about the quality of one SAE, in one pass over a text and some runs of the model.

quality = measure_quality(PlainLease(model, [sae]), tokens)
quality.text.l0, quality.loss.recovered_mean, quality.geometry.neighbour
"""

from dataclasses import dataclass

import numpy as np
import torch
from sae_lens import SAE
from torch import Tensor

from core.activations.coded import coded
from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.models.hooks import Model, cache_sites
from core.sae_quality.geometry import Geometry, decoder_geometry
from core.sae_quality.loss import loss_figures, loss_sums
from core.sae_quality.null import random_explained_variance
from core.sae_quality.result import Quality
from core.sae_quality.text_figures import TextSums
from core.saes import check_fits, read_at_site, reads_heads, sae_hook_name
from core.saes.writes import written_site

_BATCH_TOKENS = 4096
_LOSS_BATCH = 1024
_BYTES = 32 << 20


@dataclass(frozen=True)
class QualityConfig:
    """How much is read."""

    loss_tokens: int = 8192
    """Positions on which losses are measured (four runs of the model each); 0 for none."""
    null_tokens: int = 2048
    """Positions on which random directions are tried."""
    seed: int = 0
    """Of the random directions."""

    def __post_init__(self) -> None:
        if self.loss_tokens < 0 or self.null_tokens < 2:
            raise ValueError(
                f"loss_tokens {self.loss_tokens} and null_tokens {self.null_tokens}: use 0 or "
                "more, and 2 or more."
            )


def measure_quality(
    lease: Lease, tokens: TokenSet, *, config: QualityConfig | None = None
) -> Quality:
    """The quality of the lease's first SAE on the positions of `tokens` that count.

    Raises:
        ValueError: no position that counts, activations that are not finite, an SAE of another
            model or site, or one that reads whole sequences.
    """
    config = config or QualityConfig()
    if tokens.n_tokens == 0:
        raise ValueError("The text has no token that counts; choose a longer one.")
    with lease.turn() as (model, (sae, *_)):
        check_fits(sae, model)
        hook, out, d_sae = sae_hook_name(sae), written_site(sae), int(sae.cfg.d_sae)
        d_out, device = int(sae.W_dec.shape[-1]), str(sae.W_dec.device)
    with lease.room(
        # Decoder rows, at length 1, and three sets of random ones; the densest part of the text.
        4 * d_sae * d_out * 6 + _BYTES,
        f"Measuring an SAE of {d_sae:,} latents",
        remedy="choose a narrower SAE",
        device=device,
    ):
        return _measured(lease, tokens, config, (hook, out, d_sae))


def _measured(
    lease: Lease, tokens: TokenSet, config: QualityConfig, site: tuple[str, str, int]
) -> Quality:
    hook, out, d_sae = site
    with lease.turn() as (_, (sae, *_)):
        sums = TextSums(sae.cfg.d_sae, tokens.context)
    batches = batches_of(tokens, _BATCH_TOKENS)
    kept: list[Tensor] = []

    def read(model: Model, saes: list[SAE], first: int, last: int) -> None:
        for rows in batches[first:last]:
            lease.progress.check()
            x, y, row, position = positions_of(model, saes[0], tokens, rows, hook, out)
            if sum(map(len, kept)) < config.null_tokens:
                kept.append(y.cpu())
            step = max(64, _BYTES // (4 * d_sae))
            for start in range(0, len(x), step):
                some = slice(start, start + step)
                sums.add(coded(saes[0], x[some]), y[some], row[some], position[some])

    lease.in_turns(len(batches), read, unit="batches", message="Reading the text")
    text = sums.finish()
    losses: list[np.ndarray] = []
    if config.loss_tokens:
        some_batches, left = [], config.loss_tokens
        for rows in batches_of(tokens, _LOSS_BATCH):
            if left > 0:
                some_batches.append(rows)
            left -= int(tokens.mask[rows].sum())
        mean = torch.from_numpy(sums.mean if sums.mean is not None else np.zeros(0))

        def lose(model: Model, saes: list[SAE], first: int, last: int) -> None:
            for rows in some_batches[first:last]:
                ids, mask = ids_of(model, tokens, rows)
                losses.append(loss_sums(model, saes[0], ids, mask, hook, out, mean))

        lease.in_turns(
            len(some_batches), lose, unit="batches", message="Measuring what the model loses"
        )
    sample = torch.cat(kept)[: config.null_tokens]
    lease.progress.update(0, 2, unit="parts", message="Comparing with random directions")
    random = random_explained_variance(
        sample, d_sae=min(d_sae, 65_536), l0=text.l0.value, seed=config.seed
    )
    lease.progress.update(1, 2, unit="parts", message="Comparing decoder rows")
    geometry: Geometry
    with lease.turn() as (_, (sae, *_)):
        geometry = decoder_geometry(sae, seed=config.seed)
    return Quality(hook, out, d_sae, text, random, len(sample), loss_figures(losses), geometry)


def batches_of(tokens: TokenSet, n: int) -> list[slice]:
    """Rows of a text in batches of about `n` positions."""
    step = max(1, n // tokens.context)
    return [slice(at, min(at + step, tokens.n_rows)) for at in range(0, tokens.n_rows, step)]


def ids_of(model: Model, tokens: TokenSet, rows: slice) -> tuple[Tensor, Tensor]:
    """Ids and mask of some rows, as long as the longest of them."""
    longest = max(1, int(tokens.lengths[rows].max()))
    device = next(model.parameters()).device
    ids = torch.from_numpy(tokens.tokens[rows, :longest].astype(np.int64)).to(device)
    return ids, torch.from_numpy(tokens.mask[rows, :longest])


def positions_of(
    model: Model, sae: SAE, tokens: TokenSet, rows: slice, hook: str, out: str
) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """At the positions of some rows that count: what the SAE reads `[n, ...]`, what it is to write
    `[n, d_out]` (heads flattened), and the row and place in the row of each."""
    ids, mask = ids_of(model, tokens, rows)
    found = cache_sites(model, ids, list(dict.fromkeys((hook, out))))
    read, wanted = (read_at_site(sae, found[name]) for name in (hook, out))
    at = mask.to(read.device)
    x, y = read[at].to(sae.W_dec.device), wanted[at].to(sae.W_dec.device).flatten(1)
    row, position = mask.numpy().nonzero()
    return x if reads_heads(sae) else x.flatten(1), y, row + rows.start, position
