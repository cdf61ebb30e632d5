"""The list of what is said of a latent: the best text large, the others below it."""

from collections.abc import Sequence

import streamlit as st

from core import resources
from core.descriptions.said import Said, best_first
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import job_results

_AUTHORS = {
    "yours": "Written by users of this server",
    "neuronpedia": "From Neuronpedia",
    "offline": "Made offline, from the words at its strongest examples",
}
_SHOWN = 3


def draw(selection: Selection, described: Sequence[tuple[str, str, float]], *, author: str) -> None:
    """`described` (source, text, score) with what autointerp said; the model is loaded.

    `author` wrote the reader's own, where that is known.
    """
    names = {**_AUTHORS, "yours": f"Written by {author}" if author else _AUTHORS["yours"]}
    texts = [
        Said(text, names.get(source, source), score, own=source == "yours")
        for source, text, score in described
    ]
    said = best_first([*texts, *_explained(selection)])
    for number, one in enumerate(said[:_SHOWN]):
        _one(one, large=number == 0)
    if said[_SHOWN:]:
        with st.expander(f"{len(said) - _SHOWN} more", key="latent_told_more"):
            for one in said[_SHOWN:]:
                _one(one, large=False)


def _one(said: Said, *, large: bool) -> None:
    text = escape_markdown(said.text)
    st.markdown(f"#### {text}" if large else text)
    st.caption(escape_markdown(said.credit()))


def _explained(selection: Selection) -> list[Said]:
    """What runs of autointerp said of the latent; read once for all latents of the SAE."""
    from core.autointerp.explanations import explanations_of, runs_key

    store, recent = resources.store(), resources.recent()
    fingerprint = job_results.lease(selection).sae_fingerprints[0]
    key = runs_key(store, fingerprint)
    found = recent.get(key)
    if found is None:
        found = explanations_of(store, fingerprint)
        recent.put(key, found)
    explained: list[Said] = found.get(selection.latent, [])
    return explained
