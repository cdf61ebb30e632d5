"""The quality of the selected SAE: figures with intervals, nulls and what was published."""

from typing import TYPE_CHECKING

import streamlit as st

from core.catalog.entries import SaeEntry
from core.fit_check.sums import Figure
from core.sae_quality.view import SaePageView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import downloads, plots
from pages.parts.sae import jobs, metric

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from core.sae_quality.result import Quality

_CHART = {"displayModeBar": False, "displaylogo": False}


def draw(selection: Selection, entry: SaeEntry, view: SaePageView) -> None:
    """The section; the selection must be loaded."""
    found = jobs.quality(selection, [entry], view, unasked=True)
    if found is None:
        return
    one = found[0]
    quality = one.quality
    _metrics(quality, entry)
    st.caption(escape_markdown(_rests_on(quality, one.text)))
    _charts(quality)
    with st.expander("All figures as a table, and how they are made", key="quality_all"):
        _table(quality, entry)
    _files(quality, entry)


def _metrics(quality: "Quality", entry: SaeEntry) -> None:
    text, loss = quality.text, quality.loss
    with st.container(border=True):
        with st.container(horizontal=True, gap="medium"):
            _metric(
                "Active per token (L0)",
                text.l0,
                "{:.1f}",
                entry.l0,
                "Latents that are active at a token, on average.",
            )
            _metric(
                "Variance explained",
                text.explained_variance,
                "{:.1%}",
                entry.explained_variance,
                "Share of the variance of the activations that the SAE reproduces.",
                null=f"random directions {quality.random_explained:.1%}",
            )
            if loss is not None:
                _metric(
                    "Loss recovered (zeros)",
                    loss.recovered_zero,
                    "{:.1%}",
                    entry.loss_recovered,
                    "(loss with zeros − loss with the SAE) / (loss with zeros − loss of the "
                    "model): 0 % is as bad as zeros in the site's place, 100 % costs nothing.",
                )
                _metric(
                    "Loss recovered (mean)",
                    loss.recovered_mean,
                    "{:.1%}",
                    None,
                    "The same with the text's mean activation as the floor, which is the stricter "
                    "one where the mean is large.",
                )
                _metric(
                    "KL divergence",
                    loss.kl_sae,
                    "{:.3f}",
                    None,
                    "How far the model's predictions move when the SAE's version takes the "
                    "site's place, in nats a token.",
                    null=f"mean {loss.kl_mean.value:.2f}, zeros {loss.kl_zero.value:.2f}",
                )
        with st.container(horizontal=True, gap="medium"):
            later = text.dead_on_twice_the_text
            dead = Figure(text.dead_fraction, later, text.dead_fraction)
            _metric(
                "Never active (dead)",
                dead,
                "{:.1%}",
                entry.dead_fraction,
                "Share of latents that were silent on this text. The lower end is what would "
                "still be silent on twice as much text, estimated from how many fired once, "
                "twice, … (Good and Toulmin).",
            )
            _metric(
                "Dense (over 10 %)",
                text.dense_fraction(),
                "{:.1%}",
                None,
                "Share of latents that are active at more than a tenth of tokens.",
            )


def _metric(
    label: str, figure: Figure, form: str, said: float | None, help: str, *, null: str = ""
) -> None:
    low, high = form.format(figure.low), form.format(figure.high)
    interval = f"{low}–{high}" if low != high and figure.low < figure.high else ""
    published = "" if said is None else f"published {form.format(said)}"
    notes = [it for it in (interval, null, published) if it]
    value = form.format(figure.value) if figure.value == figure.value else "–"
    metric.draw(label, value, " · ".join(notes), help)


def _rests_on(quality: "Quality", text: str) -> str:
    loss = quality.loss
    predictions = "" if loss is None else f", losses on {loss.n_tokens:,} predictions"
    return (
        f"{quality.text.n_tokens:,} tokens of {text}{predictions}. Below each figure: its 95 % "
        "interval, what a null reaches, and what was published; in the charts the null is grey."
    )


def _charts(quality: "Quality") -> None:
    from core.sae_quality import figures

    text, geometry = quality.text, quality.geometry
    encoder = figures.encoder_figure(geometry)
    charts = [
        ("Active latents at a token", figures.l0_figure(text), ""),
        (
            "Variance explained by position",
            figures.position_figure(text),
            "About the mean of the positions themselves; the first tokens of a row often differ.",
        ),
        (
            "How often latents fire",
            figures.rate_figure(text),
            f"{int((text.firings == 0).sum()):,} latents never fired; right of the line they "
            "are dense.",
        ),
        ("Lengths of decoder rows", figures.norm_figure(geometry), ""),
        (
            "Nearest neighbour of each decoder row",
            figures.neighbour_figure(geometry),
            "Rows nearer than random rows of the same covariance have relatives: they split.",
        ),
        (
            "Encoder against decoder",
            encoder,
            "How far a latent reads what it writes."
            if encoder is not None
            else "This SAE has no encoder in the space that it writes.",
        ),
    ]
    for number in range(0, len(charts), 2):
        for column, chart in zip(st.columns(2), charts[number : number + 2], strict=True):
            with column:
                _chart(*chart)


def _chart(title: str, figure: "go.Figure | None", note: str) -> None:
    st.markdown(f"**{title}**")
    if figure is not None:
        plots.draw(figure, key=f"sae_quality_{title}", config=_CHART)
    if note:
        st.caption(note)


def _table(quality: "Quality", entry: SaeEntry) -> None:
    from core.sae_quality.tables import quality_lines

    st.dataframe(quality_lines(quality, entry), hide_index=True)
    st.markdown(
        "Intervals of figures of the text come from drawing groups of its rows with replacement "
        "400 times; rows, not tokens, because tokens of one row are alike. **Random directions**: "
        "as many as the SAE has latents, of which as many as its L0 with the largest projections "
        "are written back with the one factor that serves best. **Rows of the same covariance** "
        "are drawn from the normal distribution with the mean and covariance of the decoder's own "
        "rows. The cosine of encoder and decoder is beside that of pairs that were mixed up."
    )


def _files(quality: "Quality", entry: SaeEntry) -> None:
    from core.sae_quality.tables import latent_table, quality_lines

    name = f"{entry.release}-{entry.sae_id}-quality"
    with st.container(horizontal=True, gap="large"):
        downloads.table(
            lambda: quality_lines(quality, entry), name, key="sae_quality", what="Quality"
        )
        with st.popover("Every latent"):
            downloads.table(
                lambda: latent_table(quality),
                f"{name}-latents",
                key="sae_latents",
                what="Every latent",
            )
