"""Type a text, and see at once where the latent is active in it."""

import streamlit as st

from core import resources
from core.view.latent.example_html import rows_html
from core.view.latent.page_view import MOST_LIVE_CHARACTERS, LatentPageView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts.latent import state

_EXAMPLE = (
    "Return the mean of the array elements along the given axis.\n"
    "If the input contains integers, the result is computed in float64."
)
_KEY = "latent_live"


def draw(selection: Selection, view: LatentPageView, *, peak: float | None) -> None:
    """The box and the shaded text; `peak` is the largest activation that is known."""
    st.session_state[_KEY] = view.text or _EXAMPLE
    st.text_area(
        "Your text",
        key=_KEY,
        height=100,
        max_chars=MOST_LIVE_CHARACTERS,
        on_change=lambda: state.change(text=st.session_state[_KEY] or " "),
        help="Press Ctrl+Enter (⌘+Enter on a Mac), or click elsewhere, to see the activations.",
    )
    text = view.text or _EXAMPLE
    if not text.strip():
        st.caption("Type a few words above to see where this latent is active.")
        return
    from core.view.latent.live import live_row

    found, row = live_row(resources.engine(), selection, text)
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
    if found.omitted:
        st.warning(
            f"The last {found.omitted:,} tokens are left out: at most "
            f"{len(found.tokens) + found.n_leading:,} are read at a time.",
            icon=":material/content_cut:",
        )
    for note in found.notes:
        st.caption(escape_markdown(note))
    with st.container(border=True):
        st.html(rows_html([row], strongest=strongest, break_lines=True))
