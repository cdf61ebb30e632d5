"""The chosen latent beside the map: what is said of it, its tokens, its nearest relatives."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from core.descriptions.sources import SOURCE_NAMES
from core.descriptions.table import Descriptions
from core.view.markup import escape_markdown, exact_markdown, visible_token
from core.view.selection import Selection
from pages.parts.latent import elsewhere
from pages.parts.splitting import search, session

if TYPE_CHECKING:
    from core.splitting.map_data import MapData
    from core.splitting.text_evidence import Evidence

_N_TOKENS = 10


def draw(
    data: "MapData",
    selection: Selection,
    row: int | None,
    descriptions: Mapping[str, Descriptions],
    evidence: "Mapping[str, Evidence]",
) -> None:
    """The panel; without a chosen point, how to choose one."""
    if row is None:
        st.markdown("**No latent chosen**")
        st.caption("Click a point of the map, or search, to see what a latent is.")
        if all(member.entry.key != selection.sae for member in data.members.values()):
            st.caption("The SAE chosen on the left is not on this map; add it above.")
        return
    label, latent = data.latent(row)
    width = data.family[label].width
    widths = [decoder.width for decoder in data.family.values()]
    whose = f"{escape_markdown(label)}, {width:,}" if widths.count(width) > 1 else f"{width:,}"
    st.markdown(f"**Latent {latent}** of {whose}")
    found = descriptions[label]
    text, source = str(found.texts[latent]), str(found.sources[latent])
    if text:
        st.markdown(escape_markdown(text))
        st.caption(f"Description {SOURCE_NAMES.get(source, source)}")
    else:
        st.caption("No description.")
    if label in evidence:
        seen = evidence[label]
        count = int(seen.counts[latent])
        often = f"fires on {count:,} of {seen.n_tokens:,} tokens" if count else "never fires"
        st.caption(f"On the sample of text it {often}.")
    elif label in data.published_rates:
        rate = float(data.published_rates[label][latent])
        often = f"fires on {rate:.2%} of the tokens" if rate else "never fires"
        st.caption(f"By what was published with the SAE it {often}.")
    if "cluster" in data.map.points:
        cluster = int(data.map.points["cluster"].iloc[row])
        st.caption("In no cluster (noise)." if cluster < 0 else f"In cluster {cluster}.")
    _tokens("Makes more likely", data, data.tokens.boosted[row])
    _tokens("Makes less likely", data, data.tokens.suppressed[row])
    _links(data, selection, label, latent, row)


def _tokens(title: str, data: "MapData", ids: np.ndarray) -> None:
    st.caption(title)
    tokens = [visible_token(text) for text in data.vocabulary.array[ids[:_N_TOKENS]]]
    # Side by side and wrapped: in a column of their own long ones would be cut off.
    st.markdown(" ".join(f":gray-background[{exact_markdown(token)}]" for token in tokens))


def _links(data: "MapData", selection: Selection, label: str, latent: int, row: int) -> None:
    entry = data.members[label].entry
    chosen = Selection(selection.model, *entry.key, latent=latent)
    elsewhere.draw(chosen, here="feature-splitting")
    st.button(
        "Zoom to it", icon=":material/zoom_in:", on_click=_zoom_to, args=(data, row), key="map_zoom"
    )
    if entry.neuronpedia_id is not None:
        from core.neuronpedia import dashboard_url

        st.link_button(
            "Neuronpedia",
            dashboard_url(entry.neuronpedia_id, latent),
            icon=":material/open_in_new:",
        )
        if st.toggle("Show its page here", key="map_neuronpedia"):
            url = dashboard_url(entry.neuronpedia_id, latent, embed=True)
            st.iframe(url, height=500)


def _zoom_to(data: "MapData", row: int) -> None:
    from core.splitting.visible import view_around

    ids = data.map.neighbors.ids[row]
    near = view_around(data.map.points, [row, *(int(other) for other in ids if other >= 0)])
    session.zoom_to(near)


def nearest(data: "MapData", row: int | None, texts: Sequence[str]) -> None:
    """The latents with the most similar directions, in the same SAE and in the others."""
    if row is None:
        st.caption("Choose a latent on the map first.")
        return
    from core.splitting.relatives import nearest_latents

    label, latent = data.latent(row)
    found = nearest_latents(data.family, label, latent, k=10)
    rows = [data.row(neighbour.sae, neighbour.latent_idx) for neighbour in found.itertuples()]
    kept = [
        (place, neighbour)
        for place, neighbour in zip(rows, found.itertuples(), strict=True)
        if place is not None
    ]
    kept.sort(key=lambda pair: -float(pair[1].cosine))
    st.caption(
        "By cosine similarity of the decoder directions, the ten nearest of each SAE on the map, "
        "the nearest first."
    )
    search.latent_table(
        data,
        texts,
        [place for place, _ in kept],
        key="map_nearest",
        extra={
            "where": [neighbour.relation for _, neighbour in kept],
            "cosine": [round(float(neighbour.cosine), 3) for _, neighbour in kept],
        },
    )
