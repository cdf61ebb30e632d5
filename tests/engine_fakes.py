"""Fake models and SAEs for the engine, which note when they are loaded."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from core.catalog.entries import ModelEntry, SaeEntry
from core.engine import Engine
from core.engine.loaders import Loaders


class FakeCatalog:
    """Knows any model, except `broken`; SAEs belong to the model that their release names."""

    def model(self, name: str) -> ModelEntry:
        problem = "the model is broken; use another" if name == "broken" else None
        return ModelEntry(name=name, source="hub", repo_id=name, problem=problem)

    def entry(self, release: str, sae_id: str) -> SaeEntry:
        return SaeEntry(release=release, sae_id=sae_id, model=release, source="hub", repo_id="r")


@dataclass
class FakeSae:
    sae_id: str
    wishes: dict[str, bool] = field(default_factory=dict)


@dataclass
class Recorder:
    """Loaders that note what they were asked for; everything weighs 100 bytes."""

    loads: list[str] = field(default_factory=list)
    wishes: dict[str, dict[str, bool]] = field(default_factory=dict)
    before_load: Callable[[str], None] = lambda name: None
    sizes: dict[str, int] = field(default_factory=dict)

    def load_model(self, location: str, *, device: str, dtype: str, **processing: bool) -> Any:
        assert device == "cpu"
        self.loads.append(" ".join([location, *processing]))
        self.before_load(location)
        module = torch.nn.Linear(2, 2)
        module.location = location  # type: ignore[assignment]
        return module

    def load_sae(self, entry: SaeEntry, *, device: str) -> FakeSae:
        self.loads.append(entry.sae_id)
        self.before_load(entry.sae_id)
        return FakeSae(entry.sae_id, self.wishes.get(entry.sae_id, {}))

    def fetch(self, entry: Any, *, progress: Any, **how: Any) -> int:
        name = getattr(entry, "sae_id", None) or entry.name
        progress(50, 100, f"downloading {name}")
        return self.sizes.get(name, 100)

    def size_of(self, value: Any) -> int:
        name = value.sae_id if isinstance(value, FakeSae) else value.location
        return self.sizes.get(name, 100)

    def loaders(self, **others: Any) -> Loaders:
        return Loaders(
            **{
                "load_model": self.load_model,
                "load_sae": self.load_sae,
                "processing_of": lambda sae: sae.wishes,
                "check_fits": lambda sae, model, model_name: None,
                "fetch": self.fetch,
                "size_of": self.size_of,
                **others,
            }
        )


def make_engine(
    recorder: Recorder, budget: int = 10_000, dtype: str = "float32", **others: Any
) -> Engine:
    catalog: Any = FakeCatalog()
    return Engine(
        catalog,
        device="cpu",
        dtype=dtype,
        memory_budget_bytes=budget,
        loaders=recorder.loaders(**others),
    )


def names(engine: Engine) -> list[str]:
    return [loaded.name for loaded in engine.loaded()]


def load(engine: Engine, name: str, saes: tuple[tuple[str, str], ...] = (), **options: Any) -> None:
    with engine.use(name, saes, **options):
        pass
