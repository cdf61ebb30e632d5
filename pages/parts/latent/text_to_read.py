"""Which text the examples come from, and how to choose another."""

import time
from dataclasses import replace

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.latent.view import MOST_TOKENS, LatentPageView
from core.view.corpora import parse_corpus, title_of
from core.view.markup import escape_markdown
from core.view.sae_facts import facts_of, read_card
from core.view.selection import Selection
from pages.parts import action, errors, job_results, text_choice
from pages.parts.latent import index, session

_RATE_IS_OLD_SECONDS = 60
_SIZES = (50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000)


def draw_line(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """What is read, in a line, with the menu that changes it."""
    shown = index.resolve_text(selection, entry, view)
    title = escape_markdown(title_of(parse_corpus(shown.corpus)))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"Examples come from: {title}, up to {shown.tokens:,} tokens.", width="content")
        with st.popover("Read another text", icon=":material/menu_book:"):
            draw_chooser(selection, entry, shown)


def draw_offer(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """In the place of examples, when no text was read with this SAE."""
    with st.container(border=True):
        st.markdown("**No text was read with this SAE yet**")
        st.caption(
            "Examples, how often latents are active and with which others are found by running "
            "the model over a text once, for all latents at the same time. This is kept."
        )
        draw_chooser(selection, entry, index.resolve_text(selection, entry, view))


def draw_chooser(selection: Selection, entry: SaeEntry, view: LatentPageView) -> None:
    """Source, size and the button."""
    current = parse_corpus(view.corpus)
    kind = text_choice.choose_kind(current, key="reading")
    proposed = dataset_of(selection, entry) if kind == "hub" else ""
    asked = text_choice.ask_details(kind, current, proposed=proposed, key="reading")
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
    local = (
        [other for other in entries if other.source != "hub"] if entry.source != "hub" else entries
    )
    several = False
    if len(local) > 1:
        several = st.toggle(
            f"Read it with all {len(local)} SAEs of this release at once",
            key="reading_all",
            help="The model runs once for all of them. For SAEs that are not on this machine yet, "
            "the sizes of the downloads are shown first, and nothing is fetched before you agree.",
        )
    read_by = entries if several else [entry]

    if action.clicked(
        "Read this text", key="reading_go", type="primary", icon=":material/play_arrow:"
    ):
        with errors.shown_plainly():
            choice = text_choice.store_choice(kind, asked)
            wanted = replace(view, corpus=choice.text, tokens=int(size), include_bos=with_bos)
            index.ask(index.request_of(selection, read_by, wanted))
            session.change(corpus=choice.text, tokens=int(size), include_bos=with_bos)
            st.rerun()


def dataset_of(selection: Selection, entry: SaeEntry) -> str:
    """The hub's name of the dataset that an SAE says it was trained on; "" for none."""
    name = facts_of(entry).dataset or read_card(job_results.lease(selection), entry).dataset or ""
    return name if name.count("/") == 1 and " " not in name else ""


def _estimate(selection: Selection, n_tokens: int) -> None:
    with errors.shown_plainly():
        st.caption(
            f"Running the model on {n_tokens:,} tokens takes {time_to_read(selection, n_tokens)} "
            "on this machine, as the last pass or else its size tells; then the rate is shown."
        )


def time_to_read(selection: Selection, n_tokens: int) -> str:
    """How long a pass over a text takes, in words; the selection must be loaded."""
    from core.activations.reading_time import reading_time
    from core.usual_time import in_words

    store, lease = resources.store(), job_results.lease(selection)
    # Measuring how fast the machine is takes a moment, so once a minute is enough.
    known = st.session_state.get("latent_rate")
    name = (selection.model, *selection.sae)
    if known is None or known[0] != name or time.monotonic() - known[2] > _RATE_IS_OLD_SECONDS:
        known = name, reading_time(lease, store=store), time.monotonic()
        st.session_state["latent_rate"] = known
    return in_words(known[1].seconds(n_tokens))
