"""What is said of the latent, and by whom; how to fetch or write a description."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.selection import Selection
from pages.parts import action, job_results, neuronpedia, people, typed, undo, view_state
from pages.parts.latent import index as indexes
from pages.parts.latent import lists, told

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex
    from core.descriptions.table import Descriptions

MOST_CHARACTERS = 300
"""Of a description that is typed."""


def fetched_descriptions(entry: SaeEntry) -> "Descriptions | None":
    """What was fetched from Neuronpedia for this SAE since the start of the explorer."""
    return neuronpedia.fetched_descriptions({entry.sae_id: entry}).get(entry.sae_id)


def all_texts(entry: SaeEntry, index: "OpenIndex") -> "Descriptions":
    """The best description of each latent that is at hand."""
    from core.latent.all_latents import best_texts

    about = indexes.recent_all_latents(index)
    return best_texts(
        resources.store(),
        index,
        published=fetched_descriptions(entry),
        offline=about.offline if about is not None else None,
    )


def draw(selection: Selection, entry: SaeEntry, index: "OpenIndex | None") -> None:
    """Every description of the latent, the best first, and what can be done with it."""
    said = _said(selection, entry, index)
    told.draw(selection, said, author=_author(selection, index))
    if not said:
        st.caption("Nothing is said of this latent yet.")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        width = index.d_sae if index is not None else entry.width
        if entry.neuronpedia_id is not None and width is not None:
            neuronpedia.draw_fetch_button({entry.sae_id: entry}, {entry.sae_id: width})
        fingerprint, d_sae = _weights(selection, entry, index)
        if d_sae:
            own = next((text for source, text, _ in said if source == "yours"), "")
            title = "Change your description" if own else "Describe it"
            with st.popover(title, icon=":material/edit:", key="latent_describe"):
                _write(selection, fingerprint, d_sae, own)
        lists.add(selection, said[0][1] if said else "")


def _said(
    selection: Selection, entry: SaeEntry, index: "OpenIndex | None"
) -> list[tuple[str, str, float]]:
    from core.descriptions.saved import load_user_descriptions, recall_offline

    store = resources.store()
    fingerprint, d_sae = _weights(selection, entry, index)
    found: list[Descriptions | None] = []
    found.append(load_user_descriptions(store, fingerprint, d_sae) if d_sae else None)
    found.append(fetched_descriptions(entry))
    about = indexes.all_latents(selection, index) if index is not None else None
    if about is not None:
        found.append(about.offline)
    elif d_sae:
        found.append(recall_offline(store, fingerprint, d_sae))
    return [
        (
            str(described.sources[selection.latent]),
            str(described.texts[selection.latent]),
            _score(described, selection),
        )
        for described in found
        if described is not None
        and selection.latent < described.d_sae
        and described.texts[selection.latent]
    ]


def _author(selection: Selection, index: "OpenIndex | None") -> str:
    from core.descriptions.saved import authors_of

    if index is None:
        return ""
    return authors_of(resources.store(), index.sae_fingerprint).get(selection.latent, "")


def _weights(
    selection: Selection, entry: SaeEntry, index: "OpenIndex | None"
) -> tuple[str, int | None]:
    """By what descriptions of the SAE are kept, and its number of latents; it is loaded."""
    if index is not None:
        return index.sae_fingerprint, index.d_sae
    return job_results.lease(selection).sae_fingerprints[0], view_state.width_of(entry)


def _score(found: "Descriptions", selection: Selection) -> float:
    return float(found.scores[selection.latent])


def _write(selection: Selection, fingerprint: str, d_sae: int, own: str) -> None:
    """A box with one's own description of the latent (`own`, if there is one), to be changed."""
    latent, key = selection.latent, f"latent_describe_{selection.latent}"
    typed.line(
        "Your description",
        own,
        key=key,
        most=MOST_CHARACTERS,
        help="Kept on this server with the SAE and shown before all others, on every page.",
    )

    def save() -> str:
        text = " ".join(st.session_state[key].split())
        if not text:
            raise ValueError("There is nothing to save; type what the latent stands for.")
        texts = [""] * d_sae
        texts[latent] = text
        given = Descriptions.from_texts(texts, source=YOURS)
        save_user_descriptions(resources.store(), fingerprint, given, by=people.current())
        return "Saved."

    def delete() -> str:
        by = people.current()
        forget_user_description(resources.store(), fingerprint, d_sae, latent, by=by)
        st.session_state[key] = ""
        return "Deleted."

    from core.descriptions.saved import forget_user_description, save_user_descriptions
    from core.descriptions.table import YOURS, Descriptions

    with st.container(horizontal=True, gap="small"):
        action.button("Save", save, key="latent_describe_save", type="primary")
        if own:
            action.button(
                "Delete yours", delete, key="latent_describe_delete", icon=":material/delete:"
            )
        undo.descriptions(fingerprint, d_sae, key="latent_describe_undo")
