"""What is said of the latent, and by whom; how to fetch or write a description."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import neuronpedia
from pages.parts.latent import action, lists
from pages.parts.latent import index as indexes

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex
    from core.descriptions.table import Descriptions

_SAID_BY = {
    "yours": "Written by users of this server",
    "neuronpedia": "From Neuronpedia",
    "offline": "Made offline, from the words at its strongest examples",
}


def published(entry: SaeEntry) -> "Descriptions | None":
    """What was fetched from Neuronpedia for this SAE since the start of the explorer."""
    return neuronpedia.fetched({entry.sae_id: entry}).get(entry.sae_id)


def all_texts(entry: SaeEntry, index: "OpenIndex") -> "Descriptions":
    """The best description of each latent that is at hand."""
    from core.view.latent.about_all import best_texts

    about = indexes.known_about(index)
    return best_texts(
        resources.store(),
        index,
        published=published(entry),
        offline=about.offline if about is not None else None,
    )


def draw(selection: Selection, entry: SaeEntry, index: "OpenIndex | None") -> None:
    """Every description of the latent, the best first, and what can be done with it."""
    said = _said(selection, entry, index)
    for number, (source, text, score) in enumerate(said):
        shown = escape_markdown(text)
        st.markdown(f"#### {shown}" if number == 0 else shown)
        scored = f", score {score:.2f}" if score == score else ""
        st.caption(f"{_SAID_BY.get(source, source)}{scored}.")
    if not said:
        st.caption("Nothing is said of this latent yet.")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        width = index.d_sae if index is not None else entry.width
        if entry.neuronpedia_id is not None and width is not None:
            neuronpedia.fetching({entry.sae_id: entry}, {entry.sae_id: width})
        if index is not None:
            with st.popover("Describe it", icon=":material/edit:"):
                _write(selection, index)
        lists.add(selection)


def _said(
    selection: Selection, entry: SaeEntry, index: "OpenIndex | None"
) -> list[tuple[str, str, float]]:
    from core.descriptions.saved import load_user_descriptions

    found: list[Descriptions | None] = []
    if index is not None:
        found.append(load_user_descriptions(resources.store(), index.sae_fingerprint, index.d_sae))
    found.append(published(entry))
    if index is not None:
        about = indexes.about(selection, index)
        found.append(about.offline if about is not None else None)
    return [
        (str(it.sources[selection.latent]), str(it.texts[selection.latent]), _score(it, selection))
        for it in found
        if it is not None and selection.latent < it.d_sae and it.texts[selection.latent]
    ]


def _score(found: "Descriptions", selection: Selection) -> float:
    return float(found.scores[selection.latent])


def _write(selection: Selection, index: "OpenIndex") -> None:
    from core.descriptions.saved import save_user_descriptions
    from core.descriptions.table import YOURS, Descriptions

    key = f"latent_describe_{selection.latent}"
    text = st.text_input(
        "Your description",
        key=key,
        max_chars=300,
        help="Kept on this server with the SAE and shown before all others, on every page.",
    )

    def save() -> None:
        texts = [""] * index.d_sae
        texts[selection.latent] = text
        given = Descriptions.from_texts(texts, source=YOURS)
        save_user_descriptions(resources.store(), index.sae_fingerprint, given)

    action.button(
        "Save", save, key="latent_describe_save", type="primary", disabled=not text.strip()
    )
