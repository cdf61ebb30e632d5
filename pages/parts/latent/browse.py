"""All latents of the SAE: how dense they are, and a table to choose from."""

from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from core.catalog.entries import SaeEntry
from core.view.latent.page_view import KINDS, ORDERS, LatentPageView
from core.view.selection import Selection
from pages.parts import downloads, errors
from pages.parts.latent import charts, descriptions, index, reading, state
from pages.parts.latent.tables import choosable

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex

_CHART = "latent_densities"


def draw(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """Histogram, filters and the table."""
    opened = index.opened(selection, entry, view)
    if opened is None:
        if not index.under_way(selection, entry, view):
            reading.offer(selection, entry, view)
        return
    reading.line(selection, entry, view)
    _densities(opened, selection, view)
    _filters(view)
    about = index.about(selection, opened)
    texts = descriptions.all_texts(entry, opened)
    with errors.shown_plainly():
        from core.view.latent.browse import latent_table

        table = latent_table(
            opened.summary,
            texts=texts.texts,
            logit_skew=about.logit_skew if about is not None else None,
            order=view.order,
            kind=view.kind,
            density=view.density,
            words=view.words,
        )
        st.caption(f"{len(table):,} of {opened.d_sae:,} latents. A click on a line opens it.")
        targets = [
            Selection(selection.model, *selection.sae, latent=int(it)) for it in table["latent"]
        ]
        choosable(
            table.assign(density=100 * table["density"]),
            targets,
            key="latent_table",
            height=560,
            columns=_columns(),
            opens_dashboard=True,
        )
        downloads.table(lambda: table, f"latents-{entry.sae_id}", key="latent_table_file")


def _densities(opened: "OpenIndex", selection: Selection, view: LatentPageView) -> None:
    from core.view.latent.browse import density_histogram

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
    st.plotly_chart(
        figure,
        key=_CHART,
        config=charts.CONFIG,
        on_select=lambda: _bars_chosen(found.edges),
        selection_mode=("points", "box"),
    )


def _bars_chosen(edges: np.ndarray) -> None:
    event: Any = st.session_state[_CHART]
    numbers = [int(it["point_index"]) for it in event.selection.get("points", ())]
    inside = [it for it in numbers if 0 <= it < len(edges) - 1]
    if inside:
        low, high = float(edges[min(inside)]), float(edges[max(inside) + 1])
        state.change(density=(round(low - 1e-4, 4), round(high + 1e-4, 4)))


def _filters(view: LatentPageView) -> None:
    st.session_state["latent_order"] = view.order
    st.session_state["latent_kind"] = view.kind
    st.session_state["latent_words"] = view.words
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox(
            "Order",
            list(ORDERS),
            format_func=ORDERS.__getitem__,
            key="latent_order",
            on_change=lambda: state.change(order=st.session_state["latent_order"]),
            width=280,
        )
        st.selectbox(
            "Show",
            list(KINDS),
            format_func=KINDS.__getitem__,
            key="latent_kind",
            on_change=lambda: state.change(kind=st.session_state["latent_kind"], density=()),
            width=220,
        )
        st.text_input(
            "Description holds",
            key="latent_words",
            max_chars=200,
            placeholder="for example: array",
            on_change=lambda: state.change(words=st.session_state["latent_words"].strip()),
            width=260,
        )
        if view.density:
            low, high = (charts.share(10.0**it) for it in view.density)
            st.button(
                f"Active at {low} to {high} of tokens: show all again",
                key="latent_any_density",
                icon=":material/close:",
                on_click=lambda: state.change(density=()),
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
            "logit skew",
            format="%.2f",
            help="Skewness of its effects on the vocabulary: far above 0 for latents that make a "
            "few tokens much more likely.",
        ),
    }
