"""One pass of a model over a token set, for all latents of one or several SAEs.

Rows are taken in stretches of about 65,000 positions. Within a stretch they are sorted by length,
so that little padding is run, and go through the model a batch at a time, no further than the
deepest SAE: a turn of the lease each, so that others run the model in between. After each stretch,
firings go into the statistics, and from time to time these go to disk. Stretches and batches lie
on a fixed grid: a pass that was killed and resumed does the same sums.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sae_lens import SAE

from core.activations.block import make_block
from core.activations.checkpoint import Checkpoint
from core.activations.config import IndexConfig
from core.activations.encoding import Piece, firings_of
from core.activations.index import LatentIndex, finish
from core.activations.statistics import LatentStatistics
from core.corpus.token_set import TokenSet
from core.jobs.progress import JobCancelled, Progress
from core.lease import Lease, PlainLease
from core.models.hooks import Model, cache_sites, context_length
from core.saes import read_at_site, sae_hook_name

BATCH_TOKENS = 4096
_STRETCH_BATCHES = 16
_MAX_FIRINGS = 4_000_000


def build_index(
    model: Model,
    saes: Sequence[SAE],
    token_set: TokenSet,
    config: IndexConfig | None = None,
    *,
    batch_tokens: int = BATCH_TOKENS,
    latent_chunk: int | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Progress | None = None,
) -> list[LatentIndex]:
    """The index of each SAE, from one run of the model; arguments as of `build_statistics`."""
    states = build_statistics(
        PlainLease(model, saes, progress=progress),
        token_set,
        config,
        batch_tokens=batch_tokens,
        latent_chunk=latent_chunk,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
    )
    check = progress.check if progress is not None else None
    return [finish(state, check=check) for state in states]


def build_statistics(
    lease: Lease,
    token_set: TokenSet,
    config: IndexConfig | None = None,
    *,
    rows: tuple[int, int] | None = None,
    batch_tokens: int = BATCH_TOKENS,
    latent_chunk: int | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 60.0,
) -> list[LatentStatistics]:
    """What is known of the latents of each SAE of the lease after some rows of the token set.

    Args:
        lease: the model, and SAEs of any architecture that read its sites. Its progress counts
            positions that count; cancelling writes a checkpoint.
        rows: a shard [first, last) (see `shard_rows`); statistics of disjoint shards give the
            whole with `merge`. All rows if None.
        batch_tokens: positions run through the model at once.
        latent_chunk: latents whose firings are merged at once; bounds memory, changes no result.
        checkpoint: a folder in which to keep them, and from which to go on if it holds some
            of the same models, SAEs, tokens and options. Emptied of them when the pass is done.
        checkpoint_seconds: how long at least between two writes.

    Raises:
        ValueError: no SAE, a token set wider than the model's context or empty, a site the model
            does not have, activations that are not finite.
    """
    config, progress = config or IndexConfig(), lease.progress
    first, last = rows or (0, token_set.n_rows)
    with lease.turn() as (model, saes):
        _check(model, saes, token_set, first, last)
        widths, sites = [sae.cfg.d_sae for sae in saes], [sae_hook_name(sae) for sae in saes]
    states = [LatentStatistics.empty(config, d_sae=n, context=token_set.context) for n in widths]
    saved = None
    if checkpoint is not None:
        identity = [
            lease.model_fingerprint,
            [list(pair) for pair in zip(lease.sae_fingerprints, sites, strict=True)],
            [token_set.digest, first, last, batch_tokens],
        ]
        saved = Checkpoint(Path(checkpoint), identity, config, token_set.context)
        states = saved.read() or states
    begin = first + sum(int(span[1] - span[0]) for span in states[0].rows)
    total, done = int(token_set.mask[first:last].sum()), int(token_set.mask[first:begin].sum())
    written, unsaved = time.monotonic(), False
    batch_rows = max(1, batch_tokens // token_set.context)
    stretch = stretch_rows(token_set, batch_tokens)
    for start in range(begin, last, stretch):
        stop = min(start + stretch, last)
        order = start + np.argsort(-token_set.lengths[start:stop], kind="stable")
        pending = _Pending(states, token_set, latent_chunk)
        try:
            for batch in range(0, len(order), batch_rows):
                progress.update(done, total, unit="tokens", message="Reading the text")
                chosen = np.sort(order[batch : batch + batch_rows])
                with lease.turn() as (model, saes):
                    found = run_rows(model, saes, token_set, chosen, progress=progress)
                pending.add(chosen, found)
                done += int(token_set.mask[chosen].sum())
        except JobCancelled:
            # A stretch of which a part is in already cannot be gone on with.
            if saved is not None and unsaved and not pending.flushed:
                saved.write(states)
            raise
        pending.flush()
        unsaved = True
        is_due = time.monotonic() - written >= checkpoint_seconds
        if saved is not None and (is_due or progress.cancelled):
            saved.write(states)
            written, unsaved = time.monotonic(), False
    progress.update(total, total, unit="tokens", message="Sorting what was found")
    if saved is not None:
        saved.remove()
    return states


def shard_rows(
    token_set: TokenSet, n_shards: int, *, batch_tokens: int = BATCH_TOKENS
) -> list[tuple[int, int]]:
    """Spans of rows for `build_statistics` on several machines, at most `n_shards`, none empty.

    They begin where a stretch does, so that merged statistics equal those of one pass to the last
    bit.
    """
    if n_shards < 1:
        raise ValueError(f"n_shards is {n_shards}; use 1 or more.")
    step = stretch_rows(token_set, batch_tokens)
    starts = np.arange(0, token_set.n_rows, step)
    firsts = [int(part[0]) for part in np.array_split(starts, n_shards) if len(part)]
    return list(zip(firsts, [*firsts[1:], token_set.n_rows], strict=True))


def stretch_rows(token_set: TokenSet, batch_tokens: int) -> int:
    """Rows of a stretch: what is sorted by length together."""
    return max(1, batch_tokens // token_set.context) * _STRETCH_BATCHES


class _Pending:
    """Firings of whole rows that are not in the statistics yet."""

    def __init__(
        self,
        states: Sequence[LatentStatistics],
        token_set: TokenSet,
        latent_chunk: int | None = None,
    ) -> None:
        """Statistics of each SAE, in the order in which their pieces will be added."""
        self._states, self._token_set, self._latent_chunk = states, token_set, latent_chunk
        self._parts: list[list[Piece]] = [[] for _ in states]
        self._rows: list[np.ndarray] = []
        self.flushed = False
        """Whether some of them are in the statistics."""

    def add(self, rows: np.ndarray, parts: Sequence[list[Piece]]) -> None:
        """Firings of rows (ascending), as `run_rows` gives them."""
        self._rows.append(rows)
        for mine, new in zip(self._parts, parts, strict=True):
            mine.extend(new)
        firings = max(sum(len(piece[0]) for piece in parts) for parts in self._parts)
        if firings > _MAX_FIRINGS:
            self.flush()

    def flush(self) -> None:
        """Put them into the statistics."""
        if not self._rows:
            return
        self.flushed = True
        rows = np.sort(np.concatenate(self._rows))
        for state, parts in zip(self._states, self._parts, strict=True):
            counted = self._token_set.mask[rows].sum(1)
            block = make_block(state.d_sae, self._token_set.context, rows, counted, parts)
            state.add_block(block, latent_chunk=self._latent_chunk)
            parts.clear()
        self._rows.clear()


def run_rows(
    model: Model,
    saes: Sequence[SAE],
    token_set: TokenSet,
    rows: np.ndarray,
    *,
    progress: Progress | None = None,
) -> list[list[Piece]]:
    """Firings of each SAE, by place, at the positions of `rows` (ascending) that count."""
    longest = max(int(token_set.lengths[rows].max()), 1)
    device = next(model.parameters()).device
    tokens = torch.from_numpy(token_set.tokens[rows, :longest].astype(np.int64)).to(device)
    mask = token_set.mask[rows, :longest]
    row, position = np.nonzero(mask)
    place = (rows[row] * token_set.context + position).astype(np.int32)
    sites = cache_sites(model, tokens, [sae_hook_name(sae) for sae in saes])
    counts = torch.from_numpy(mask).to(device)
    check = progress.check if progress is not None else None
    found: list[list[Piece]] = []
    for sae in saes:
        activations = read_at_site(sae, sites[sae_hook_name(sae)])[counts]
        pieces = firings_of(sae, activations, check=check)
        found.append([(place[at], latent, value) for at, latent, value in pieces])
    return found


def _check(model: Model, saes: Sequence[SAE], token_set: TokenSet, first: int, last: int) -> None:
    if len(saes) == 0:
        raise ValueError("There is no SAE to index; give at least one.")
    if token_set.context > context_length(model):
        raise ValueError(
            f"Rows are {token_set.context} tokens long; this model takes at most "
            f"{context_length(model)}. Pack the corpus with a smaller context."
        )
    if not 0 <= first < last <= token_set.n_rows:
        raise ValueError(f"There are no rows {first} to {last}; the set has {token_set.n_rows}.")
    largest = int(token_set.tokens.max())
    if largest >= model.cfg.d_vocab:
        raise ValueError(
            f"Token id {largest} is not in the model's vocabulary of {model.cfg.d_vocab}; "
            "tokenize the corpus with this model's tokenizer."
        )
