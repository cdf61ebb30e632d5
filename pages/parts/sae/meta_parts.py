"""Meta-latents to browse, one of them, and what the selected latent is made of."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.catalog.entries import SaeEntry
from core.meta_sae.view import MetaView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import downloads, tables, view_state
from pages.parts.page_state import PageState

if TYPE_CHECKING:
    import pandas as pd

    from core.meta_sae.found import MetaFound

_NUMBERS: dict[str, Any] = {
    "share": st.column_config.NumberColumn(format="percent"),
    "matched": st.column_config.NumberColumn("cosine under another seed", format="%.2f"),
    "matched_null": st.column_config.NumberColumn("on Gaussian rows", format="%.2f"),
    "activation": st.column_config.NumberColumn(format="%.3f"),
    "coefficient": st.column_config.NumberColumn(format="%.3f"),
    "likeness": st.column_config.NumberColumn(format="%.2f"),
    "chance": st.column_config.NumberColumn("shared by chance", format="%.2f"),
    "meta": st.column_config.NumberColumn("meta-latent", format="%d"),
    "shared": st.column_config.NumberColumn(width="small"),
    "words": "words of its latents",
    "tokens": "tokens that it boosts",
}


def draw(
    selection: Selection,
    entry: SaeEntry,
    found: "MetaFound",
    state: MetaView,
    page: PageState[MetaView],
    texts: Sequence[str],
    words: Sequence[str],
) -> None:
    """The tables."""
    place = found.made.place(selection.latent)
    _latent(selection, entry, found, page, place, texts, words)
    _browse(selection, entry, found, state, page, place, texts, words)


def chosen_meta(found: "MetaFound", state: MetaView, latent: int) -> int:
    """The meta-latent that is looked at: the link's, else the selected latent's strongest."""
    acts = found.made.acts
    if 0 <= state.meta < acts.shape[1]:
        return state.meta
    place = found.made.place(latent)
    if place is not None:
        row = acts[[place]].tocoo()
        if row.nnz:
            return int(row.coords[1][row.data.argmax()])
    return int(acts.sum(0).argmax())


def _latent(
    selection: Selection,
    entry: SaeEntry,
    found: "MetaFound",
    page: PageState[MetaView],
    place: int | None,
    texts: Sequence[str],
    words: Sequence[str],
) -> None:
    from core.meta_sae.tables import neighbours_table, parts_table, pursuit_table

    st.subheader(f"What latent {selection.latent} is made of")
    if place is None:
        st.info("This latent's decoder row is zero, so it is made of nothing; choose another.")
        return
    made = found.made
    st.caption(escape_markdown(texts[place]))
    parts = parts_table(found, place, words)
    if len(parts) == 0:
        st.info(
            "None of its meta-latents reaches the threshold: its row is like the mean row, or "
            "like none that the meta-SAE knows."
        )
    else:
        _table(parts, "meta_parts", lambda row: page.change(meta=int(row["meta"])))
    left, middle, right = st.columns([2, 1, 1])
    with left:
        st.markdown("**Latents that share meta-latents with it**")
        near = neighbours_table(made, place, texts)
        _table(near, "meta_near", lambda row: _select(selection, int(row["latent"])))
    with middle:
        st.markdown("**As others of its own SAE**")
        own = pursuit_table(made.own, place, made.latents)
        _table(own, "meta_own", lambda row: _select(selection, int(row["latent"])))
    with right:
        st.markdown("**As latents of the narrower SAE**")
        if made.narrower is None:
            st.caption("No narrower SAE of this site is chosen.")
        else:
            _table(pursuit_table(made.narrower, place, None), "meta_over", None)
    st.caption(
        "Both pursuits take at most as many directions as the meta-SAE has active, one after the "
        "other, each the nearest to what is left; how much they explain of all rows is above."
    )
    name = f"{entry.release}-{entry.sae_id}-{selection.latent}-meta-latents"
    downloads.table(lambda: parts, name, key="meta_parts_file")


def _browse(
    selection: Selection,
    entry: SaeEntry,
    found: "MetaFound",
    state: MetaView,
    page: PageState[MetaView],
    place: int | None,
    texts: Sequence[str],
    words: Sequence[str],
) -> None:
    from core.meta_sae.tables import members_table, meta_table

    st.subheader("All meta-latents")
    table = meta_table(found, words)
    _table(table, "meta_all", lambda row: page.change(meta=int(row["meta"])), height=320)
    st.caption(
        "A click on a line shows that meta-latent. Words: those of its latents' descriptions that "
        "they have more often than all latents (false discovery rate below 5 %), with how many."
    )
    if found.no_tokens:
        st.caption(escape_markdown(f"No tokens: {found.no_tokens}"))
    name = f"{entry.release}-{entry.sae_id}-meta-latents"
    downloads.table(lambda: table, name, key="meta_all_file")
    meta = chosen_meta(found, state, selection.latent)
    st.subheader(f"Meta-latent {meta}")
    members = members_table(found.made, meta, texts)
    boosts = f"boosts {found.tokens[meta]}" if found.tokens[meta] else ""
    st.markdown(escape_markdown(" · ".join(it for it in (words[meta], boosts) if it)))
    st.caption(
        f"Active for {len(members):,} of {len(found.made.latents):,} latents; its partner under "
        f"another seed has cosine {found.made.matched[meta]:.2f}, on Gaussian rows "
        f"{found.made.matched_null[meta]:.2f}."
    )
    _table(members, "meta_members", lambda row: _select(selection, int(row["latent"])), height=280)
    downloads.table(lambda: members, f"{name}-{meta}", key="meta_members_file")


def _select(selection: Selection, latent: int) -> None:
    view_state.choose(replace(selection, latent=latent))


def _table(table: "pd.DataFrame", key: str, choose: Any, *, height: int | None = None) -> None:
    """A table; a click on a line calls `choose` with it."""
    if len(table) == 0:
        st.caption("None.")
        return
    columns = {name: it for name, it in _NUMBERS.items() if name in table}
    sized: dict[str, Any] = {} if height is None else {"height": height}
    if choose is None:
        st.dataframe(table, hide_index=True, key=key, column_config=columns, **sized)
        return

    tables.clickable(
        table,
        lambda line: choose(table.iloc[line]),
        key=key,
        column_config=columns,
        **sized,
    )
