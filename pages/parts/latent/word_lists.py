"""Sets of tokens from a file of the user's."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.view.markup import escape_markdown
from pages.parts import errors

if TYPE_CHECKING:
    from core.view.latent.enrichment import EnrichmentView, SetsFound
    from pages.parts.page_state import PageState

_MOST_NAMED = 12


def draw(view: "EnrichmentView", state: "PageState[EnrichmentView]") -> None:
    """The box for a file, and a way back to the built-in sets."""
    with st.popover("Sets of my own", icon=":material/upload_file:"):
        st.markdown(
            'A JSON file such as `{"colours": ["red", "blue"], "names": ["Anna"]}`, or a '
            "CSV table with a column for each set and its name on top."
        )
        st.caption(
            "Words in small letters match tokens in any case, with or without a space in front; "
            "words with capitals only those written so. Words that the model spells with several "
            "tokens are left out, and named."
        )
        file = st.file_uploader("File with sets", type=["json", "csv", "tsv"], key="word_lists")
        if file is not None and st.button("Use these sets", type="primary", key="word_lists_go"):
            with errors.shown_plainly():
                from core.enrichment import read_word_lists
                from core.view.latent.enrichment import keep_lists

                lists = read_word_lists(file.getvalue(), file.name)
                state.change(mine=keep_lists(resources.store(), lists))
                st.rerun()
        if view.mine:
            st.button(
                "Back to the built-in sets",
                key="word_lists_none",
                on_click=lambda: state.change(mine=""),
            )


def missing(found: "SetsFound") -> None:
    """Says which words of the user's no single token spells."""
    for name, words in found.missing.items():
        if words:
            shown = ", ".join(words[:_MOST_NAMED]) + ("…" if len(words) > _MOST_NAMED else "")
            st.caption(
                escape_markdown(
                    f"In “{name}”, {len(words):,} words are no single token of this model and are "
                    f"left out: {shown}"
                )
            )
    alone = [name for name in found.sets.left_out if name in found.missing]
    if alone:
        st.warning(
            escape_markdown(f"No token of this model is in {', '.join(alone)}."),
            icon=":material/warning:",
        )
