"""Which text the examples come from, and how to choose another."""

from dataclasses import replace

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.latent.corpora import parse_corpus, title_of
from core.view.latent.page_view import MOST_TOKENS, LatentPageView
from core.view.markup import escape_markdown
from core.view.sae_facts import facts_of
from core.view.selection import Selection
from pages.parts import errors, text_choice
from pages.parts.latent import action, index, state

_SIZES = (50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000)


def line(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """What is read, in a line, with the menu that changes it."""
    shown = index.resolved(selection, entry, view)
    title = escape_markdown(title_of(parse_corpus(shown.corpus)))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"Examples come from: {title}, up to {shown.tokens:,} tokens.", width="content")
        with st.popover("Read another text", icon=":material/menu_book:"):
            chooser(selection, entry, shown)


def offer(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """In the place of examples, when no text was read with this SAE."""
    with st.container(border=True):
        st.markdown("**No text was read with this SAE yet**")
        st.caption(
            "Examples, how often latents are active and with which others are found by running "
            "the model over a text once, for all latents at the same time. This is kept."
        )
        chooser(selection, entry, index.resolved(selection, entry, view))


def chooser(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """Source, size and the button."""
    current = parse_corpus(view.corpus)
    kind = text_choice.kind(current, key="reading")
    proposed = dataset_of(selection, entry) if kind == "hub" else ""
    asked = text_choice.details(kind, current, proposed=proposed, key="reading")
    size = st.select_slider(
        "Tokens to read",
        sorted({*_SIZES, view.tokens}),
        value=view.tokens,
        format_func=lambda n: f"{n:,}",
        key=f"reading_tokens_{view.tokens}",
        help="More tokens show rarer latents. Reading can be stopped and continued.",
    )
    with_bos = st.toggle(
        "Count the token that marks the beginning of a text",
        value=view.include_bos,
        key=f"reading_bos_{view.include_bos}",
        help="Models use this token as a place to rest, and many latents fire there on every "
        "text. Public dashboards leave it out. Padding never counts.",
    )
    _estimate(selection, min(int(size), MOST_TOKENS))
    entries = index.release_entries(selection)
    local = [it for it in entries if it.source != "hub"] if entry.source != "hub" else entries
    several = False
    if len(local) > 1:
        several = st.toggle(
            f"Read it with all {len(local)} SAEs of this release at once",
            key="reading_all",
            help="The model runs once for all of them. For SAEs that are not on this machine yet, "
            "the sizes of the downloads are shown first, and nothing is fetched before you agree.",
        )
    read_by = entries if several else [entry]

    def go() -> None:
        choice = text_choice.kept(kind, asked)
        wanted = replace(view, corpus=choice.text, tokens=int(size), include_bos=with_bos)
        index.ask(index.request_of(selection, read_by, wanted))
        state.change(corpus=choice.text, tokens=int(size), include_bos=with_bos)

    action.button(
        "Read this text", go, key="reading_go", type="primary", icon=":material/play_arrow:"
    )


def dataset_of(selection: Selection, entry: SaeEntry) -> str:
    """The hub's name of the dataset that an SAE says it was trained on; "" for none."""
    from core.view.latent_view import read_card

    name = facts_of(entry).dataset or read_card(resources.engine(), selection).dataset or ""
    return name if name.count("/") == 1 and " " not in name else ""


def _estimate(selection: Selection, n_tokens: int) -> None:
    from core.view.latent.estimate import in_words, seconds_for

    with errors.shown_plainly():
        rates = st.session_state.setdefault("latent_rates", {})
        if (selection.model, *selection.sae) not in rates:
            found = seconds_for(resources.engine(), selection, 1_000_000) / 1_000_000
            rates[selection.model, *selection.sae] = found
        seconds = rates[selection.model, *selection.sae] * n_tokens
        st.caption(
            f"Running the model on {n_tokens:,} tokens takes {in_words(seconds)} on this machine, "
            "as far as its size tells; then the rate is shown while it runs."
        )
