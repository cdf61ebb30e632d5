"""The logit lens of all latents: the shape of their effects on the vocabulary, and its charts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from core.lease import Lease
from core.logit_lens import all_directions, top_token_ids
from core.logit_statistics import LogitEffects, LogitMoments, TokenEffect, logit_moments
from core.plotly_text import escaped
from core.store import Store
from core.tokens import vocabulary_texts
from core.view.markup import visible_token

N_BINS = 80
"""Bars of the histogram."""
_N_TOKENS = 10
_N_NAMED = 4
UP, DOWN, CHOSEN = "#4c78a8", "#8c8c8c", "#ff8c00"
_LABELLED = 5
_MOST_LABEL = 16


@dataclass(frozen=True, eq=False)
class AllLenses:
    """The shape of the effects of all latents."""

    moments: LogitMoments
    """Arrays `[d_sae]`."""
    tokens: list[str]
    """The tokens that each pushes up most, as one text."""


def all_lenses(lease: Lease, store: Store) -> AllLenses:
    """Shape of the effects of all latents of the lease's first SAE, from the store or computed now.

    Raises ValueError for a site that maps to no tokens.
    """
    with lease.turn() as (model, (sae, *_)):
        directions, W_U = all_directions(model, sae), model.W_U.detach().clone()
        vocabulary = vocabulary_texts(model)
    moments = logit_moments(directions, W_U, store=store, progress=lease.progress)
    top = top_token_ids(directions, W_U, _N_TOKENS, store=store, progress=lease.progress)
    texts = np.array([visible_token(text) for text in vocabulary.texts], dtype=object)
    joined = [" ".join(row) for row in texts[top.boosted[:, :_N_NAMED]].tolist()]
    return AllLenses(moments, joined)


def histogram(effects: LogitEffects) -> go.Figure:
    """How many tokens are pushed how far, with the ones at both ends named."""
    centre = (effects.edges[:-1] + effects.edges[1:]) / 2
    names = _names_in_bins(effects)
    text = [
        f"{low:+.3f} to {high:+.3f}: {n:,} tokens of the vocabulary{names.get(i, '')}"
        for i, (low, high, n) in enumerate(
            zip(effects.edges, effects.edges[1:], effects.counts, strict=False)
        )
    ]
    bars = go.Bar(
        x=centre,
        y=effects.counts,
        width=np.diff(effects.edges) * 0.94,
        marker_color=np.where(centre >= 0, UP, DOWN).tolist(),
        hovertext=text,
        hoverinfo="text",
    )
    figure = go.Figure(bars)
    top = float(np.log10(max(int(effects.counts.max()), 2)))
    for ends, side in ((effects.boosted, 1), (effects.suppressed, -1)):
        _label_ends(figure, effects, ends[:_LABELLED], side, top)
    figure.update_layout(
        height=330,
        margin={"l": 60, "r": 16, "t": 12, "b": 48},
        bargap=0,
        showlegend=False,
        dragmode=False,
    )
    figure.update_xaxes(title_text="change of a token's score (logit)", fixedrange=True)
    # The ends are what matters, and their bars hold one token each.
    figure.update_yaxes(
        type="log",
        title_text="tokens",
        fixedrange=True,
        range=[-0.3, top * 1.75 + 0.7],
        tickvals=[10**power for power in range(int(top) + 1)],
    )
    return figure


def _label_ends(
    figure: go.Figure,
    effects: LogitEffects,
    ends: Sequence[TokenEffect],
    side: int,
    top: float,
) -> None:
    """Names above the bars at one end, on steps so that none covers another."""
    for step, end in enumerate(ends):
        low = float(effects.edges[0])
        width = float(effects.edges[1] - effects.edges[0]) or 1.0
        place = min(int((end.effect - low) / width), len(effects.counts) - 1)
        height = float(np.log10(max(int(effects.counts[place]), 1)))
        figure.add_annotation(
            x=end.effect,
            y=height,
            ax=end.effect,
            ay=top * 1.75 + 0.35 - step * (top * 1.75) / (_LABELLED + 1),
            axref="x",
            ayref="y",
            text=_plain(end.token),
            showarrow=True,
            arrowhead=0,
            arrowwidth=1,
            arrowcolor="rgba(128,128,128,.5)",
            xanchor="right" if side > 0 else "left",
            font={"size": 12, "family": "monospace"},
        )


def _names_in_bins(effects: LogitEffects) -> dict[int, str]:
    low, width = float(effects.edges[0]), float(effects.edges[1] - effects.edges[0]) or 1.0
    found: dict[int, list[str]] = {}
    for end in (*effects.boosted, *effects.suppressed):
        place = min(int((end.effect - low) / width), len(effects.counts) - 1)
        names = found.setdefault(place, [])
        if _plain(end.token) not in names:
            names.append(_plain(end.token))
    return {place: "<br>among them " + " ".join(names) for place, names in found.items()}


def scatter(
    moments: LogitMoments,
    tokens: Sequence[str],
    *,
    chosen: int,
    colour: Float[np.ndarray, " n"],
    colour_title: str,
    descriptions: Sequence[str] | None = None,
) -> go.Figure:
    """All latents by skewness and kurtosis of their effects; `customdata` is the latent.

    Latents whose effects have no shape (all equal) are left out. `colour` may hold NaN, which is
    drawn grey.
    """
    drawn = np.flatnonzero(np.isfinite(moments.skewness) & np.isfinite(moments.kurtosis))
    text = [_hover(int(i), moments, tokens, descriptions) for i in drawn]
    known = np.isfinite(colour[drawn])
    figure = go.Figure()
    # A few thousand points are drawn faster without WebGL, which a machine may have to imitate.
    add = figure.add_scatter if len(drawn) <= _FEW else figure.add_scattergl
    for rows, marker in (
        (~known, {"color": "rgba(140,140,140,.5)"}),
        (known, _scale(colour[drawn][known], colour_title)),
    ):
        if rows.any():
            add(
                x=moments.skewness[drawn][rows],
                y=_lifted(moments.kurtosis[drawn][rows]),
                mode="markers",
                marker={"size": 5, "opacity": 0.75, **marker},
                hovertext=[text[i] for i in np.flatnonzero(rows)],
                hoverinfo="text",
                customdata=drawn[rows],
            )
    if chosen in drawn:
        add(
            x=[moments.skewness[chosen]],
            y=_lifted(moments.kurtosis[[chosen]]),
            mode="markers",
            marker={"size": 15, "symbol": "circle-open", "color": CHOSEN, "line": {"width": 3}},
            hovertext=[_hover(chosen, moments, tokens, descriptions)],
            hoverinfo="text",
            customdata=[chosen],
        )
    values = moments.kurtosis[drawn]
    ticks = [
        tick for tick in _TICKS if len(values) and values.min() <= tick <= max(values.max(), 0)
    ]
    figure.update_layout(
        height=520,
        margin={"l": 64, "r": 16, "t": 12, "b": 48},
        showlegend=False,
        hoverlabel={"align": "left"},
        dragmode="pan",
    )
    figure.update_xaxes(title_text="skewness: the far tail is pushed up (right) or down (left)")
    figure.update_yaxes(
        title_text="excess kurtosis: few tokens are pushed far",
        tickvals=_lifted(np.array(ticks, dtype=float)),
        ticktext=[f"{tick:g}" for tick in ticks],
    )
    return figure


_FEW = 3000
_TICKS = (-2, -1, 0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20000)


def _lifted(kurtosis: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    # Kurtosis spans -2 to thousands: near 0 straight, then as its logarithm.
    return np.arcsinh(kurtosis)


def _scale(values: Float[np.ndarray, " n"], title: str) -> dict[str, Any]:
    low, high = (float(bound) for bound in np.percentile(values, [1, 99]))
    return {
        "color": values,
        "colorscale": "Viridis",
        "cmin": low,
        "cmax": max(high, low + 1e-9),
        "colorbar": {"title": {"text": title, "side": "right"}, "thickness": 12},
    }


def _hover(
    latent: int,
    moments: LogitMoments,
    tokens: Sequence[str],
    descriptions: Sequence[str] | None,
) -> str:
    lines = [
        f"<b>Latent {latent}</b>",
        f"skewness {moments.skewness[latent]:.2f}, excess kurtosis {moments.kurtosis[latent]:.1f}",
        f"standard deviation {moments.std[latent]:.3f}",
        f"makes more likely: {escaped(tokens[latent])[:90]}",
    ]
    if descriptions is not None and descriptions[latent]:
        lines.append(escaped(descriptions[latent])[:90])
    return "<br>".join(lines)


def _plain(token: str) -> str:
    shown = re.sub(r"␣{3,}", lambda run: f"␣×{len(run[0])}", visible_token(token))
    return escaped(shown if len(shown) <= _MOST_LABEL else shown[: _MOST_LABEL - 1] + "…")
