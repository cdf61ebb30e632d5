"""Which text a run looks for examples in, and how to choose another."""

from typing import TYPE_CHECKING

import streamlit as st

from core.catalog.entries import SaeEntry
from core.view.autointerp.view import AutointerpView
from core.view.latent.corpora import corpus_of, parse_corpus, title_of
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import text_choice
from pages.parts.autointerp import state
from pages.parts.latent import action, index, reading
from pages.parts.latent import state as latent_state

if TYPE_CHECKING:
    from core.corpus.documents import Corpus
    from core.view.autointerp.record import Record


def corpus(view: AutointerpView) -> "Corpus":
    """The text of the view. Raises ValueError where it is not on this server any more."""
    return corpus_of(parse_corpus(view.corpus), text_choice.uploads())


def corpus_of_record(record: "Record") -> "Corpus":
    """The text that a run read. Raises as `corpus`."""
    chosen = record["settings"].get("corpus", AutointerpView.corpus)
    return corpus_of(parse_corpus(chosen), text_choice.uploads())


def draw(view: AutointerpView, selection: Selection, entry: SaeEntry) -> None:
    """What is read, in a line, with the menu that changes it."""
    title = escape_markdown(title_of(parse_corpus(view.corpus)))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(
            f"Examples come from: {title}, up to {view.total_tokens:,} tokens.", width="content"
        )
        with st.popover("Read another text", icon=":material/menu_book:"):
            _chooser(view, selection, entry)


def _chooser(view: AutointerpView, selection: Selection, entry: SaeEntry) -> None:
    shown = index.resolved(selection, entry, latent_state.current()).corpus
    if shown != view.corpus:
        title = escape_markdown(title_of(parse_corpus(shown)))
        st.button(
            f"As on the latent page: {title}",
            icon=":material/history:",
            key="ai_text_latent",
            on_click=lambda: state.change(corpus=shown),
        )
    current = parse_corpus(view.corpus)
    kind = text_choice.kind(current, key="ai_text")
    proposed = reading.dataset_of(selection, entry) if kind == "hub" else ""
    asked = text_choice.details(kind, current, proposed=proposed, key="ai_text")
    st.caption("How much of it is read stands under Settings.")

    def use() -> None:
        state.change(corpus=text_choice.kept(kind, asked).text)

    action.button("Use this text", use, key="ai_text_use", type="primary")
