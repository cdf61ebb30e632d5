"""All latents of the SAE: how dense they are, and a table to choose from."""

from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from core.catalog.entries import SaeEntry
from core.latent import charts
from core.latent.view import KINDS, ORDERS, LatentPageView
from core.view.selection import Selection
from pages.parts import downloads, errors, plots, typed
from pages.parts.latent import descriptions, index, session, steering, text_to_read
from pages.parts.latent.session import draw_clickable_table

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex

_CHART = "latent_densities"


def draw(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """Histogram, filters and the table."""
    opened = index.open_index(selection, entry, view)
    if opened is None:
        if not index.is_being_made(selection, entry, view):
            text_to_read.draw_offer(selection, entry, view)
        return
    text_to_read.draw_line(selection, entry, view)
    _densities(opened, selection, view)
    _filters(view)
    about = index.all_latents(selection, opened)
    texts = descriptions.all_texts(entry, opened)
    with errors.shown_plainly():
        from core.latent.all_latents import latent_table

        scores = steering.scores(selection, entry, opened)
        if scores is None and (view.order in ("output", "input") or view.kind == "steer"):
            st.caption("The scores that this order or choice needs have not been made yet.")

        table = latent_table(
            opened.summary,
            texts=texts.texts,
            logit_skew=about.logit_skew if about is not None else None,
            order=view.order,
            kind=view.kind,
            density=view.density,
            words=view.words,
            scores=scores,
        )
        if scores is not None:
            steering.best_link(selection, table)
        st.caption(f"{len(table):,} of {opened.d_sae:,} latents. A click on a line opens it.")
        targets = [
            Selection(selection.model, *selection.sae, latent=int(latent))
            for latent in table["latent"]
        ]
        draw_clickable_table(
            table.assign(density=100 * table["density"]),
            targets,
            key="latent_table",
            height=560,
            columns=_columns() | steering.columns(),
            opens_dashboard=True,
        )
        downloads.table(lambda: table, f"latents-{entry.sae_id}", key="latent_table_file")


def _densities(opened: "OpenIndex", selection: Selection, view: LatentPageView) -> None:
    from core.latent.all_latents import density_histogram

    found = density_histogram(opened.summary)
    st.markdown("**How often latents are active**")
    dead = f" {found.n_dead:,} were never active." if found.n_dead else ""
    st.caption(
        f"On {opened.n_tokens:,} tokens.{dead} Click a bar, or drag over several, to list those "
        "latents; the orange line is the chosen latent."
    )
    if len(found.counts) == 0:
        return
    own = float(opened.summary["log10_frequency"].iloc[selection.latent])
    figure = charts.densities(found, view.density, own)
    figure.update_layout(dragmode="select", selectdirection="h")
    plots.draw(
        figure,
        key=_CHART,
        config=charts.CONFIG,
        on_select=lambda: _bars_chosen(found.edges),
        selection_mode=("points", "box"),
    )


def _bars_chosen(edges: np.ndarray) -> None:
    event: Any = st.session_state[_CHART]
    numbers = [int(point["point_index"]) for point in event.selection.get("points", ())]
    inside = [number for number in numbers if 0 <= number < len(edges) - 1]
    if inside:
        low, high = float(edges[min(inside)]), float(edges[max(inside) + 1])
        session.change(density=(round(low - 1e-4, 4), round(high + 1e-4, 4)))


def _filters(view: LatentPageView) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox(
            "Order",
            format_func=ORDERS.__getitem__,
            width=280,
            **session.menu("latent_order", "order", list(ORDERS)),
        )
        st.selectbox(
            "Show",
            format_func=KINDS.__getitem__,
            width=220,
            **session.menu("latent_kind", "kind", list(KINDS), density=()),
        )
        typed.line(
            "Description holds",
            most=200,
            placeholder="for example: array",
            width=260,
            **session.widget("latent_words", "words", read=str.strip),
        )
        if view.density:
            low, high = (charts.share(10.0**power) for power in view.density)
            st.button(
                f"Active at {low} to {high} of tokens: show all again",
                key="latent_any_density",
                icon=":material/close:",
                on_click=lambda: session.change(density=()),
            )


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "density": number(
            "active at",
            format="%.3g%%",
            help="Share of the tokens at which it is active. 0% is a latent that never was.",
        ),
        "mean": number(format="%.3g", help="Mean activation where it is active."),
        "max": number(format="%.3g", help="Largest activation."),
        "skew": number(
            "skew",
            format="%.2f",
            help="Skewness of its activations where it is active: above 0 when a few are much "
            "larger than most.",
        ),
        "logit_skew": number(
            "skewness of logit weights",
            format="%.2f",
            help="Skewness of its effects on the vocabulary: far above 0 for latents that make a "
            "few tokens much more likely.",
        ),
    }
