"""Type a text, see where the latent is active in it."""

from typing import TYPE_CHECKING

import streamlit as st

from core.view.markup import escape_markdown, shaded_tokens, visible_token
from core.view.selection import Selection
from pages.parts import following, job_results, look, people, typed

if TYPE_CHECKING:
    import pandas as pd

    from core.prompt_latents.active import TextActivations

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
    followed = following.newer("home", most=_MOST_CHARACTERS)
    if followed is not None:
        st.session_state[_TEXT] = followed
    return typed.area(
        "Your text",
        key=_TEXT,
        height=100,
        most=_MOST_CHARACTERS,
        help="Press Ctrl+Enter (⌘+Enter on a Mac), or click elsewhere, to see the activations.",
        persist_state="session",
        on_change=lambda: following.note("home", st.session_state[_TEXT]),
    )


def draw(selection: Selection, text: str) -> None:
    """Activations of the latent on `text`; the selection must be loaded."""
    if not text.strip():
        st.caption("Type a few words above to see where this latent is active.")
        return
    people.require_text(text, _EXAMPLE)
    # It brings torch, so not before that is there.
    from core.prompt_latents.active import text_activations

    found = text_activations(job_results.lease(selection), selection.latent, text)
    strongest = max((*found.activations, 0.0))
    n_active = sum(activation > 0 for activation in found.activations)
    if n_active:
        st.caption(
            f"Active at {n_active} of {len(found.tokens)} tokens, at most {strongest:.3f}. The "
            "stronger the shade, the more active it is."
        )
    else:
        st.caption(f"Not active at any of the {len(found.tokens)} tokens of this text.")
    draw_reading_notes(found)
    with st.container(border=True):
        st.markdown(shaded_tokens(found.parts, found.activations, dark=look.is_dark()))
    with st.expander("Activation of every token", key="live_every_token"):
        _table(found, strongest)


def draw_reading_notes(found: "TextActivations") -> None:
    """What of a typed text was left out, and how it was read."""
    if found.omitted:
        st.warning(
            f"The last {found.omitted:,} tokens are left out: at most "
            f"{len(found.tokens) + found.n_leading:,} are read at a time.",
            icon=":material/content_cut:",
        )
    for note in found.notes:
        st.caption(escape_markdown(note))


def _table(found: "TextActivations", strongest: float) -> None:
    import pandas as pd

    table = pd.DataFrame(
        {
            "token": [visible_token(token) for token in found.tokens],
            "activation": found.activations,
        },
        index=range(found.n_leading, found.n_leading + len(found.tokens)),  # as on other pages
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
        "Download the activations (CSV)",
        lambda: _csv(table),
        file_name="activations.csv",
        mime="text/csv",
        key="activations_csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _csv(table: "pd.DataFrame") -> bytes:
    from core.export import csv_bytes

    return csv_bytes(table, index_label="position")
