"""Everything that was said of the latents of some SAEs, found in the store by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from core.autointerp.explanations import explanations_of
from core.catalog.entries import SaeEntry
from core.descriptions.saved import load_user_descriptions, recall_offline
from core.descriptions.table import NEURONPEDIA, Descriptions
from core.jobs.progress import Progress
from core.known_weights import KnownWeights, recall_weights
from core.neuronpedia import recall_explanations
from core.store import Store

AUTHORS = {"yours": "users here", NEURONPEDIA: "Neuronpedia", "offline": "made offline"}
"""What sources are called in a table; runs of autointerp have names of their own."""


@dataclass(frozen=True)
class Covered:
    """How much is said of one SAE."""

    entry: SaeEntry
    """The SAE."""
    d_sae: int | None
    """Its number of latents, where known."""
    n_described: int
    """Latents of which something is said."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """Texts about latents; arrays have one element a text."""

    covered: tuple[Covered, ...]
    """The SAEs that were looked at."""
    sae: Int[np.ndarray, " n"]
    """Which of them a text is about."""
    latent: Int[np.ndarray, " n"]
    """Which of its latents."""
    texts: Shaped[np.ndarray, " n"]
    """The texts (dtype object, of str), none empty."""
    said_by: Shaped[np.ndarray, " n"]
    """Who says so (dtype object, of str)."""
    scores: Float[np.ndarray, " n"]
    """How well it was found to predict its latent, in its author's measure; NaN where unknown."""

    @property
    def n_described(self) -> int:
        """Latents of which something is said."""
        return sum(one.n_described for one in self.covered)

    @property
    def n_silent(self) -> int:
        """Latents of which nothing is said, in SAEs whose number of latents is known."""
        return sum(one.d_sae - one.n_described for one in self.covered if one.d_sae is not None)


def gather(
    store: Store,
    models: Sequence[str],
    entries: Sequence[SaeEntry],
    *,
    progress: Progress | None = None,
) -> Gathered:
    """What the store has of readers, autointerp, Neuronpedia and the offline describer, in turn.

    Of equal texts about one latent the first stays. Nothing is loaded and nobody is asked: texts
    of readers, of autointerp and the offline ones are known of SAEs that were loaded here once.

    Args:
        store: the app's.
        models: names of the model under which its SAEs may have been loaded.
        entries: the SAEs.
        progress: SAEs done.
    """
    covered: list[Covered] = []
    columns: list[tuple[np.ndarray, ...]] = []
    for number, entry in enumerate(entries):
        if progress is not None:
            progress.update(number, len(entries), unit="SAEs", message="Collecting descriptions")
        known = _weights(store, models, entry)
        d_sae = known.d_sae if known is not None else entry.width
        parts = _parts(store, entry, known)
        described = np.zeros(max([*(len(part.texts) for part in parts.values()), 0]), dtype=bool)
        before: list[Descriptions] = []
        for author, part in parts.items():
            latents = np.flatnonzero(_new(part, before))
            described[latents] = True
            before.append(part)
            columns.append(
                (
                    np.full(len(latents), number),
                    latents,
                    part.texts[latents],
                    np.full(len(latents), author, dtype=object),
                    part.scores[latents],
                )
            )
        covered.append(Covered(entry, d_sae, int(described.sum())))
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), *[np.zeros(0, object)] * 2)
    columns.append((*empty, np.zeros(0, np.float32)))
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return Gathered(tuple(covered), *joined)


def _weights(store: Store, models: Sequence[str], entry: SaeEntry) -> KnownWeights | None:
    found = (recall_weights(store, (model, *entry.key, entry.version)) for model in models)
    return next((one for one in found if one is not None), None)


def _parts(store: Store, entry: SaeEntry, known: KnownWeights | None) -> Mapping[str, Descriptions]:
    """Descriptions by their authors, the most trusted first."""
    parts: dict[str, Descriptions | None] = {}
    if known is not None:
        own = load_user_descriptions(store, known.fingerprint, known.d_sae)
        parts[AUTHORS["yours"]] = own
        parts |= _explained(store, known)
    if entry.neuronpedia_id is not None:
        frame = recall_explanations(entry.neuronpedia_id, store)
        width = known.d_sae if known is not None else entry.width
        if frame is not None and len(frame):
            width = width if width is not None else int(frame["index"].max()) + 1
            inside = frame[frame["index"] < width]
            published = Descriptions.from_frame(inside, width, source=NEURONPEDIA)
            parts[AUTHORS[NEURONPEDIA]] = published
    if known is not None:
        parts[AUTHORS["offline"]] = recall_offline(store, known.fingerprint, known.d_sae)
    return {author: part for author, part in parts.items() if part is not None}


def _explained(store: Store, known: KnownWeights) -> dict[str, Descriptions]:
    """What runs of autointerp said, by who explained; the latest text of each latent."""
    found: dict[str, Descriptions] = {}
    for latent, said in explanations_of(store, known.fingerprint).items():
        for one in said:
            part = found.setdefault(one.author, Descriptions.none(known.d_sae))
            if latent < known.d_sae and not part.texts[latent]:
                part.texts[latent] = one.text
                part.scores[latent] = one.score
    return found


def _new(part: Descriptions, before: Sequence[Descriptions]) -> Bool[np.ndarray, " d_sae"]:
    """Latents of which `part` says something that those before it do not."""
    new = np.asarray(part.texts != "", dtype=bool)
    for other in before:
        new &= np.asarray(part.texts != other.texts, dtype=bool)
    return new
