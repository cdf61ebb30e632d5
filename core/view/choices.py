"""What can be chosen right now, and what cannot and why: one reading of the catalog.

Local folders are looked at once a reading, however many menus are filled from it.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.catalog import Catalog
from core.catalog.entries import ModelEntry, ReleaseEntry, SaeEntry


@dataclass(frozen=True)
class Unavailable:
    """Something that is listed but cannot be loaded."""

    name: str
    """Release, or release and SAE."""
    reason: str
    """Why, as a sentence."""


@dataclass(frozen=True)
class Choices:
    """Everything that can be loaded, in the order of the menus."""

    models: tuple[ModelEntry, ...]
    """Models that have SAEs: the demo's, the user's, then the published."""
    releases: tuple[ReleaseEntry, ...]
    """Releases with at least one SAE that can be loaded."""
    saes: dict[str, tuple[SaeEntry, ...]]
    """SAEs of each of them, by layer and width."""
    unavailable: tuple[Unavailable, ...]
    """What was left out."""

    def names_of(self, model: str) -> set[str | None]:
        """Names an SAE for `model` may give: its own, and that of the model it was tuned from."""
        entry = next((known for known in self.models if known.name == model), None)
        return {model} if entry is None else {entry.name, entry.base_model}

    def releases_for(self, model: str) -> tuple[ReleaseEntry, ...]:
        """Releases with an SAE that can be used with `model`."""
        return tuple(entry for entry in self.releases if self.saes_for(entry.release, model))

    def saes_for(self, release: str, model: str) -> tuple[SaeEntry, ...]:
        """SAEs of `release` that can be used with `model`."""
        names = self.names_of(model)
        return tuple(entry for entry in self.saes.get(release, ()) if entry.model in names)

    def sae(self, release: str, sae_id: str) -> SaeEntry | None:
        """One of the SAEs, or None if it cannot be chosen."""
        entries = self.saes.get(release, ())
        return next((entry for entry in entries if entry.sae_id == sae_id), None)


def read_choices(catalog: Catalog, *, hub: bool = True) -> Choices:
    """What `catalog` offers now; with `hub=False`, only what is on this machine."""
    saes: dict[str, list[SaeEntry]] = {}
    left_out: list[Unavailable] = []
    known, listing = catalog.everything(hub=hub)
    releases = [release for release, _ in listing]
    problems = {
        release.release: release.problem for release in releases if release.problem is not None
    }
    left_out += [Unavailable(name, reason) for name, reason in problems.items()]
    for entry in (entry for _, entries in listing for entry in entries):
        if entry.release in problems:
            continue
        if entry.problem is None:
            saes.setdefault(entry.release, []).append(entry)
        else:
            left_out.append(Unavailable(f"{entry.release} / {entry.sae_id}", entry.problem))
    offered = tuple(release for release in releases if release.release in saes)
    with_saes = {entry.model for entries in saes.values() for entry in entries}
    models = tuple(
        model
        for model in known
        if model.problem is None and {model.name, model.base_model} & with_saes
    )
    ordered = {name: tuple(sorted(entries, key=_by_layer)) for name, entries in saes.items()}
    return Choices(models, offered, ordered, tuple(left_out))


class LatestChoices:
    """Readings of a catalog that threads share: one of a moment ago is handed out again.

    A reading asks the disk for hundreds of files and puts thousands of published SAEs in order;
    many pages that run at once would each do it while the others wait for the interpreter.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A reading is handed out for `seconds` after it began."""
        self._catalog, self._seconds, self._clock = catalog, seconds, clock
        self._lock = threading.Lock()
        self._known: dict[bool, tuple[float, Choices]] = {}

    def __call__(self, *, hub: bool = True) -> Choices:
        """What `read_choices` gives, or gave a moment ago; raises what it raises."""
        with self._lock:
            known = self._known.get(hub)
            now = self._clock()
            if known is None or not 0 <= now - known[0] < self._seconds:
                self._known[hub] = known = now, read_choices(self._catalog, hub=hub)
            return known[1]


def distinct_labels(titles: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Labels of a menu by option: `titles`, and before those that several share, what `more` says.

    Streamlit's menus send back the label, so of two that look alike the wrong one would be taken.
    """
    shared = Counter(titles.values())
    return {
        name: title if shared[title] == 1 else f"{more[name]} · {title}"
        for name, title in titles.items()
    }


def _by_layer(entry: SaeEntry) -> tuple[int, str, int, str]:
    layer = -1 if entry.layer is None else entry.layer
    return layer, entry.hook_name or "", entry.width or 0, entry.sae_id
