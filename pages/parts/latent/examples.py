"""The texts that activate the latent most, and some from each part of its range."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.view.latent.example_html import STYLE, rows_html
from core.view.latent.page_view import AROUND, LatentPageView
from core.view.selection import Selection
from pages.parts import latent_links, work
from pages.parts.latent import charts, state

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex
    from core.view.latent.dashboard import Dashboard
    from core.view.latent.example_rows import RowActivations


def style() -> None:
    """The look of examples; once a page, before any of them."""
    st.html(STYLE)


def draw(
    dashboard: "Dashboard", index: "OpenIndex", selection: Selection, view: LatentPageView
) -> None:
    """Strongest examples and the groups below them."""
    from core.view.latent.example_rows import example_rows

    if dashboard.count == 0:
        return
    st.session_state["latent_around"] = view.around
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.markdown("**Strongest examples**", width="content")
        st.segmented_control(
            "Tokens on either side",
            AROUND,
            key="latent_around",
            on_change=lambda: state.change(around=st.session_state["latent_around"] or AROUND[0]),
            format_func=lambda n: f"± {n}",
            label_visibility="collapsed",
            help="How many tokens are shown on either side of each example.",
        )
    st.caption(
        "One for each text, the strongest first. The stronger the shade, the more active the "
        "latent is at that token; point at a token for the value. The underlined token is the one "
        "whose activation stands in front."
    )
    read = _read(dashboard, index, selection, view)

    def show(examples: Any) -> None:
        rows = example_rows(examples, index, around=view.around, read=read)
        st.html(rows_html(rows, strongest=dashboard.peak))

    show(dashboard.examples.top)
    st.markdown("**Examples from all of its range**")
    st.caption(
        "What a latent does when it is only weakly active is often less clear than its strongest "
        "examples. Each group is a part of the range up to its largest activation, with examples "
        "drawn at random."
    )
    for band in dashboard.examples.bands:
        part = charts.share(band.count / dashboard.count)
        st.markdown(
            f"Activation {band.low:.3g} to {band.high:.3g}: {band.count:,} tokens "
            f"({part} of those at which it is active)"
        )
        show(band.examples)


def _read(
    dashboard: "Dashboard", index: "OpenIndex", selection: Selection, view: LatentPageView
) -> "RowActivations | None":
    """Activations beyond what the index keeps; run when more is shown."""
    if view.around <= 10:
        return None
    from core.view.latent.example_rows import read_rows, rows_of

    rows, engine = rows_of(dashboard, index.token_set.context), resources.engine()
    found: Any = work.result(
        f"latent-rows:{index.key.digest}:{selection.latent}",
        f"Reading more around the examples of latent {selection.latent}",
        lambda progress: read_rows(engine, selection, index, rows, progress),
        wait=1.5,
        link=latent_links.address("latent", selection),
    )
    return found
