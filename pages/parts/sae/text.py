"""Which text the page reads, and how much of it."""

import streamlit as st

from core.sae_quality.view import MOST_TOKENS, SIZES, SaePageView
from core.view.corpora import parse_corpus, title_of
from core.view.markup import escape_markdown
from pages.parts import action, errors, text_choice
from pages.parts.sae import VIEW


def draw(view: SaePageView, proposed: str) -> None:
    """A line that says what is read, with a box to choose another; `proposed` is a dataset."""
    current = parse_corpus(view.corpus)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        with st.popover("Text", icon=":material/article:"):
            kind = text_choice.choose_kind(current, key="sae")
            asked = text_choice.ask_details(kind, current, proposed=proposed, key="sae")
            sizes = sorted({*SIZES, view.tokens})
            tokens = st.select_slider(
                "How much is read, in tokens",
                sizes,
                value=view.tokens,
                format_func="{:,}".format,
                key=f"sae_tokens_{view.tokens}",
                help=f"More than {sizes[-1]:,} (up to {MOST_TOKENS:,}) by the link's tokens=.",
            )
            if action.clicked("Read this", type="primary", key="sae_read"):
                with errors.shown_plainly():
                    corpus = text_choice.store_choice(kind, asked).text
                    VIEW.change(corpus=corpus, tokens=tokens)
                    st.rerun()
        st.caption(f"{view.tokens:,} tokens of {escape_markdown(title_of(current))}")
