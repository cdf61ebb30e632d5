"""Which description does each latent have, and how many have none?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from core.descriptions.saved import load_user_descriptions
from core.descriptions.table import NEURONPEDIA, Descriptions
from core.jobs.progress import Progress
from core.neuronpedia import FRESH_SECONDS, NoExplanations, fetch_explanations
from core.store import Store
from core.view.splitting.members import Member

if TYPE_CHECKING:  # they bring torch, and a page is drawn before that is there
    from core.view.splitting.build import MapData
    from core.view.splitting.evidence import Evidence

SOURCE_NAMES = {"yours": "yours", "neuronpedia": "from Neuronpedia", "offline": "made offline"}
"""How a source is called on the page."""


def gather(
    data: "MapData",
    store: Store,
    *,
    published: Mapping[str, Descriptions],
    evidence: "Mapping[str, Evidence]",
) -> dict[str, Descriptions]:
    """The best description of each latent, by label: the user's, the published, the offline one."""
    found = {}
    for label, decoder in data.family.items():
        own = load_user_descriptions(store, data.fingerprints[label], decoder.width)
        chain = [own, published.get(label)]
        chain.append(evidence[label].offline if label in evidence else None)
        known = [it for it in chain if it is not None and it.d_sae == decoder.width]
        found[label] = Descriptions.none(decoder.width).merge(*known)
    return found


def fetch_published(
    store: Store,
    members: Sequence[Member],
    widths: Mapping[str, int],
    progress: Progress,
    *,
    ask_again: bool = False,
) -> dict[str, Descriptions]:
    """Neuronpedia's explanations of those members that it has, by label.

    With `ask_again` it is asked whether there are others by now, also of what is stored.

    Raises:
        NeuronpediaError: they cannot be had, or there are none for any of the members; what was
            fetched before stays in the store.
    """
    found = {}
    missing: NoExplanations | None = None
    fresh = 0.0 if ask_again else FRESH_SECONDS
    for member in members:
        if member.entry.neuronpedia_id is None:
            continue
        try:
            frame = fetch_explanations(
                member.entry.neuronpedia_id, store=store, progress=progress, fresh_seconds=fresh
            )
        except NoExplanations as error:
            missing = error
            continue
        inside = frame[frame["index"] < widths[member.label]]
        found[member.label] = Descriptions.from_frame(
            inside, widths[member.label], source=NEURONPEDIA
        )
    if missing is not None and not found:
        raise missing
    return found


def coverage(descriptions: Mapping[str, Descriptions]) -> str:
    """How many latents are described, by whom, and how many are not: one sentence."""
    total = sum(it.d_sae for it in descriptions.values())
    counts: dict[str, int] = {}
    for found in descriptions.values():
        for source, n in found.counts().items():
            counts[source] = counts.get(source, 0) + n
    missing = total - sum(counts.values())
    parts = [f"{n:,} {SOURCE_NAMES.get(source, source)}" for source, n in counts.items()]
    if not parts:
        return f"None of the {total:,} latents has a description yet."
    return f"Descriptions of {total:,} latents: {', '.join(parts)}; {missing:,} have none."
