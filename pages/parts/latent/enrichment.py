"""The token enrichment tab: which kinds of tokens each latent pushes up or down."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.latent.view import ENRICHMENT_LINK, EnrichmentView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import (
    downloads,
    errors,
    job_results,
    latent_links,
    plots,
    tables,
    uploads,
    view_state,
)
from pages.parts.latent import enriched_sets
from pages.parts.page_state import PageState

if TYPE_CHECKING:
    import pandas as pd

    from core.enrichment.run import EnrichmentFound, SetsFound

_CHART = "enrichment_chart"
_MOST_POINTS = 12_000
_MOST_LISTED = 300
_MOST_NAMED = 12
_RARE = 0.01


def draw(selection: Selection, entry: SaeEntry) -> None:
    """The tab; the selection must be loaded."""
    from core.enrichment.run import enrichment_of_sae

    state = PageState("enrichment", ENRICHMENT_LINK)
    view = state.begin()
    for problem in state.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    st.caption(
        "For each latent, all tokens of the vocabulary are put in order, from the one that it "
        "makes most likely to the one that it makes least likely. A set of tokens is enriched if "
        "it gathers at one end."
    )
    _explained()
    _own_sets(view, state)
    with errors.shown_plainly():
        store = resources.store()
        parameters = {"tab": "enrichment", **ENRICHMENT_LINK.to_parameters(view)}
        found: EnrichmentFound | None = job_results.recent_result(
            f"enrichment:{selection.model}:{entry.key}:{entry.version}:{view.mine}",
            "Token enrichment of all latents",
            lambda progress: enrichment_of_sae(
                job_results.lease(selection, progress=progress), store, view.mine
            ),
            link=latent_links.address("latent", selection, **parameters),
            room=900,
        )
        if found is None:
            return
        _missing_words(found.found)
        enriched_sets.draw(selection, entry, found, view, state)
        _everything(selection, found, view, state)


def _own_sets(view: EnrichmentView, state: PageState[EnrichmentView]) -> None:
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
        with errors.shown_plainly():
            given = uploads.word_lists(
                "File with sets", "Use these sets", key="word_lists", use_key="word_lists_go"
            )
            if given is not None:
                from core.enrichment.user_sets import store_lists

                state.change(mine=store_lists(resources.store(), given))
                st.rerun()
        if view.mine:
            st.button(
                "Back to the built-in sets",
                key="word_lists_none",
                on_click=lambda: state.change(mine=""),
            )


def _missing_words(found: "SetsFound") -> None:
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


def _explained() -> None:
    title = "How the scores are made, and what to make of the p-values"
    with st.expander(title, key="enrichment_how"):
        st.markdown(
            "Going through the ordered tokens, a running sum rises at each token of the set and "
            "falls at each other one, so that it ends at 0. The **score** is its value farthest "
            "from 0: near +1 if the set is at the top (pushed up), near −1 if it is at the bottom "
            "(pushed down). This is the score of gene set enrichment analysis (Subramanian and "
            "others, 2005), and without weights the Kolmogorov–Smirnov statistic with a sign.\n\n"
            "The **p-value** tells how often a random set of as many tokens would score so far "
            "from 0. It depends only on the sizes of set and vocabulary, so one distribution "
            "serves all latents. The **false-discovery rate** (Benjamini and Hochberg, over all "
            "latents and sets) corrects for the number of tests.\n\n"
            "Both suppose that tokens are independent, which they are not: similar tokens are "
            "pushed alike by any direction whatever. Therefore the same is measured for 1,000 "
            "**random directions**, and the share of them that score as far from 0 is listed. "
            "Trust a set that few random directions reach."
        )


def _everything(
    selection: Selection,
    found: "EnrichmentFound",
    view: EnrichmentView,
    state: PageState[EnrichmentView],
) -> None:
    from core.enrichment.figures import manhattan, pairs_table

    n_latents, n_sets = found.all.scores.shape
    st.markdown(f"**All {n_latents:,} latents and {n_sets} sets**")
    st.toggle(
        "Only what at most 1 % of random directions reach",
        **state.widget("enrichment_beyond", "beyond"),
    )
    beyond = _RARE if view.beyond else None
    pairs = pairs_table(found, most=_MOST_POINTS, beyond=beyond)
    if len(pairs) == 0:
        st.info("No set is enriched in any latent by that measure.")
        return

    def clicked() -> None:
        event: Any = st.session_state[_CHART]
        points = event.selection.get("points", ())
        data = points[0].get("customdata") if points else None
        if isinstance(data, list | tuple) and len(data) == 2 and 0 <= int(data[0]) < n_latents:
            _open(selection, state, int(data[0]), str(data[1]))

    figure = manhattan(pairs, n_latents=n_latents, chosen=selection.latent)
    plots.draw(
        figure,
        key=_CHART,
        on_select=clicked,
        selection_mode="points",
        config={"scrollZoom": True, "displaylogo": False},
    )
    least = 10 ** float(pairs["log10_p"].max())
    note = "Click a point to open its latent and set."
    if len(pairs) == _MOST_POINTS:
        note += (
            f" Of {n_latents * n_sets:,} pairs, the {_MOST_POINTS:,} with the smallest p-values "
            f"are drawn (p up to {least:.1g})."
        )
    st.caption(note)
    _strongest(selection, pairs, state)
    name = f"{selection.sae_id}-token-enrichment"
    downloads.table(
        lambda: pairs_table(found, most=n_latents * n_sets, beyond=None),
        name,
        key="enrichment_table",
    )
    downloads.figure(figure, name, title="Token enrichment", key="enrichment_figure")


def _strongest(
    selection: Selection, pairs: "pd.DataFrame", state: PageState[EnrichmentView]
) -> None:
    shown = pairs.head(_MOST_LISTED)

    def chosen(line: int) -> None:
        row = shown.iloc[line]
        _open(selection, state, int(row["latent"]), str(row["set"]))

    tables.clickable(
        enriched_sets.table_for_display(shown),
        chosen,
        key="enrichment_pairs",
        height=360,
        column_config=enriched_sets.columns(),
    )


def _open(selection: Selection, state: PageState[EnrichmentView], latent: int, name: str) -> None:
    state.change(chosen=name)
    view_state.choose(replace(selection, latent=latent))
