"""Positions at which concepts are looked for, with what the model and an SAE have there."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from scipy.sparse import csr_array
from torch import Tensor

from core.activations.coded import coded
from core.corpus.bos import bos_id
from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.models.hooks import Model
from core.sae_quality.measure import batches_of, positions_of
from core.saes import check_fits, decode, sae_hook_name
from core.saes.writes import input_scale, unit_writes, written_site

PER_TOKEN = 10
"""Positions of one token that are kept, so that frequent tokens do not drown the others."""
MOST_SITES = 20_000
_BATCH_TOKENS = 2048


@dataclass(frozen=True, eq=False)
class Sites:
    """Some positions; `n` of them."""

    x: Float[np.ndarray, "n d"]
    """What the SAE is to write there, less what it writes without any latent: what its latents
    have to explain (float32)."""
    acts: csr_array
    """Activations of the latents, `[n, d_sae]`."""
    token: Int[np.ndarray, " n"]
    """Token at each position."""
    rows: Float[np.ndarray, "d_sae d"]
    """What a unit of each latent writes (float32)."""
    bias: Float[np.ndarray, " d"]
    """What was taken off `x`."""
    others: csr_array | None = None
    """Activations of a second SAE at the same positions, where the lease had one."""
    unit: str = "tokens"
    """What `token` numbers: held out and drawn with replacement as a whole."""
    place: Int[np.ndarray, " n"] | None = None
    """Where each is in the text that was read, `row · context + position`; None where they are of
    no text."""

    def __post_init__(self) -> None:
        n, d_sae = self.acts.shape
        if len(self.x) != n or len(self.token) != n or len(self.rows) != d_sae:
            raise ValueError(
                f"x {self.x.shape}, acts {self.acts.shape}, token {self.token.shape} and rows "
                f"{self.rows.shape} do not fit; give [n, d], [n, d_sae], [n] and [d_sae, d]."
            )

    @property
    def l0(self) -> float:
        """Active latents a position."""
        return self.acts.nnz / max(1, self.acts.shape[0])

    def only(self, chosen: np.ndarray) -> "Sites":
        """Some of the positions."""
        others = None if self.others is None else self.others[chosen]
        place = None if self.place is None else self.place[chosen]
        return replace(
            self,
            x=self.x[chosen],
            acts=self.acts[chosen],
            token=self.token[chosen],
            others=others,
            place=place,
        )


def text_sites(
    lease: Lease, tokens: TokenSet, *, per_token: int = PER_TOKEN, seed: int = 0
) -> Sites:
    """Positions of a text that count, at most `per_token` of each token and 20,000 in all, drawn.

    The SAE is the lease's first; of a second one, of the same site, the activations are kept too.

    Raises:
        ValueError: a text without a token, an SAE whose latents do not simply add up.
    """
    return read_positions(lease, drawn_text(tokens, per_token=per_token, seed=seed))


def drawn_text(tokens: TokenSet, *, per_token: int = PER_TOKEN, seed: int = 0) -> TokenSet:
    """The text with only the positions that `text_sites` reads."""
    return replace(tokens, mask=drawn_positions(tokens.mask, tokens.tokens, per_token, seed))


def vocabulary_sites(lease: Lease) -> Sites:
    """Every token of the vocabulary on its own, after BOS where the tokenizer has one."""
    return read_positions(lease, vocabulary_rows(lease))


def vocabulary_rows(lease: Lease) -> TokenSet:
    """A row for each token, after BOS where the tokenizer has one.

    Special tokens are left out, and of more than 20,000 tokens some, evenly over the ids.
    """
    with lease.turn() as (model, _):
        n = int(model.cfg.d_vocab)
        bos = bos_id(model.tokenizer, d_vocab=n)
        tokenizer: Any = model.tokenizer
        special = set(tokenizer.all_special_ids)
    ids = np.array([it for it in range(n) if it not in special])
    ids = ids[np.linspace(0, len(ids) - 1, min(len(ids), MOST_SITES)).astype(int)]
    rows = ids[:, None] if bos is None else np.stack([np.full(len(ids), bos), ids], 1)
    return TokenSet.from_rows(rows, bos_id=bos)


def drawn_positions(
    mask: Bool[np.ndarray, "rows context"],
    unit: Int[np.ndarray, "rows context"],
    per_unit: int,
    seed: int,
) -> Bool[np.ndarray, "rows context"]:
    """Some of the positions of `mask`: at most so many of each unit, and 20,000 in all.

    Raises ValueError where there is none.
    """
    places = np.flatnonzero(mask)
    if len(places) == 0:
        raise ValueError("The text has no token that counts; choose a longer one.")
    order = np.random.default_rng(seed).permutation(places)
    ids = unit.ravel()[order]
    by_token = np.argsort(ids, kind="stable")
    starts = np.r_[True, np.diff(ids[by_token]) != 0]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(ids)), 0))
    rank = np.arange(len(ids)) - first
    kept = order[by_token[rank < per_unit]]
    kept = kept[np.random.default_rng(seed).permutation(len(kept))[:MOST_SITES]]
    found = np.zeros(mask.size, bool)
    found[kept] = True
    return found.reshape(mask.shape)


def read_positions(lease: Lease, tokens: TokenSet) -> Sites:
    """Every position that counts, in order. Raises ValueError as `text_sites`."""
    with lease.turn() as (model, saes):
        for sae in saes:
            check_fits(sae, model)
            _check(sae)
        if len({(sae_hook_name(it), written_site(it)) for it in saes}) != 1:
            raise ValueError("The SAEs are of different sites; choose two of one site.")
        hook, out = sae_hook_name(saes[0]), written_site(saes[0])
        rows = unit_writes(saes[0], range(saes[0].cfg.d_sae)).float().cpu().numpy()
        bias = _bias(saes[0]).float().cpu().numpy()
        widths = [int(it.cfg.d_sae) for it in saes]
    # What the model has at each position is needed, so firings on disk would spare no run of it.
    batches = batches_of(tokens, _BATCH_TOKENS)
    kept: list[np.ndarray] = []
    parts: list[list[csr_array]] = [[] for _ in widths]

    def read(model: Model, saes: list[SAE], first: int, last: int) -> None:
        for rows_of in batches[first:last]:
            lease.progress.check()
            if not tokens.mask[rows_of].any():
                continue
            x, y, _, _ = positions_of(model, saes[0], tokens, rows_of, hook, out)
            kept.append(y.float().cpu().numpy())
            for part, sae, width in zip(parts, saes, widths, strict=True):
                part.append(_firings(sae, x, width))

    lease.in_turns(len(batches), read, unit="batches", message="Reading what is active where")
    from scipy.sparse import vstack

    acts = [csr_array(vstack(part)) for part in parts]
    row, position = tokens.mask.nonzero()
    token = tokens.tokens[row, position].astype(np.int64)
    others = acts[1] if len(acts) > 1 else None
    place = np.flatnonzero(tokens.mask)
    return Sites(np.concatenate(kept) - bias, acts[0], token, rows, bias, others, place=place)


def _firings(sae: SAE, x: Tensor, width: int) -> csr_array:
    pieces = []
    for some in x.split(1024):
        found = coded(sae, some)
        at, latent = found.position.cpu().numpy(), found.latent.cpu().numpy()
        value = found.value.float().cpu().numpy()
        pieces.append(csr_array((value, (at, latent)), shape=(len(some), width)))
    from scipy.sparse import vstack

    return csr_array(vstack(pieces))


def _check(sae: SAE) -> None:
    if input_scale(sae) is not None:
        raise ValueError(
            "This SAE multiplies what its latents write by a measure of each input "
            f"({sae.cfg.normalize_activations}), so shares of a direction cannot be told apart by "
            "latent; choose an SAE without that."
        )


@torch.no_grad()
def _bias(sae: SAE) -> Tensor:
    nothing = sae.W_dec.new_zeros(1, sae.cfg.d_sae)
    return decode(sae, nothing, d_head=int(sae.W_dec.shape[1])).flatten(1)[0]
