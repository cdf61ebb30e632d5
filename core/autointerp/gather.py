"""Where latents fire strongly, and random places with their real activations: one pass for all.

As in ARENA 1.3.3, with these differences: only places at which the latent fires count as its
strongest; random places carry their real activations; BOS never counts; and of windows with the
same tokens only one is kept, so that text which a corpus repeats cannot be both shown and scored.

The index of `core.activations.text_index` keeps one place in each of 20 rows. Where a corpus
repeats itself these are too few different texts to explain and to score with, so the text is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE

from core.autointerp.collect import WindowCollector
from core.autointerp.config import AutoInterpConfig
from core.autointerp.examples import LatentWindows
from core.corpus.bos import bos_id
from core.corpus.token_set import TokenSet
from core.jobs.progress import Progress
from core.lease import Lease
from core.models.hooks import Model, cache_sites, context_length
from core.saes import encode, read_at_site, sae_hook_name

_ENCODE_BYTES = 32 << 20
_BATCH_ROWS = 16
_BATCHES_A_TURN = 2


@dataclass(frozen=True, eq=False)
class Part:
    """Latents of one SAE that are looked at."""

    latents: Sequence[int]
    """Which."""
    sae: SAE | None = None
    """A control; None for the SAE of the lease."""


def gather_windows(
    lease: Lease,
    token_set: TokenSet,
    cfg: AutoInterpConfig,
    parts: Sequence[Part] | None = None,
) -> list[dict[int, LatentWindows]]:
    """Run `cfg.total_tokens` tokens once and keep windows of each latent of each part.

    Args:
        lease: the model, and an SAE that reads a site of it. Its progress counts tokens.
        token_set: rows of tokens.
        cfg: what to keep.
        parts: `cfg.latents` of the lease's SAE if None.

    Raises:
        ValueError: a latent that does not exist, or rows too short for the windows or too long for
            the model.
        JobCancelled: through the lease's progress.
    """
    parts = [Part(cfg.latents)] if parts is None else parts
    with lease.turn() as (model, (own,)):
        for part in parts:
            check_gathering(model, part.sae or own, cfg, part.latents, token_set.context)
    lengths = lengths_read(token_set, cfg)
    collectors = [WindowCollector(part.latents, cfg, lengths) for part in parts]
    batches = list(token_set_batches(token_set, cfg))
    done, total = 0, int(lengths.sum())
    for start in range(0, len(batches), _BATCHES_A_TURN):
        some = batches[start : start + _BATCHES_A_TURN]
        lease.progress.update(
            done, total, unit="tokens", message="Looking for examples in the text"
        )
        with lease.turn() as (model, (own,)):
            acts = [
                latent_activations(
                    model,
                    [(part.sae or own, part.latents) for part in parts],
                    tokens,
                    ignored=_not_counted(token_set, rows, tokens),
                    progress=lease.progress,
                )
                for rows, tokens in some
            ]
        # Sorting through them needs no model: the next user has it meanwhile.
        for (rows, tokens), by_part in zip(some, acts, strict=True):
            for collector, found in zip(collectors, by_part, strict=True):
                collector.add(rows, tokens, found)
            done += int(lengths[rows].sum())
    return [collector.result() for collector in collectors]


def lengths_read(token_set: TokenSet, cfg: AutoInterpConfig) -> Int[np.ndarray, " n_rows"]:
    """Tokens of each row that `cfg.total_tokens` covers: the first rows, whole."""
    before = token_set.lengths.astype(np.int64).cumsum() - token_set.lengths
    return token_set.lengths[: max(1, int((before < cfg.total_tokens).sum()))]


def gather_rows(
    lease: Lease,
    token_set: TokenSet,
    cfg: AutoInterpConfig,
    latents: Sequence[int],
    chosen: Int[np.ndarray, " n"],
) -> Iterator[
    tuple[
        Int[np.ndarray, " batch"],
        Int[np.ndarray, "batch seq"],
        Float[np.ndarray, "batch seq n_latents"],
    ]
]:
    """(row numbers, token ids, activations of latents of the lease's SAE) on these rows alone.

    Progress counts rows. Raises JobCancelled through it.
    """
    done = 0
    for rows, tokens in token_set_batches(token_set, cfg, chosen):
        lease.progress.update(
            done, len(chosen), unit="texts", message="Reading the texts that the index names"
        )
        with lease.turn() as (model, (own,)):
            ignored = _not_counted(token_set, rows, tokens)
            (acts,) = latent_activations(
                model, [(own, latents)], tokens, ignored=ignored, progress=lease.progress
            )
        yield rows, tokens, acts
        done += len(rows)


def token_set_batches(
    token_set: TokenSet,
    cfg: AutoInterpConfig,
    chosen: Int[np.ndarray, " n"] | None = None,
) -> Iterator[tuple[Int[np.ndarray, " batch"], Int[np.ndarray, "batch seq"]]]:
    """(row numbers, token ids with -1 in padding) of the rows that `cfg.total_tokens` covers.

    Rows of like length share a batch, cut to the longest, so that little padding is run. Of each
    batch only the `chosen` if given: what is random comes in the order of reading everything.
    """
    lengths = lengths_read(token_set, cfg)
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), _BATCH_ROWS):
        rows = order[start : start + _BATCH_ROWS]
        if chosen is not None:
            rows = rows[np.isin(rows, chosen)]
            if not len(rows):
                continue
        # At least one window wide; what is too short for one is padded.
        longest = int(lengths[rows].max())
        tokens = np.full((len(rows), max(longest, 2 * cfg.buffer + 1)), -1, dtype=np.int64)
        inside = np.arange(longest) < lengths[rows, None]
        tokens[:, :longest] = np.where(inside, token_set.tokens[rows, :longest], -1)
        yield rows, tokens


def _not_counted(
    token_set: TokenSet, rows: Int[np.ndarray, " batch"], tokens: Int[np.ndarray, "batch seq"]
) -> Bool[np.ndarray, "batch seq"]:
    """Where a token set says that a position of `tokens`, cut or padded rows of it, is no text."""
    width = min(tokens.shape[1], token_set.context)
    found = np.ones(tokens.shape, dtype=bool)
    found[:, :width] = ~token_set.mask[rows, :width]
    return found


@torch.no_grad()
def latent_activations(
    model: Model,
    wanted: Sequence[tuple[SAE, Sequence[int]]],
    tokens: Int[np.ndarray, "batch seq"],
    *,
    ignored: Bool[np.ndarray, "batch seq"] | None = None,
    progress: Progress | None = None,
) -> list[Float[np.ndarray, "batch seq n_latents"]]:
    """float32 activations of some latents of each SAE: one run of the model for all SAEs.

    `tokens` has -1 in padding. Activations are 0 in padding, where a latent does not fire, and
    where `ignored` (of rows of which nothing more is known, by default at BOS).
    """
    ids = torch.from_numpy(np.maximum(tokens, 0)).to(next(model.parameters()).device)
    names = [sae_hook_name(sae) for sae, _ in wanted]
    sites = cache_sites(model, ids, names)
    if ignored is None:
        bos = bos_id(model.tokenizer)
        ignored = tokens == (-2 if bos is None else bos)
    ignored = ignored | (tokens < 0)
    found = []
    for (sae, latents), name in zip(wanted, names, strict=True):
        chosen = torch.tensor(list(latents), device=sae.W_dec.device)
        out = []
        flat = read_at_site(sae, sites[name]).flatten(0, 1)
        for part in flat.split(max(64, _ENCODE_BYTES // (4 * sae.cfg.d_sae))):
            if progress is not None:
                progress.check()
            # Firing is being above 0, whatever an architecture gives below.
            out.append(encode(sae, part)[:, chosen].float().clamp(min=0).cpu())
        acts = torch.cat(out).reshape(*tokens.shape, len(chosen)).numpy()
        acts[ignored] = 0
        found.append(acts)
    return found


def check_gathering(
    model: Model, sae: SAE, cfg: AutoInterpConfig, latents: Sequence[int], context: int
) -> None:
    """Raises ValueError unless the SAE has the latents and the rows hold windows of `cfg`."""
    d_sae = sae.cfg.d_sae
    if max(latents) >= d_sae:
        raise ValueError(
            f"There is no latent {max(latents)}; this SAE has {d_sae}, so choose 0 to {d_sae - 1}."
        )
    if context <= 2 * cfg.buffer:
        raise ValueError(
            f"Rows of {context} tokens hold no window of {2 * cfg.buffer + 1}; use longer rows or "
            "a smaller buffer."
        )
    if context > context_length(model):
        raise ValueError(
            f"Rows are {context} tokens long; this model takes at most {context_length(model)}."
        )
