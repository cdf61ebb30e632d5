"""The logit lens tab: one latent's effects on all tokens, and the shape of them for all latents."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from core.engine import Engine
from core.jobs.progress import Progress
from core.link import Link, LinkField, one_of
from core.logit_statistics import LogitMoments, latent_logits, logit_histogram, logit_moments
from core.saes.writes import logit_notes, residual_directions
from core.splitting.tokens import all_directions, top_token_ids
from core.store import ARRAYS, Key, Store
from core.store.fingerprint import fingerprint
from core.tokens import token_text, vocabulary_texts
from core.view.markup import visible_token
from core.view.selection import Selection

COLOURS = {"std": "Size of the effects", "density": "How often it is active"}
"""What the points' colour can stand for."""
_VERSION = 1
_N_TOKENS = 10
_N_SHOWN = 4


@dataclass(frozen=True)
class LensView:
    """Settings of this tab."""

    colour: str = "std"
    """One of `COLOURS`."""


LINK = Link(LensView(), (LinkField("colour", "lens", one_of(tuple(COLOURS))),))
"""How a view is written to the link and read from it."""


@dataclass(frozen=True, eq=False)
class LatentLens:
    """One latent's effect on every token's score (logit), per unit of activation."""

    counts: Int[np.ndarray, " n_bins"]
    """Tokens of the vocabulary in each bin."""
    edges: Float[np.ndarray, " n_bins_plus_1"]
    """Edges of the bins."""
    moments: LogitMoments
    """Of this latent alone: arrays of one number."""
    highest: tuple[tuple[str, float], ...]
    """Tokens pushed up most, with their effects."""
    lowest: tuple[tuple[str, float], ...]
    """Tokens pushed down most, with their effects."""
    notes: tuple[str, ...] = ()
    """What has to be known to read the effects, a sentence each."""

    @property
    def is_flat(self) -> bool:
        """Whether all tokens are pushed alike, so that there is nothing to see."""
        return not float(self.moments.std[0]) > 0


@dataclass(frozen=True, eq=False)
class AllLenses:
    """The shape of the effects of all latents."""

    moments: LogitMoments
    """Arrays `[d_sae]`."""
    tokens: list[str]
    """The tokens that each pushes up most, as one text."""


def latent_lens(engine: Engine, selection: Selection, *, k: int = 10) -> LatentLens:
    """Effects of the selected latent. Raises ValueError for a site that maps to no tokens."""
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        direction = residual_directions(model, sae, [selection.latent])
        logits = latent_logits(direction[0], model.W_U)
        moments = logit_moments(direction, model.W_U)
        notes = logit_notes(model, sae)
        order = np.argsort(logits)
        n = min(k, len(order))
        picked = [*order[::-1][:n].tolist(), *order[:n].tolist()]
        texts = [token_text(model.tokenizer, token_id) for token_id in picked]
    pairs = [(text, float(logits[token_id])) for text, token_id in zip(texts, picked, strict=True)]
    counts, edges = logit_histogram(logits)
    return LatentLens(counts, edges, moments, tuple(pairs[:n]), tuple(pairs[n:]), notes)


def all_lenses(engine: Engine, store: Store, selection: Selection, progress: Progress) -> AllLenses:
    """Shape of the effects of all latents of the selected SAE, from the store or computed now.

    Raises ValueError for a site that maps to no tokens.
    """
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        directions, W_U = all_directions(model, sae), model.W_U.detach().clone()
        vocabulary = vocabulary_texts(model)
    weights = fingerprint({"directions": directions, "W_U": W_U})
    arrays = store.get_or_compute(
        Key("logit-moments", _VERSION, {"weights": weights}),
        lambda: logit_moments(directions, W_U, progress=progress).to_arrays(),
        ARRAYS,
        waiting=progress.check,
    )
    top = top_token_ids(directions, W_U, _N_TOKENS, store=store, progress=progress)
    shown = np.array([visible_token(text) for text in vocabulary.texts], dtype=object)
    joined = [" ".join(row) for row in shown[top.boosted[:, :_N_SHOWN]].tolist()]
    return AllLenses(LogitMoments.from_arrays(arrays), joined)
