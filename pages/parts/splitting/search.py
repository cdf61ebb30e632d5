"""The search box: words, a pattern, or meaning; its hits on the map and in a list."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import streamlit as st

from core.view.markup import escape_markdown
from pages.parts import errors, meaning, tables, typed, view_state
from pages.parts.page_state import show
from pages.parts.splitting import chart, explain, session

if TYPE_CHECKING:
    from core.splitting.map_data import MapData
    from core.splitting.view import MapView

_WAYS = {"text": "Words", "regex": "Pattern", "meaning": "Meaning"}
_MOST_LISTED = 200


def box(view: "MapView") -> None:
    """The box itself."""
    show("map_search", view.search)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        typed.line(
            "Search the map",
            view.search,
            key="map_search",
            placeholder="for example: array",
            help="In descriptions, and in the tokens that latents make more likely.",
            most=500,
            on_change=_searched,
        )
        st.segmented_control(
            "Search by",
            list(_WAYS),
            required=True,
            format_func=_WAYS.__getitem__,
            help="Pattern: a regular expression. Meaning: descriptions close to what you write, "
            "told by the model's own embeddings, or by an embedding service where OPENAI_API_KEY "
            "or OPENAI_BASE_URL is set.",
            **session.choices("map_search_by", "search_by"),
        )


def _searched() -> None:
    text = st.session_state["map_search"].strip()
    session.change(search=text, panel="hits" if text else session.current().panel)


def hits(data: "MapData", descriptions: Sequence[str], view: "MapView") -> list[int]:
    """The points that the search finds, best first where there is an order."""
    if not view.search:
        return []
    with errors.shown_plainly():
        if view.search_by == "meaning":
            return _by_meaning(descriptions, view.search)
        from core.descriptions.search import search_texts, search_tokens

        regex = view.search_by == "regex"
        found = search_texts(descriptions, view.search, regex=regex)
        found |= search_tokens(data.vocabulary.texts, data.tokens.boosted, view.search, regex=regex)
        return np.flatnonzero(found).tolist()
    return []


def _by_meaning(descriptions: Sequence[str], query: str) -> list[int]:
    rows = [row for row, text in enumerate(descriptions) if text]
    selection = view_state.current().selection
    if not rows or selection is None:
        st.info("There are no descriptions to search yet.")
        return []
    texts = [descriptions[row] for row in rows]
    key = f"map:{selection.model}:{hash(tuple(texts))}"
    found = meaning.by_meaning(lambda: texts, query, selection=selection, key=key)
    if found is None:
        return []
    meaning.said(found, query)
    return [rows[int(index)] for index in found.rows]


def draw_hits(
    data: "MapData", descriptions: Sequence[str], found: Sequence[int], query: str
) -> None:
    """A table of the hits; a click on one chooses it."""
    if not query:
        st.caption("Search above to list latents here.")
        return
    if not found:
        st.info(f"Nothing on this map matches “{escape_markdown(query)}”.")
        return
    shown = list(found)[:_MOST_LISTED]
    more = f", the first {_MOST_LISTED} of them below" if len(found) > len(shown) else ""
    st.caption(f"{len(found):,} of {len(data.map.points):,} latents match{more}.")
    explain.links(data, shown, what="found")
    latent_table(data, descriptions, shown, key="map_hits")


def latent_table(
    data: "MapData",
    descriptions: Sequence[str],
    rows: Sequence[int],
    *,
    key: str,
    extra: "dict[str, Sequence[Any]] | None" = None,
    height: int | Literal["auto"] = "auto",
) -> None:
    """Latents with what is known of them; selecting a line chooses that latent."""
    import pandas as pd

    points = data.map.points.iloc[list(rows)]
    table = pd.DataFrame(
        {
            **(extra or {}),
            "width": points["sae_width"].to_numpy(),
            "latent": points["latent_idx"].to_numpy(),
            "description": [descriptions[row] for row in rows],
            "makes more likely": [data.boosted[row] for row in rows],
        }
    )
    if points["sae_width"].nunique() != points["sae"].nunique():
        table.insert(0, "SAE", points["sae"].to_numpy())

    tables.clickable(
        table,
        lambda line: chart.choose(data, int(rows[line])),
        key=key,
        height=height,
        column_config={
            "latent": st.column_config.NumberColumn(format="%d", width="small"),
            "width": st.column_config.NumberColumn(format="%d", width="small"),
            "description": st.column_config.TextColumn(width="large"),
        },
    )
