"""Where the latent is active: its strongest examples, some of its whole range, a typed text."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.latent import charts
from core.latent.examples import (
    STYLE,
    ExampleRow,
    RowActivations,
    example_rows,
    read_rows,
    rows_of,
)
from core.latent.view import AROUND, MOST_CHARACTERS, LatentPageView
from core.view.selection import Selection
from pages.parts import (
    errors,
    following,
    job_results,
    latent_links,
    live_text,
    people,
    token_rows,
    typed,
)
from pages.parts.latent import session, source

if TYPE_CHECKING:
    from core.activations.examples import Examples
    from core.activations.text_index import OpenIndex
    from core.latent.dashboard import Dashboard


_PROPOSED = (
    "Return the mean of the array elements along the given axis.\n"
    "If the input contains integers, the result is computed in float64."
)
_TYPED = "latent_live"


def style() -> None:
    """The look of examples; once a page, before any of them."""
    st.html(STYLE)


_read_box = following.noting("latent", session.text_of_box)


Show = Callable[[Any], None]
"""Draws examples (`core.activations.examples.Examples`) of one latent."""


def draw(
    dashboard: "Dashboard", index: "OpenIndex", selection: Selection, view: LatentPageView
) -> Show | None:
    """The strongest examples; how other examples of this latent are shown, if it has any."""
    if dashboard.count == 0:
        return None
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.markdown(
            "**Strongest examples**",
            width="content",
            help="One for each text, the strongest first. The stronger the shade, the more active "
            "the latent is at that token; point at a token for the value. The underlined token is "
            "the one whose activation stands in front. The name at the right opens the whole text.",
        )
        st.segmented_control(
            "Tokens on either side",
            AROUND,
            required=True,
            format_func=lambda n: f"± {n}",
            label_visibility="collapsed",
            help="How many tokens are shown on either side of each example.",
            **session.choices("latent_around", "around"),
        )
    source.listen(selection)
    with errors.shown_plainly():
        source.draw(index, selection, view, strongest=dashboard.peak)
    read = _read(dashboard, index, selection, view)

    def show(examples: "Examples") -> None:
        rows = example_rows(examples, index, around=view.around, read=read)
        token_rows.draw(rows, strongest=dashboard.peak, opens=True)

    show(dashboard.examples.top)
    return show


def draw_bands(dashboard: "Dashboard", view: LatentPageView, show: Show | None) -> None:
    """Examples from the whole range of activations, one of each part or all of one."""
    if show is None:
        return
    st.subheader("Examples from all of its range")
    st.caption(
        "What a latent does when it is only weakly active is often less clear than its strongest "
        "examples. Each part of the range up to its largest activation has examples drawn at "
        "random."
    )
    bands = dashboard.examples.bands
    chosen = view.band if 0 <= view.band <= len(bands) else 0
    st.selectbox(
        "Part of the range",
        format_func=lambda number: _band_title(dashboard, number),
        width=520,
        **session.menu("latent_band", "band", range(len(bands) + 1), value=chosen),
    )
    if chosen:
        show(bands[chosen - 1].examples)
        return
    for band in bands:
        show(band.examples.first(1))


def _band_title(dashboard: "Dashboard", number: int) -> str:
    if number == 0:
        return "One example of each part"
    band = dashboard.examples.bands[number - 1]
    part = charts.share(band.count / dashboard.count)
    return (
        f"Activation {band.low:.3g} to {band.high:.3g}: {band.count:,} tokens "
        f"({part} of those at which it is active)"
    )


def _read(
    dashboard: "Dashboard", index: "OpenIndex", selection: Selection, view: LatentPageView
) -> RowActivations | None:
    """Activations beyond what the index keeps; run when more is shown."""
    if view.around <= 10:
        return None
    rows = rows_of(dashboard, index.token_set.context)
    found: Any = job_results.result(
        f"latent-rows:{index.key.digest}:{selection.latent}",
        f"Reading more around the examples of latent {selection.latent}",
        lambda progress: read_rows(
            job_results.lease(selection, progress=progress), index, rows, selection.latent
        ),
        wait=1.5,
        link=latent_links.address("latent", selection),
    )
    return found


def draw_typed(selection: Selection, view: LatentPageView, *, peak: float | None) -> None:
    """A box for a text, and where the latent is active in it; `peak` is the largest activation that
    is known."""
    typed.area(
        "Your text",
        height=100,
        most=MOST_CHARACTERS,
        help="Press Ctrl+Enter (⌘+Enter on a Mac), or click elsewhere, to see the activations.",
        **session.widget(_TYPED, "text", value=view.text or _PROPOSED, read=_read_box),
    )
    text = view.text or _PROPOSED
    if not text.strip():
        st.caption("Type a few words above to see where this latent is active.")
        return
    from core.prompt_latents.active import text_activations

    people.require_text(text, _PROPOSED)
    found = text_activations(job_results.lease(selection), selection.latent, text)
    strongest = max((*found.activations, 0.0))
    n_active = sum(value > 0 for value in found.activations)
    if n_active:
        compared = f", {strongest / peak:.0%} of the largest in the text read" if peak else ""
        st.caption(
            f"Active at {n_active} of {len(found.tokens)} tokens, at most {strongest:.3f}"
            f"{compared}. Point at a token for its value."
        )
    else:
        st.caption(f"Not active at any of the {len(found.tokens)} tokens of this text.")
    live_text.draw_reading_notes(found)
    row = ExampleRow.from_parts(found.parts, found.activations)
    with st.container(border=True):
        token_rows.draw([row], strongest=strongest, break_lines=True)
