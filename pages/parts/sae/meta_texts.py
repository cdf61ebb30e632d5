"""What is said of the latents of a decomposed SAE, and which words set meta-latents apart."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.meta_sae.run import MetaRequest
from core.sae_quality.view import SaePageView
from core.view.selection import Selection
from pages.parts import job_results, neuronpedia
from pages.parts.sae import jobs

if TYPE_CHECKING:
    from core.descriptions.table import Descriptions
    from core.meta_sae.found import MetaFound


def of(
    selection: Selection,
    entry: SaeEntry,
    request: MetaRequest,
    found: "MetaFound",
    view: SaePageView,
) -> tuple[list[str], list[str]]:
    """A text for each row of the decomposition (the best description, else what the latent
    boosts), and the telling words of each meta-latent."""
    from core.descriptions.sources import DescribedSae, best_descriptions
    from core.meta_sae.words import telling_words

    name, d_sae = entry.sae_id, len(found.latent_tokens)
    offline = _offline(selection, entry, view)
    fetched = neuronpedia.fetched_descriptions({name: entry})
    if entry.neuronpedia_id is not None:
        neuronpedia.draw_fetch_button({name: entry}, {name: d_sae})
    best = best_descriptions(
        resources.store(),
        {name: DescribedSae(found.fingerprint, d_sae, entry.neuronpedia_id)},
        published=fetched,
        offline={} if offline is None else {name: offline},
    )[name]
    latents = found.made.latents
    said = [str(best.texts[it]) for it in latents]
    key = f"meta-words:{request.key}:{hash(tuple(said))}"
    words = resources.recent().get(key)
    if words is None:
        words = telling_words(found.made.acts, said)
        resources.recent().put(key, words)
    texts = [
        text or (f"boosts {found.latent_tokens[it]}" if found.latent_tokens[it] else "")
        for text, it in zip(said, latents, strict=True)
    ]
    return texts, words


def _offline(selection: Selection, entry: SaeEntry, view: SaePageView) -> "Descriptions | None":
    """Descriptions from the words at the latents' peaks, made unasked for the demo."""
    from core.splitting.text_evidence import read_sample

    corpus = jobs.corpus(view)
    key = f"meta-offline:{selection.model}:{entry.key}:{entry.version}:{corpus.digest}"
    engine, store = resources.engine(), resources.store()
    if not jobs.wanted(
        key,
        "Describe the latents from a sample of text",
        start=jobs.is_demo(selection),
        about="Latents without a description are shown by the tokens that they boost.",
    ):
        return None

    def read(progress: Any) -> "Descriptions":
        lease = engine.lease(selection.model, [entry.key], progress=progress)
        return read_sample(lease, store, [entry.sae_id], corpus)[entry.sae_id].offline

    with st.container():
        return job_results.recent_result(
            key,
            f"Describing the latents of {entry.sae_id}",
            read,
            wait=0.3,
            link=jobs.link(selection, view),
        )
