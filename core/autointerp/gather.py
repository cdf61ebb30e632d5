"""Where latents fire strongly, and random places with their real activations: one pass for all.

As in ARENA 1.3.3, with these differences: only places at which the latent fires count as its
strongest; random places carry their real activations; BOS never counts; and of windows with the
same tokens only one is kept, so that text which a corpus repeats cannot be both shown and scored.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.autointerp.collect import WindowCollector
from core.autointerp.config import AutoInterpConfig
from core.autointerp.windows import LatentWindows, Windows
from core.corpus.beginning import bos_id
from core.corpus.token_set import TokenSet
from core.jobs.progress import Progress
from core.models.hooks import Model, cache_sites, context_length
from core.saes import encode, read_at_site, sae_hook_name

__all__ = ["LatentWindows", "TokenSource", "Windows", "gather_windows"]

_ENCODE_BYTES = 32 << 20
_BATCH_ROWS = 16


class TokenSource(Protocol):
    """What is read of sae_lens' `ActivationsStore`."""

    store_batch_size_prompts: int
    context_size: int

    def get_batch_tokens(self) -> Int[Tensor, "batch seq"]:
        """The next rows."""


def gather_windows(
    model: Model,
    sae: SAE,
    source: TokenSource | TokenSet,
    cfg: AutoInterpConfig,
    *,
    progress: Progress | None = None,
) -> dict[int, LatentWindows]:
    """Run `cfg.total_tokens` tokens once and keep windows of each latent in `cfg.latents`.

    Args:
        model: either model class.
        sae: any SAE that reads a site of it.
        source: rows of tokens, from sae_lens' store or a token set.
        cfg: what to keep.
        progress: tokens run.

    Raises:
        ValueError: a latent that does not exist, or rows too short for the windows or too long for
            the model.
        JobCancelled: through `progress`.
    """
    batch_size, context = _sizes(source)
    check_gathering(model, sae, cfg, cfg.latents, context)
    if isinstance(source, TokenSet):
        lengths = lengths_for(source, cfg)
        batches = token_set_batches(source, cfg)
    else:
        n_batches = max(1, cfg.total_tokens // context // batch_size)
        lengths = np.full(n_batches * batch_size, context)
        batches = _store_batches(source, n_batches)
    collector = WindowCollector(cfg.latents, cfg, lengths)
    done, total = 0, int(lengths.sum())
    for rows, tokens in batches:
        if progress is not None:
            progress.update(min(done, total), total, unit="tokens", message="gathering examples")
        ignored = not_counted(source, rows, tokens) if isinstance(source, TokenSet) else None
        [acts] = latent_activations(
            model, [(sae, cfg.latents)], tokens, ignored=ignored, progress=progress
        )
        collector.add(rows, tokens, acts)
        done += int(lengths[rows[rows < len(lengths)]].sum())
    return collector.result()


def lengths_for(token_set: TokenSet, cfg: AutoInterpConfig) -> Int[np.ndarray, " n_rows"]:
    """Tokens of each row that `cfg.total_tokens` covers: the first rows, whole."""
    before = token_set.lengths.astype(np.int64).cumsum() - token_set.lengths
    return token_set.lengths[: max(1, int((before < cfg.total_tokens).sum()))]


def token_set_batches(
    token_set: TokenSet, cfg: AutoInterpConfig
) -> Iterator[tuple[Int[np.ndarray, " batch"], Int[np.ndarray, "batch seq"]]]:
    """(row numbers, token ids with -1 in padding) of the rows that `cfg.total_tokens` covers.

    Rows of like length share a batch, cut to the longest, so that little padding is run.
    """
    lengths = lengths_for(token_set, cfg)
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), _BATCH_ROWS):
        rows = order[start : start + _BATCH_ROWS]
        # At least one window wide; what is too short for one is padded.
        longest = int(lengths[rows].max())
        tokens = np.full((len(rows), max(longest, 2 * cfg.buffer + 1)), -1, dtype=np.int64)
        inside = np.arange(longest) < lengths[rows, None]
        tokens[:, :longest] = np.where(inside, token_set.tokens[rows, :longest], -1)
        yield rows, tokens


def not_counted(
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


def _sizes(source: TokenSource | TokenSet) -> tuple[int, int]:
    if isinstance(source, TokenSet):
        return min(_BATCH_ROWS, source.n_rows), source.context
    return int(source.store_batch_size_prompts), int(source.context_size)


def _store_batches(
    source: TokenSource, n_batches: int
) -> Iterator[tuple[Int[np.ndarray, " batch"], Int[np.ndarray, "batch seq"]]]:
    first = 0
    for _ in range(n_batches):
        tokens = source.get_batch_tokens().detach().cpu().numpy().astype(np.int64)
        yield np.arange(first, first + len(tokens)), tokens
        first += len(tokens)
