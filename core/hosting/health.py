"""How the server is: for a health check, and as numbers for Prometheus. No names, no texts."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.device import memory_report
from core.hosting.kinds import kind_of
from core.jobs import JobManager, JobState
from core.store import JSON, Key, Store, StoreError

if TYPE_CHECKING:
    from core.engine.listing import LoadedObject


@dataclass(frozen=True)
class Health:
    """What `/healthz` says."""

    status: str
    """`ok`, `draining` (nothing new is started) or `failing` (results cannot be kept)."""
    store: str
    """`ok`, or why the store refuses."""
    running: int
    """Jobs that run."""
    queued: int
    """Jobs that wait."""

    @property
    def code(self) -> int:
        """Of HTTP: 503 where the server should be looked after."""
        return 503 if self.status == "failing" else 200


def health(store: Store, managers: Sequence[JobManager]) -> Health:
    """Whether jobs are taken and results can be kept; writes a few bytes to the store."""
    problem = "ok"
    key, value = Key("health", 1, {"process": os.getpid()}), os.urandom(4).hex()
    try:
        store.put(key, value, JSON)
        if store.get(key, JSON) != value:
            problem = "the store does not give back what it was given"
    except (StoreError, ValueError, OSError):
        problem = "the store refuses; look at the disk and the log"
    states = Counter(view.state for manager in managers for view in manager.jobs())
    draining = any(manager.draining for manager in managers)
    status = "failing" if problem != "ok" else "draining" if draining else "ok"
    return Health(status, problem, states[JobState.RUNNING], states[JobState.QUEUED])


def metrics(
    store: Store,
    managers: Mapping[str, JobManager],
    loaded: "Sequence[LoadedObject]",
    others: Mapping[str, Sequence[Any]] | None = None,
) -> str:
    """Jobs, queue, models and store in Prometheus' text format (0.0.4).

    `others` are Streamlit's own, by family (`streamlit.runtime.stats.Stat`), such as its sessions.
    """
    text = _Text()
    for pool, manager in managers.items():
        views = manager.jobs()
        counts = Counter((kind_of(view.key), view.state) for view in views)
        for (kind, state), n in sorted(counts.items()):
            text.add("jobs", n, "Jobs that are listed.", pool=pool, kind=kind, state=state.value)
        waits = [view.place.seconds for view in views if view.place and view.place.seconds]
        text.add("queue_seconds", max(waits, default=0.0), "Longest expected wait.", pool=pool)
        text.add("draining", int(manager.draining), "1 while new jobs are refused.", pool=pool)
    for it in loaded:
        labels = {"name": it.name, "kind": it.kind, "device": it.device}
        text.add("loaded_bytes", it.n_bytes, "Bytes of what is loaded.", **labels)
        text.add("lease_held", int(it.in_use), "1 while somebody uses it.", **labels)
    for memory in memory_report():
        text.add("memory_used_bytes", memory.used, "Memory in use.", where=memory.name)
        text.add("memory_total_bytes", memory.total, "Memory there is.", where=memory.name)
    usage = store.usage()
    for tier, used in (("results", usage.recomputable), ("paid", usage.paid)):
        text.add("store_bytes", used.bytes, "Bytes on disk.", tier=tier)
        text.add("store_entries", used.entries, "Values that are kept.", tier=tier)
    return text.whole() + "".join(_streamlit_family(stats) for stats in (others or {}).values())


def _streamlit_family(stats: Sequence[Any]) -> str:
    """One family of Streamlit's; its samples are written as it writes them."""
    if not stats:
        return ""
    kind = stats[0].type
    name = stats[0].family_name + ("_total" if kind == "counter" else "")
    lines = [f"# HELP {name} {stats[0].help}", f"# TYPE {name} {kind}"]
    return "\n".join([*lines, *(stat.to_metric_str() for stat in stats)]) + "\n"


class _Text:
    """Families of figures, each with its help once."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def add(self, name: str, value: float, about: str, /, **labels: Any) -> None:
        full = f"sae_explorer_{name}"
        family = self._families.setdefault(full, [f"# HELP {full} {about}", f"# TYPE {full} gauge"])
        inner = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
        family.append(f"{full}{{{inner}}} {value:.17g}")

    def whole(self) -> str:
        return "\n".join(line for family in self._families.values() for line in family) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
