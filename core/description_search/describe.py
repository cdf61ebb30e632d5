"""Describe the latents of SAEs of which nothing is said yet, by reading a sample of text."""

from collections.abc import Callable, Sequence

from core.catalog.entries import SaeEntry
from core.corpus.documents import Corpus
from core.gradients.sae_choices import read_alike
from core.lease import Lease
from core.splitting.sample_words import describe_sample
from core.store import Store
from core.usual_time import measured, usual_seconds


def describe_saes(
    lease: Callable[[Sequence[SaeEntry]], Lease],
    store: Store,
    entries: Sequence[SaeEntry],
    corpus: Corpus,
    *,
    model: str,
) -> None:
    """Have the offline describer say something of each latent that fires on `corpus`.

    The model runs once for all SAEs that read the same text in the same weights. What is said is
    kept in the store with each SAE (`core.descriptions.saved.recall_offline`).

    Args:
        lease: the model with some of the SAEs.
        store: the app's.
        entries: the SAEs.
        corpus: the sample.
        model: name of the model, under which the time is noted (`expected_seconds`).

    Raises:
        ValueError: the corpus cannot be read, or an SAE does not fit the model.
        JobCancelled: through the leases' progress.
    """
    with measured(store, _work(model), units=_units(entries)):
        for group in groups_alike(entries):
            describe_sample(lease(group), store, corpus)


def expected_seconds(store: Store, entries: Sequence[SaeEntry], *, model: str) -> float | None:
    """How long `describe_saes` takes, as the last times on this machine; None before the first."""
    return usual_seconds(store, _work(model), units=_units(entries))


def groups_alike(entries: Sequence[SaeEntry]) -> list[list[SaeEntry]]:
    """SAEs that one model and one text suit, together."""
    groups: list[list[SaeEntry]] = []
    for entry in entries:
        own = next((group for group in groups if read_alike(group[0], entry)), None)
        if own is None:
            groups.append([entry])
        else:
            own.append(entry)
    return groups


def _work(model: str) -> str:
    return f"describe:{model}"


def _units(entries: Sequence[SaeEntry]) -> float:
    return float(sum(entry.width or 0 for entry in entries))
