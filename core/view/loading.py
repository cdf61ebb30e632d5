"""What must be fetched before a selection can be looked at, and fetching it: the work of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.catalog import Catalog
from core.catalog.entries import SaeEntry
from core.engine import Engine
from core.hub import DownloadPlan, HubErrorsInWords, plan_download
from core.jobs.progress import Progress
from core.view.selection import Selection


@dataclass(frozen=True)
class LoadPlan:
    """What loading one selection takes: its model and its SAE."""

    parts: tuple[DownloadPlan, ...]
    """The model's plan, then the SAEs'."""

    @property
    def complete(self) -> bool:
        """Whether nothing has to be downloaded."""
        return all(part.complete for part in self.parts)

    @property
    def outdated(self) -> bool:
        """Whether something that was missing has come since."""
        return any(part.outdated for part in self.parts)

    @property
    def bytes_to_download(self) -> int:
        """Bytes still to fetch."""
        return sum(part.bytes_to_download for part in self.parts)

    @property
    def memory_needed(self) -> int:
        """Most memory needed at once: one part being loaded beside those that are there."""
        peaks, kept = [0], 0
        for part in self.parts:
            peaks.append(kept + part.memory_needed)
            kept += part.bytes_in_memory
        return max(peaks)

    @property
    def problem(self) -> str | None:
        """Why this cannot be done here, or None."""
        return next((part.problem for part in self.parts if part.problem), None)


def load_key(selection: Selection, entry: SaeEntry) -> str:
    """Key of the job that loads `selection`; the latent does not matter."""
    return f"load:{selection.model}:{selection.release}:{selection.sae_id}:{entry.version}"


def plan_key(selection: Selection, entry: SaeEntry) -> str:
    """Key of the job that finds out what loading `selection` takes."""
    return f"plan:{load_key(selection, entry)}"


def is_loaded(engine: Engine, selection: Selection) -> bool:
    """Whether the model and the SAE of `selection` are in memory."""
    here = {(entry.kind, entry.name) for entry in engine.loaded() if entry.model == selection.model}
    return {("model", selection.model), ("sae", " / ".join(selection.sae))} <= here


def plan(engine: Engine, catalog: Catalog, selection: Selection, progress: Progress) -> LoadPlan:
    """What loading `selection` takes; asks the hub for sizes, fetches nothing."""
    return plan_all(engine, catalog, selection.model, [selection.sae], progress)


def plan_all(
    engine: Engine,
    catalog: Catalog,
    model: str,
    saes: Sequence[tuple[str, str]],
    progress: Progress,
) -> LoadPlan:
    """What loading a model with several SAEs takes; asks the hub for sizes, fetches nothing."""
    total = 1 + len(saes)
    with HubErrorsInWords():
        progress.update(0, total, message="asking for sizes")
        device, idle = engine.device, engine.idle_bytes()
        entry = catalog.model(model)
        parts = [plan_download(entry, device=device, dtype=engine.dtype, idle_bytes=idle)]
        for name in saes:
            progress.update(len(parts), total, message="asking for sizes")
            parts.append(plan_download(catalog.entry(*name), device=device, idle_bytes=idle))
    return LoadPlan(tuple(parts))


def load(engine: Engine, selection: Selection, progress: Progress) -> None:
    """Download what is missing and load it; stays in memory until others need the room."""

    def report(done: int, total: int | None, message: str) -> None:
        progress.update(done, total, unit="bytes", message=message)

    with HubErrorsInWords(), engine.use(selection.model, [selection.sae], progress=report):
        pass
