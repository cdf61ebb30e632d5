"""The last step of `make demo`: models, SAEs with their figures, index and card into demo/."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import GPT2LMHeadModel

from make_demo.bundle import copy_sae, save_model, size_in_bytes, write_index
from make_demo.card import model_card
from make_demo.recipe import Recipe
from make_demo.saes import SaePlan
from make_demo.stages import Stages

logger = logging.getLogger(__name__)

_MODELS = (("base", "docs-small"), ("tuned", "docs-small-it"))


def write_bundle(
    recipe: Recipe,
    stages: Stages,
    plans: Sequence[SaePlan],
    demo_dir: Path,
    *,
    model_of: Callable[[str], GPT2LMHeadModel],
) -> None:
    """Write `demo_dir` from finished stages; `model_of("base")` loads the model of a stage."""
    measured = _measured(stages, plans)
    tokenizer_json = stages.path("text") / "tokenizer.json"
    for stage, name in _MODELS:
        folder = demo_dir / "models" / name
        save_model(model_of(stage).cpu(), tokenizer_json, folder, chat=stage == "tuned")
    for plan in plans:
        if plan.shipped:
            source = stages.path(f"saes/{plan.folder}")
            copy_sae(source, demo_dir / "saes" / plan.folder, measured["saes"][plan.folder])
    write_index(demo_dir)
    card = model_card(
        recipe,
        text=stages.results["text"],
        measured=measured,
        seconds=_seconds_by_machine(stages),
        bundle_bytes=size_in_bytes(demo_dir),
    )
    (demo_dir / "README.md").write_text(card)
    logger.info("bundle written to %s: %d bytes", demo_dir, size_in_bytes(demo_dir))


def _measured(stages: Stages, plans: Sequence[SaePlan]) -> dict[str, Any]:
    """All measures, as the card takes them."""
    results = stages.results
    by_sae = {plan.folder: results[f"measured/{plan.folder}"] for plan in plans if plan.shipped}
    reading = {folder: r["reading"] for folder, r in by_sae.items() if "reading" in r}
    return {
        **results["measured/models"],
        "saes": {folder: r["quality"] for folder, r in by_sae.items()},
        "reading": reading,
        "reading_mean": {
            key: float(np.mean([score[key] for score in reading.values()]))
            for key in ("f1", "shuffled_f1")
        },
    }


def _seconds_by_machine(stages: Stages) -> dict[str, dict[str, float]]:
    """Seconds by machine and kind of stage, the SAEs together."""
    found: dict[str, dict[str, float]] = {}
    for name, seconds in stages.seconds.items():
        by_kind = found.setdefault(stages.machines[name], {})
        kind = name.split("/")[0]
        by_kind[kind] = by_kind.get(kind, 0.0) + seconds
    return found
