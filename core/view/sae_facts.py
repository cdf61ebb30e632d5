"""What an SAE's config says beyond the catalog: read without importing sae_lens."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.catalog.entries import SaeEntry

if TYPE_CHECKING:  # brings torch
    from core.saes import SaeCard


@dataclass(frozen=True)
class SaeFacts:
    """How an SAE was trained; None where its config does not say or is not here."""

    architecture: str | None = None
    """sae_lens' name of the architecture."""
    dataset: str | None = None
    """Dataset it was trained on."""
    context_size: int | None = None
    """Length of the training contexts, in tokens."""
    scale: str | None = None
    """What its input is multiplied by, and who says so; known once it is loaded."""


def facts_of(entry: SaeEntry) -> SaeFacts:
    """From the SAE's folder; of a published SAE, what the catalog says."""
    if entry.path is None:
        return SaeFacts(architecture=entry.architecture)
    try:
        cfg = json.loads((entry.path / "cfg.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return SaeFacts()  # the catalog says what is wrong with it
    metadata = cfg.get("metadata") if isinstance(cfg, dict) else None
    flat = {**cfg, **metadata} if isinstance(metadata, dict) else cfg
    if not isinstance(flat, dict):
        return SaeFacts()
    dataset, context_size = flat.get("dataset_path"), flat.get("context_size")
    return SaeFacts(
        architecture=entry.architecture,
        dataset=dataset if isinstance(dataset, str) else None,
        context_size=context_size if isinstance(context_size, int) else None,
    )


def scale_of(card: "SaeCard") -> str | None:
    """What the SAE's input is multiplied by, as a line of the card; None where by nothing."""
    if card.norm_factor is None:
        return None
    return f"Input scale {card.norm_factor_source}: {card.norm_factor:.3g}"
