"""New latents of a wide SAE by what each changes of the narrow one's error, where it is known."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.stitching.run import last_stitched
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import downloads, latent_links, view_state
from pages.parts.splitting import search

if TYPE_CHECKING:
    from core.splitting.map_data import MapData

_MOST = 200


def draw(data: "MapData", narrow: str, wide: str, texts: Sequence[str]) -> bool:
    """The table, if the pair has been stitched, else where to do so; whether it was drawn."""
    selection = view_state.current().selection
    if selection is None:
        return False
    prints = data.fingerprints[narrow], data.fingerprints[wide]
    found = last_stitched(resources.store(), selection.model, *prints)
    if found is None:
        _offer(data, selection, narrow, wide)
        return False
    exact = st.toggle(
        "By what each changes of the narrow SAE's error",
        value=True,
        key="new_exact",
        help="Exact, from the SAE page's stitching; else by direction and firing.",
    )
    if not exact:
        return False
    from core.stitching.tables import latent_table

    stitching, text = found
    table = latent_table(stitching)
    novel = table[table["kind"] == "novel"]
    told, deltas = int(stitching.told.sum()), stitching.deltas
    chance = float((deltas.shuffled[stitching.told] < 0).mean()) if told else float("nan")
    st.caption(
        escape_markdown(
            f"{len(novel):,} of {told:,} latents surely lower the narrow SAE's error when they are "
            f"put into it (95 %; {chance:.0%} lower it at all with the errors of other positions), "
            f"on {deltas.n_tokens:,} tokens of {text}. {int((~stitching.told).sum()):,} fire too "
            "rarely to be told."
        )
    )
    rows = [(data.row(wide, int(it.latent)), it) for it in novel.head(_MOST).itertuples()]
    kept = [(place, it) for place, it in rows if place is not None]
    search.latent_table(
        data,
        texts,
        [place for place, _ in kept],
        key="map_new",
        extra={
            "change of the error": [f"{it.share:+.4%}" for _, it in kept],
            "nearest": [int(it.match) for _, it in kept],
            "cosine": [round(float(it.cosine), 2) for _, it in kept],
            "fires": [int(it.firings) for _, it in kept],
        },
    )
    downloads.table(lambda: novel, f"{wide}-new-in-{narrow}", key="map_new_file")
    return True


def _offer(data: "MapData", selection: Selection, narrow: str, wide: str) -> None:
    """Where the exact answer can be had."""
    release, sae_id = data.members[wide].entry.key
    there = replace(selection, release=release, sae_id=sae_id, latent=0)
    address = latent_links.address("sae", there, tab="stitching", **{"with": narrow})
    st.caption(
        f"What each changes of the narrow SAE's error has not been measured for this pair: "
        f"[stitch them]({address}), and this table goes by it."
    )
