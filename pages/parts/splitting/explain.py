"""From a group of latents on the map to explanations of all of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from core.autointerp.view import write_latents
from core.view.corpora import SAMPLE_TOKENS
from core.view.markup import n_of
from core.view.selection import Selection, to_parameters
from pages.parts import view_state

if TYPE_CHECKING:
    from core.splitting.map_data import MapData

_MOST = 300
"""Latents that a link can carry; more would make an address that browsers cut."""


def links(data: "MapData", rows: Sequence[int], *, what: str) -> None:
    """One link an SAE to the autointerp page with its latents among `rows`.

    `what` says which latents these are, e.g. "of this cluster", "selected".
    """
    selection = view_state.current().selection
    if selection is None or not len(rows):
        return
    latents = data.latents(rows)
    with st.container(horizontal=True, gap="small"):
        for label, found in latents.items():
            chosen = sorted(found)[:_MOST]
            entry = data.members[label].entry
            first = Selection(selection.model, *entry.key, latent=chosen[0])
            width = data.family[label].width
            number = n_of(len(chosen), "latent")
            if len(found) > len(chosen):
                number = f"{len(chosen):,} of the {len(found):,} latents"
            st.page_link(
                "pages/autointerp.py",
                label=f"Explain {number} {what} in the SAE of {width:,}",
                icon=":material/rate_review:",
                query_params=to_parameters(first)
                | {"latents": write_latents(chosen), "tokens": str(SAMPLE_TOKENS)},
            )
