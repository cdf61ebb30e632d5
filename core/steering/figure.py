"""Concept against damage: how much of what is wanted does a strength buy, at what price?"""

import pandas as pd
import plotly.graph_objects as go

from core.plotly_text import escaped
from core.steering.measures import frontier

_COLOURS = ("#ff8c00", "#4c78a8", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#eeca3b")
_GREY = "#8c8c8c"
_MOST_LINES = 40


def damage_figure(rows: pd.DataFrame) -> go.Figure:
    """Gain of the boosted tokens' probability against the rise of the loss, on held-out texts.

    A line a group of latents, by strength; random directions of the same lengths in grey; rings
    around points that no other strength or latent beats in both.
    """
    figure = go.Figure()
    steered = rows[rows["kind"] == "latent"]
    plain = rows[rows["kind"] == "unsteered"]
    random = rows[rows["kind"] == "random"]
    figure.add_scatter(
        x=random["loss_change"],
        y=random["gain"],
        mode="markers",
        name="random directions",
        marker={"color": _GREY, "size": 7, "symbol": "x-thin-open"},
        hovertext=[_hover(it) for _, it in random.iterrows()],
        hoverinfo="text",
    )
    for number, (_, group) in enumerate(steered.groupby("group", sort=True)):
        if number == _MOST_LINES:
            break
        ordered = group.sort_values("strength")
        figure.add_scatter(
            x=ordered["loss_change"],
            y=ordered["gain"],
            mode="lines+markers",
            name=f"latent {ordered['latents'].iloc[0]}"[:40],
            line={"width": 1.5, "color": _COLOURS[number % len(_COLOURS)]},
            marker={"size": 8},
            hovertext=[_hover(it) for _, it in ordered.iterrows()],
            hoverinfo="text",
        )
    best = frontier(steered["loss_change"].to_numpy(float), steered["gain"].to_numpy(float))
    figure.add_scatter(
        x=steered["loss_change"][best],
        y=steered["gain"][best],
        mode="markers",
        name="not beaten in both",
        marker={"size": 16, "symbol": "circle-open", "color": _GREY, "line": {"width": 2}},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=plain["loss_change"],
        y=plain["gain"],
        mode="markers",
        name="unsteered",
        marker={"size": 10, "symbol": "diamond", "color": "#222222"},
        hovertext="unsteered",
        hoverinfo="text",
    )
    figure.update_layout(
        height=420,
        margin={"l": 64, "r": 16, "t": 12, "b": 48},
        hoverlabel={"align": "left"},
        legend={"font": {"size": 11}},
    )
    figure.update_xaxes(title_text="damage: rise of the loss on held-out text (nats a token)")
    figure.update_yaxes(title_text="concept: gain of the boosted tokens' probability")
    return figure


def _hover(row: pd.Series) -> str:
    what = "random direction for" if row["kind"] == "random" else "latent"
    return "<br>".join(
        [
            f"<b>{what} {escaped(str(row['latents']))[:60]}</b>, strength {row['strength']:g}",
            f"boosted tokens {row['boosted']:.3f}, "
            f"{row['gain']:+.3f} [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}]",
            f"loss {row['loss_change']:+.3f} [{row['loss_low']:+.3f}, {row['loss_high']:+.3f}]",
            f"KL {row['kl']:.3f}",
        ]
    )
