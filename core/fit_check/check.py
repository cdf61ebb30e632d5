"""Is this SAE read where it was trained? What it does to a text, and what would fit better.

    check = check_fit(model, sae, tokens)
    check.fvu, check.l0, check.warnings

One pass of the model over some 2,000 tokens gives L0, the fraction of variance unexplained (FVU;
of the output site for transcoders) and the share of latents that stay silent, three more over half
of them the loss recovered. In the same pass, neighbouring sites of the SAE's width are kept at some
hundred positions, and the SAE is tried on each, on its own site normalised otherwise, and with BOS
the other way round. An SAE that fits another input clearly better is read at the wrong one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sae_lens import SAE, TemporalSAE
from torch import Tensor

from core.corpus.bos import bos_id
from core.corpus.token_set import TokenSet
from core.fit_check.loss import loss_recovered, loss_sums
from core.fit_check.result import Fit, FitCheck
from core.fit_check.sentences import sentences_of
from core.fit_check.sites import Alternative, neighbour_names, other_scales, other_sites, read_sites
from core.fit_check.sums import RowSums, draws, figure, row_sums
from core.models.hooks import Model, context_length
from core.saes import head_of, sae_hook_name

FIT_TOKENS = 2000
"""Positions on which an SAE is checked unless told otherwise."""
_BATCH_TOKENS = 1024
_LOSS_TOKENS = 1024
_SCREENED, _COMPARED = 96, 512
"""Positions on which all alternatives are tried, and on which the best few are."""
_FINALISTS = 3

__all__ = ["FIT_TOKENS", "Checking", "Fit", "FitCheck", "Step", "check_fit"]

Step = Callable[[Model, SAE], None]
"""A part of the check, for who must give the model back in between."""


def check_fit(
    model: Model,
    sae: SAE,
    tokens: TokenSet,
    *,
    declared_l0: float | None = None,
    reconstructs: bool = True,
    with_loss: bool = True,
) -> FitCheck:
    """Check an SAE that fits the model on the positions of `tokens` that count.

    Args:
        declared_l0: active latents a token as published; a figure 3 times off is warned about.
        reconstructs: False for an SAE that is not to reconstruct one site (a layer of a
            cross-layer transcoder).
        with_loss: whether to measure the loss recovered (three more runs over 1,024 tokens).

    Raises:
        ValueError: no position that counts, activations that are not finite, a site that the
            model does not have.
    """
    check = Checking(
        tokens, declared_l0=declared_l0, reconstructs=reconstructs, with_loss=with_loss
    )
    bos = bos_id(model.tokenizer, d_vocab=int(model.cfg.d_vocab))
    for step in check.steps(context_length(model), bos):
        step(model, sae)
    return check.result()


class Checking:
    """A check in steps of about a second, each of which needs the model and the SAE."""

    def __init__(
        self,
        tokens: TokenSet,
        *,
        declared_l0: float | None = None,
        reconstructs: bool = True,
        with_loss: bool = True,
    ) -> None:
        if tokens.n_tokens == 0:
            raise ValueError("The text has no token that counts; choose a longer one.")
        self.tokens, self.declared_l0 = tokens, declared_l0
        self.reconstructs, self.with_loss = reconstructs, with_loss
        self._compared = _some_positions(tokens)
        self._sums: RowSums | None = None
        self._fired: Tensor | None = None
        self._kept: dict[str, list[Tensor]] = {}
        self._sites = ("", "")
        self._losses: list[np.ndarray] = []
        self._own: RowSums | None = None
        self._others: list[tuple[Alternative, RowSums]] = []
        self._bos: tuple[str, RowSums] | None = None

    def steps(self, n_ctx: int, bos_id: int | None) -> Iterator[Step]:
        """Everything there is to do, in order."""
        batches = _batches(self.tokens)
        for rows in batches:
            yield partial(self._read, rows=rows)
        if self.with_loss and self.reconstructs:
            left = _LOSS_TOKENS
            for rows in batches:
                if left > 0:
                    yield partial(self._loss, rows=rows)
                left -= int(self.tokens.mask[rows].sum())
        if self.reconstructs:
            yield self._compare
            yield partial(self._other_bos, n_ctx=n_ctx, bos_id=bos_id)

    def result(self) -> FitCheck:
        """What all steps have found."""
        sums, fired = self._sums, self._fired
        if sums is None or fired is None:
            raise ValueError("Nothing was measured; run the steps first.")
        rows = len(sums.n)
        weights = draws(rows)
        fvu = figure(float(sums.fvu()[0]), sums.fvu(weights), rows=rows)
        own, fits = self._fits(weights)
        recovered, n_loss = loss_recovered(self._losses)
        check = FitCheck(
            hook_name=self._sites[0],
            hook_name_out=self._sites[1],
            n_tokens=int(sums.n.sum()),
            l0=figure(float(sums.l0()[0]), sums.l0(weights), rows=rows),
            fvu=fvu if self.reconstructs and np.isfinite(fvu.value) else None,
            dead_fraction=float((~fired).float().mean()),
            loss_recovered=recovered,
            loss_tokens=n_loss,
            own=own,
            compared_tokens=0 if self._own is None else int(self._own.n.sum()),
            alternatives=fits,
            declared_l0=self.declared_l0,
        )
        words = sentences_of(
            check, n_distinct=len(np.unique(self.tokens.tokens[self.tokens.mask])), rows=rows
        )
        return replace(check, warnings=words.warnings, notes=words.notes)

    def _read(self, model: Model, sae: SAE, rows: slice) -> None:
        hook = sae_hook_name(sae)
        out = sae.cfg.metadata.hook_name_out if hasattr(sae.cfg, "d_out") else None
        out = str(out or hook)
        self._sites = (hook, out)
        ids, mask = self._rows(model, rows)
        names = {}
        if self.reconstructs and not isinstance(sae, TemporalSAE):
            some = torch.from_numpy(self._compared[rows, : mask.shape[1]])
            names = dict.fromkeys(neighbour_names(model, hook), some)
        found = _of_head(sae, read_sites(model, ids, {**names, hook: mask, out: mask}))
        missing = [name for name in (hook, out) if name not in found]
        if missing:
            raise ValueError(
                f"The model ran without reaching {', '.join(missing)}; use another site."
            )
        row = mask.nonzero(as_tuple=True)[0]
        wanted = found[out]
        if self._fired is None:
            self._fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
        sums = row_sums(sae, found[hook], wanted, row, len(ids), fired=self._fired)
        self._sums = sums if self._sums is None else self._sums.joined(sums)
        if names:
            among = torch.from_numpy(self._compared[rows, : mask.shape[1]])[mask]
            for name in {hook, out}:
                found[name] = found[name][among.to(found[name].device)]
            for name, activations in found.items():
                self._kept.setdefault(name, []).append(activations)

    def _compare(self, model: Model, sae: SAE) -> None:
        if not self._kept:
            return
        hook, out = self._sites
        pieces = len(self._kept[hook])
        found = {
            name: torch.cat(parts) for name, parts in self._kept.items() if len(parts) == pieces
        }
        self._kept = {}
        row = torch.from_numpy(self._compared.nonzero()[0])
        rows = self.tokens.n_rows
        order = torch.randperm(len(row), generator=torch.Generator().manual_seed(0))
        screened = order[:_SCREENED].sort().values
        self._own = row_sums(sae, found[hook], found[out], row, rows)
        few = {name: tensor[screened.to(tensor.device)] for name, tensor in found.items()}

        def measured(other: Alternative, at: Tensor) -> RowSums:
            return row_sums(other.sae, other.read, other.wanted, at, rows, undo=other.undo)

        def tried(found: dict[str, Tensor]) -> list[Alternative]:
            scales = other_scales(sae, found[hook], found[out], hook, out)
            return [*other_sites(sae, found, hook, out), *scales]

        # Scales are measured on what is there, so the words of few and of all may differ: places.
        scores = [float(measured(other, row[screened]).fvu()[0]) for other in tried(few)]
        best = np.argsort(np.nan_to_num(scores, nan=np.inf))
        everything = tried(found)
        own = [place for place in best if everything[place].hook_name == hook][:_FINALISTS]
        chosen = dict.fromkeys([*best[:_FINALISTS], *own])
        self._others = [(everything[place], measured(everything[place], row)) for place in chosen]

    def _other_bos(self, model: Model, sae: SAE, n_ctx: int, bos_id: int | None) -> None:
        """The SAE's own site with BOS in front where there is none, or without it."""
        if bos_id is None or self._own is None:
            return
        has = self.tokens.tokens[:, 0] == bos_id
        if has.any() and not has.all():
            return
        words = "without BOS" if has.all() else "with BOS"
        whole: RowSums | None = None
        for rows in _batches(self.tokens):
            ids, mask = self._rows(model, rows)
            some = torch.from_numpy(self._compared[rows, : mask.shape[1]])
            if has.all():
                ids, some = ids[:, 1:], some[:, 1:]
            else:
                front = torch.full_like(ids[:, :1], bos_id)
                ids = torch.cat([front, ids], 1)[:, :n_ctx]
                some = torch.cat([torch.zeros_like(some[:, :1]), some], 1)[:, :n_ctx]
            found = _of_head(sae, read_sites(model, ids, dict.fromkeys(self._sites, some)))
            row = some.nonzero(as_tuple=True)[0]
            read, wanted = (found[name] for name in self._sites)
            sums = row_sums(sae, read, wanted, row, len(ids))
            whole = sums if whole is None else whole.joined(sums)
        if whole is not None:
            self._bos = (words, whole)

    def _loss(self, model: Model, sae: SAE, rows: slice) -> None:
        ids, mask = self._rows(model, rows)
        self._losses.append(loss_sums(model, sae, ids, mask, *self._sites))

    def _fits(self, weights: np.ndarray) -> tuple[Fit | None, tuple[Fit, ...]]:
        if self._own is None:
            return None, ()
        own, rows = self._own, len(self._own.n)
        mine = own.fvu(weights)

        def fit(words: str, hook: str, sums: RowSums, change: str = "", norm: str = "") -> Fit:
            samples = sums.fvu(weights)
            with np.errstate(invalid="ignore"):
                better = float(np.mean(samples < mine)) >= 0.99
            interval = figure(float(sums.fvu()[0]), samples, rows=rows)
            return Fit(words, hook, interval, float(sums.l0()[0]), change, norm, better)

        hook = self._sites[0]
        others = [
            fit(other.words, other.hook_name, sums, norm=other.normalisation)
            for other, sums in self._others
        ]
        if self._bos is not None:
            change, sums = self._bos
            words = f"on text {change.replace('BOS', 'BOS in front')} (prepend_bos)"
            others.append(fit(words, hook, sums, change))
        finite = [other for other in others if np.isfinite(other.fvu.value)]
        return fit(hook, hook, own), tuple(sorted(finite, key=lambda other: other.fvu.value))

    def _rows(self, model: Model, rows: slice) -> tuple[Tensor, Tensor]:
        longest = max(1, int(self.tokens.lengths[rows].max()))
        device = next(model.parameters()).device
        ids = torch.from_numpy(self.tokens.tokens[rows, :longest].astype(np.int64)).to(device)
        return ids, torch.from_numpy(self.tokens.mask[rows, :longest])


def _of_head(sae: SAE, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of sites divided into heads, for an SAE of a single head, that head alone."""
    head, width = head_of(sae), sae.cfg.d_in
    if head is None:
        return dict(found)
    return {
        name: site[:, head] if site.dim() == 3 and site.shape[2] == width else site
        for name, site in found.items()
    }


def _batches(tokens: TokenSet) -> Sequence[slice]:
    step = max(1, _BATCH_TOKENS // tokens.context)
    return [slice(at, at + step) for at in range(0, tokens.n_rows, step)]


def _some_positions(tokens: TokenSet) -> np.ndarray:
    """A random mask of the positions on which alternatives are compared."""
    places = np.flatnonzero(tokens.mask)
    chosen = np.random.default_rng(0).permutation(places)[:_COMPARED]
    some = np.zeros(tokens.mask.size, dtype=bool)
    some[chosen] = True
    return some.reshape(tokens.mask.shape)
