"""Where latents fire strongly, and random places with their real activations: one pass for all.

As in ARENA 1.3.3, with these differences: only places at which the latent fires count as its
strongest; random places carry their real activations; BOS never counts; and of windows with the
same tokens only one is kept, so that text which a corpus repeats cannot be both shown and scored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.autointerp.config import AutoInterpConfig
from core.corpus.token_set import TokenSet
from core.jobs.progress import Progress
from core.models.hooks import Model, cache_sites, context_length
from core.saes import encode, sae_hook_name, sae_layer

_ENCODE_BYTES = 32 << 20
_SPARE_TOP = 8
_SPARE_RANDOM = 4
_BATCH_ROWS = 16


class TokenSource(Protocol):
    """What is read of sae_lens' `ActivationsStore`."""

    store_batch_size_prompts: int
    context_size: int

    def get_batch_tokens(self) -> Int[Tensor, "batch seq"]:
        """The next rows."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of text around some places, with one latent's activations."""

    tokens: Int[np.ndarray, "n width"]
    """Token ids; -1 in padding."""
    acts: Float[np.ndarray, "n width"]
    """float32 activations; 0 at BOS and in padding."""
    rows: Int[np.ndarray, " n"]
    """Row of the corpus, counted from the first one that was read."""
    positions: Int[np.ndarray, " n"]
    """Position of the middle in its row."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: np.ndarray) -> "Windows":
        """Some of them, in that order."""
        return Windows(
            self.tokens[index], self.acts[index], self.rows[index], self.positions[index]
        )

    def join(self, other: "Windows") -> "Windows":
        """These and others."""
        return Windows(
            np.concatenate([self.tokens, other.tokens]),
            np.concatenate([self.acts, other.acts]),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.positions, other.positions]),
        )

    @classmethod
    def empty(cls, width: int) -> "Windows":
        """None at all."""
        none = np.zeros(0, np.int64)
        return cls(np.zeros((0, width), np.int64), np.zeros((0, width), np.float32), none, none)


@dataclass(frozen=True, eq=False)
class LatentWindows:
    """What one latent is explained and scored with."""

    top: Windows
    """Its strongest places, best first, and a few more than asked for."""
    random: Windows
    """Random places, and a few more than asked for."""


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
    _check(model, sae, cfg, context)
    n_batches = max(1, cfg.total_tokens // context // batch_size)
    if isinstance(source, TokenSet):
        n_batches = min(n_batches, -(-source.n_rows // batch_size))
    rng = np.random.default_rng(cfg.seed)
    shape = (cfg.n_latents, cfg.n_random_ex_for_scoring + _SPARE_RANDOM)
    random_rows = rng.integers(0, n_batches * batch_size, shape)
    random_positions = rng.integers(cfg.buffer, context - cfg.buffer, shape)
    width = 2 * cfg.buffer + 1
    kept = {lat: LatentWindows(Windows.empty(width), Windows.empty(width)) for lat in cfg.latents}
    bos = getattr(model.tokenizer, "bos_token_id", None)
    first_row = 0
    for tokens in _batches(source, n_batches, batch_size):
        if progress is not None:
            done, total = first_row * context, n_batches * batch_size * context
            progress.update(min(done, total), total, unit="tokens", message="gathering examples")
        acts = _activations(model, sae, tokens, cfg.latents, progress)
        acts[(tokens < 0) | (tokens == (-2 if bos is None else bos))] = 0
        batch = _Batch(tokens, acts, first_row, cfg)
        strongest = batch.strongest({latent: _floor(w.top, cfg) for latent, w in kept.items()})
        for i, latent in enumerate(cfg.latents):
            here = (random_rows[i] >= first_row) & (random_rows[i] < first_row + len(tokens))
            drawn = batch.windows(i, random_rows[i][here] - first_row, random_positions[i][here])
            # A middle in padding is no place of the text.
            drawn = drawn.take(np.flatnonzero(drawn.tokens[:, cfg.buffer] >= 0))
            top = kept[latent].top
            if latent in strongest:
                top = _best(top.join(strongest[latent]), cfg)
            kept[latent] = LatentWindows(top, kept[latent].random.join(drawn))
        first_row += len(tokens)
    return kept


class _Batch:
    """Activations of the wanted latents on some rows."""

    def __init__(
        self,
        tokens: Int[np.ndarray, "batch seq"],
        acts: Float[np.ndarray, "batch seq n_latents"],
        first_row: int,
        cfg: AutoInterpConfig,
    ) -> None:
        self._tokens, self._acts, self._first_row, self._cfg = tokens, acts, first_row, cfg

    def windows(self, i: int, rows: np.ndarray, positions: np.ndarray) -> Windows:
        columns = positions[:, None] + np.arange(-self._cfg.buffer, self._cfg.buffer + 1)
        return Windows(
            self._tokens[rows[:, None], columns],
            self._acts[rows[:, None], columns, i],
            rows + self._first_row,
            positions,
        )

    def strongest(self, floors: dict[int, float]) -> dict[int, Windows]:
        """For latents that fire above their floor, the strongest places."""
        cfg = self._cfg
        last = self._tokens.shape[1] - cfg.buffer
        middle = self._acts[:, cfg.buffer : last].transpose(2, 0, 1)
        floor = np.array([floors[latent] for latent in cfg.latents], dtype=np.float32)
        latent, row, position = np.nonzero(middle > floor[:, None, None])
        value = middle[latent, row, position]
        begin = np.searchsorted(latent, np.arange(cfg.n_latents + 1))
        found = {}
        for i in np.unique(latent).tolist():
            mine = slice(begin[i], begin[i + 1])
            order = np.argsort(-value[mine], kind="stable")
            rows, positions = row[mine][order], position[mine][order] + cfg.buffer
            chosen = _apart(rows, positions, cfg) if cfg.no_overlap else slice(_n_kept(cfg))
            found[cfg.latents[i]] = self.windows(i, rows[chosen], positions[chosen])
        return found


def _n_kept(cfg: AutoInterpConfig) -> int:
    return cfg.n_top_ex + _SPARE_TOP


def _floor(top: Windows, cfg: AutoInterpConfig) -> float:
    """What a place has to exceed to be kept."""
    return float(top.acts[-1, cfg.buffer]) if len(top) >= _n_kept(cfg) else 0.0


def _best(windows: Windows, cfg: AutoInterpConfig) -> Windows:
    """The strongest, each text once."""
    windows = windows.take(np.argsort(-windows.acts[:, cfg.buffer], kind="stable"))
    _, first = np.unique(windows.tokens, axis=0, return_index=True)
    return windows.take(np.sort(first)[: _n_kept(cfg)])


def _apart(rows: np.ndarray, positions: np.ndarray, cfg: AutoInterpConfig) -> np.ndarray:
    """Indices of places, strongest first, that are more than `buffer` from stronger ones."""
    free = np.ones(len(rows), dtype=bool)
    chosen = []
    for index in range(len(rows)):
        if free[index]:
            chosen.append(index)
            near = np.abs(positions - positions[index]) <= cfg.buffer
            free &= ~((rows == rows[index]) & near)
            if len(chosen) == _n_kept(cfg):
                break
    return np.array(chosen, dtype=np.int64)


def _sizes(source: TokenSource | TokenSet) -> tuple[int, int]:
    if isinstance(source, TokenSet):
        return min(_BATCH_ROWS, source.n_rows), source.context
    return int(source.store_batch_size_prompts), int(source.context_size)


def _batches(
    source: TokenSource | TokenSet, n_batches: int, batch_size: int
) -> Iterator[Int[np.ndarray, "batch seq"]]:
    """Rows of token ids; -1 in padding."""
    for batch in range(n_batches):
        if isinstance(source, TokenSet):
            rows = slice(batch * batch_size, (batch + 1) * batch_size)
            inside = np.arange(source.context) < source.lengths[rows, None]
            yield np.where(inside, source.tokens[rows], -1).astype(np.int64)
        else:
            yield source.get_batch_tokens().detach().cpu().numpy().astype(np.int64)


@torch.no_grad()
def _activations(
    model: Model,
    sae: SAE,
    tokens: Int[np.ndarray, "batch seq"],
    latents: Sequence[int],
    progress: Progress | None,
) -> Float[np.ndarray, "batch seq n_latents"]:
    hook_name, layer = sae_hook_name(sae), sae_layer(sae)
    ids = torch.from_numpy(np.maximum(tokens, 0)).to(next(model.parameters()).device)
    stop = None if layer is None else layer + 1
    site = cache_sites(model, ids, [hook_name], stop_at_layer=stop)[hook_name].flatten(0, 1)
    chosen = torch.tensor(list(latents), device=sae.W_dec.device)
    out = []
    for part in site.split(max(64, _ENCODE_BYTES // (4 * sae.cfg.d_sae))):
        if progress is not None:
            progress.check()
        # Firing is being above 0, whatever an architecture gives below.
        out.append(encode(sae, part)[:, chosen].float().clamp(min=0).cpu())
    return torch.cat(out).reshape(*tokens.shape, len(latents)).numpy()


def _check(model: Model, sae: SAE, cfg: AutoInterpConfig, context: int) -> None:
    d_sae = sae.cfg.d_sae
    if max(cfg.latents) >= d_sae:
        raise ValueError(
            f"There is no latent {max(cfg.latents)}; this SAE has {d_sae}, so choose 0 to "
            f"{d_sae - 1}."
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
