"""Type a text, see where the latent is active in it."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.view.markup import escape_markdown, shaded_tokens, visible_token
from core.view.selection import Selection

if TYPE_CHECKING:
    from core.view.latent_view import TextActivations

_TEXT = "live_text"
_EXAMPLE = (
    "Return the mean of the array elements along the given axis.\n"
    "If the input contains integers, the result is computed in float64."
)
_MOST_CHARACTERS = 4000


def ask() -> str:
    """The box to type in; returns its text."""
    if _TEXT not in st.session_state:
        st.session_state[_TEXT] = _EXAMPLE
    return st.text_area(
        "Your text",
        key=_TEXT,
        height=100,
        max_chars=_MOST_CHARACTERS,
        help="Press Ctrl+Enter (⌘+Enter on a Mac), or click elsewhere, to see the activations.",
        persist_state="session",
    )


def draw(selection: Selection, text: str) -> None:
    """Activations of the latent on `text`; the selection must be loaded."""
    if not text.strip():
        st.caption("Type a few words above to see where this latent is active.")
        return
    from core.view.latent_view import text_activations  # brings torch, so not before it is there

    found = text_activations(resources.engine(), selection, text)
    strongest = max((*found.activations, 0.0))
    n_active = sum(activation > 0 for activation in found.activations)
    if n_active:
        st.caption(
            f"Active at {n_active} of {len(found.tokens)} tokens, at most {strongest:.3f}. The "
            "stronger the shade, the more active it is."
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
        st.markdown(shaded_tokens(found.parts, found.activations))
    with st.expander("Activation of every token"):
        _table(found, strongest)


def _table(found: "TextActivations", strongest: float) -> None:
    import pandas as pd

    table = pd.DataFrame(
        {
            "token": [visible_token(token) for token in found.tokens],
            "activation": found.activations,
        }
    )
    st.dataframe(
        table,
        height=300,
        column_config={
            "_index": st.column_config.NumberColumn("position", width="small"),
            "token": st.column_config.TextColumn(width="medium"),
            "activation": st.column_config.ProgressColumn(
                format="%.3f", min_value=0.0, max_value=max(strongest, 1e-9)
            ),
        },
    )
    st.download_button(
        "Download as CSV",
        table.to_csv(index_label="position"),
        file_name="activations.csv",
        mime="text/csv",
        key="activations_csv",
        icon=":material/download:",
        on_click="ignore",
    )
