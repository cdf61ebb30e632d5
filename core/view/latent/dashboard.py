"""Everything a dashboard shows of one latent: from the index, and from the weights."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from core.activations import LatentExamples, bin_edges, latent_examples, open_part
from core.activations.text_index import OpenIndex
from core.engine import Engine
from core.logit_statistics import latent_logits, logit_histogram
from core.saes.writes import logit_notes, residual_directions
from core.store import Store
from core.tokens import token_text
from core.view.latent_view import TokenEffect
from core.view.selection import Selection

ALWAYS_ON = 0.5
"""Share of the tokens above which a latent is said to be nearly always active."""


@dataclass(frozen=True)
class Partner:
    """A latent that is often active at the same tokens."""

    latent: int
    """Which."""
    together: int
    """Positions of the sample at which both are active."""
    share: float
    """Of the positions at which this latent is active, those at which the partner is, too."""
    frequency: float
    """Share of all positions at which the partner is active: what chance would give."""


@dataclass(frozen=True, eq=False)
class Dashboard:
    """What one latent does on the text that was read."""

    latent: int
    """Which."""
    n_tokens: int
    """Positions looked at."""
    count: int
    """Positions at which it is active."""
    mean: float
    """Mean activation where it is active; NaN where it never is."""
    std: float
    """Standard deviation there."""
    peak: float
    """Largest activation."""
    skew: float
    """Skewness of its activations where it is active."""
    counts: Int[np.ndarray, " n"]
    """Positions in each bin of activation,"""
    edges: Float[np.ndarray, " n_plus_1"]
    """whose edges are these, four to a doubling: from the weakest activation to the strongest."""
    examples: LatentExamples
    """Strongest examples, and some of each part of its range."""
    partners: tuple[Partner, ...]
    """Latents active with it, the closest first."""

    @property
    def frequency(self) -> float:
        """Share of the positions at which it is active."""
        return self.count / self.n_tokens if self.n_tokens else 0.0


@dataclass(frozen=True, eq=False)
class LogitEffects:
    """What one latent does to the model's output, per unit of its activation."""

    boosted: tuple[TokenEffect, ...]
    """Tokens pushed up most, the strongest first."""
    suppressed: tuple[TokenEffect, ...]
    """Tokens pushed down most, the strongest first."""
    counts: Int[np.ndarray, " n"]
    """Tokens of the vocabulary in each bin of effect,"""
    edges: Float[np.ndarray, " n_plus_1"]
    """whose edges are these."""
    notes: tuple[str, ...] = ()
    """What has to be known to read the effects, a sentence each."""


def read_dashboard(store: Store, index: OpenIndex, latent: int) -> Dashboard | None:
    """The dashboard of a latent; reads one part of the index. None when that has left the store.

    Raises ValueError for a latent that does not exist.
    """
    if not 0 <= latent < index.d_sae:
        raise ValueError(
            f"There is no latent {latent}; this SAE has {index.d_sae}, so choose 0 to "
            f"{index.d_sae - 1}."
        )
    part = open_part(store, index.key, latent)
    if part is None:
        return None
    row, facts = latent - part.first_latent, index.summary.iloc[latent]
    used = np.flatnonzero(part.histogram[row])
    bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, 0)
    own = max(1, int(part.sample_counts[row]))
    frequency = index.summary["frequency"].to_numpy()
    partners = tuple(
        Partner(int(other), int(both), int(both) / own, float(frequency[other]))
        for other, both in zip(part.partners[row], part.partner_counts[row], strict=True)
        if other >= 0
    )
    return Dashboard(
        latent=latent,
        n_tokens=part.n_tokens,
        count=int(part.count[row]),
        mean=float(facts["mean"]),
        std=float(facts["std"]),
        peak=float(part.peak[row]),
        skew=float(facts["skew"]),
        counts=part.histogram[row, bins],
        edges=bin_edges()[bins.start : bins.stop + 1],
        examples=latent_examples(part, latent, index.token_set),
        partners=partners,
    )


@torch.no_grad()
def logit_effects(engine: Engine, selection: Selection, *, k: int = 10) -> LogitEffects:
    """Effects of the latent on the vocabulary; the selection must be loaded.

    Raises ValueError for a latent that does not exist, a site that does not write to the residual
    stream, or a decoder row that holds NaN.
    """
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        direction = residual_directions(model, sae, [selection.latent])[0]
        logits, tokenizer = latent_logits(direction, model.W_U), model.tokenizer
        notes = logit_notes(model, sae)
        if not np.isfinite(logits).all():
            raise ValueError(
                f"The decoder row of latent {selection.latent} holds numbers that are not finite; "
                "choose another latent."
            )
        order = np.argsort(logits, kind="stable")
        k = min(k, len(order))

        def effect(token_id: int) -> TokenEffect:
            text = token_text(tokenizer, token_id)
            return TokenEffect(text, token_id, float(logits[token_id]))

        boosted = tuple(effect(int(it)) for it in order[::-1][:k])
        suppressed = tuple(effect(int(it)) for it in order[:k])
    counts, edges = logit_histogram(logits, n_bins=60)
    return LogitEffects(boosted, suppressed, counts, edges, notes)
