"""Which description does each latent have, and how many have none?"""

from collections.abc import Mapping
from dataclasses import dataclass

from core.descriptions.saved import load_user_descriptions, recall_offline
from core.descriptions.table import NEURONPEDIA, Descriptions
from core.jobs.progress import Progress
from core.neuronpedia import FRESH_SECONDS, NoExplanations, fetch_explanations
from core.store import Store

SOURCE_NAMES = {"yours": "yours", "neuronpedia": "from Neuronpedia", "offline": "made offline"}
"""How a source is called on the page."""


@dataclass(frozen=True)
class DescribedSae:
    """An SAE whose latents are described."""

    fingerprint: str
    """Of its weights: the user's own words are kept under it."""
    d_sae: int
    """Number of latents."""
    neuronpedia_id: str | None = None
    """Where its published descriptions are, if it has some."""


def best_descriptions(
    store: Store,
    saes: Mapping[str, DescribedSae],
    *,
    published: Mapping[str, Descriptions],
    offline: Mapping[str, Descriptions],
) -> dict[str, Descriptions]:
    """The best description of each latent, by the SAE's name: the user's, the published, the
    offline one (given here, or made last on any page)."""
    found = {}
    for name, sae in saes.items():
        own = load_user_descriptions(store, sae.fingerprint, sae.d_sae)
        made = offline.get(name)
        if made is None:
            made = recall_offline(store, sae.fingerprint, sae.d_sae)
        chain = [own, published.get(name), made]
        known = [one for one in chain if one is not None and one.d_sae == sae.d_sae]
        found[name] = Descriptions.none(sae.d_sae).merge(*known)
    return found


def fetch_published(
    store: Store,
    neuronpedia_ids: Mapping[str, str | None],
    widths: Mapping[str, int],
    progress: Progress,
    *,
    ask_again: bool = False,
) -> dict[str, Descriptions]:
    """Neuronpedia's explanations of those SAEs that it has, by their names.

    With `ask_again` it is asked whether there are others by now, also of what is stored.

    Raises:
        NeuronpediaError: they cannot be had, or there are none for any of the SAEs; what was
            fetched before stays in the store.
    """
    found = {}
    missing: NoExplanations | None = None
    fresh = 0.0 if ask_again else FRESH_SECONDS
    for name, neuronpedia_id in neuronpedia_ids.items():
        if neuronpedia_id is None:
            continue
        try:
            frame = fetch_explanations(
                neuronpedia_id, store=store, progress=progress, fresh_seconds=fresh
            )
        except NoExplanations as error:
            missing = error
            continue
        inside = frame[frame["index"] < widths[name]]
        found[name] = Descriptions.from_frame(inside, widths[name], source=NEURONPEDIA)
    if missing is not None and not found:
        raise missing
    return found


def coverage(descriptions: Mapping[str, Descriptions]) -> str:
    """How many latents are described, by whom, and how many are not: one sentence."""
    total = sum(found.d_sae for found in descriptions.values())
    counts: dict[str, int] = {}
    for found in descriptions.values():
        for source, n in found.counts().items():
            counts[source] = counts.get(source, 0) + n
    missing = total - sum(counts.values())
    parts = [f"{n:,} {SOURCE_NAMES.get(source, source)}" for source, n in counts.items()]
    if not parts:
        return f"None of the {total:,} latents has a description yet."
    return f"Descriptions of {total:,} latents: {', '.join(parts)}; {missing:,} have none."
