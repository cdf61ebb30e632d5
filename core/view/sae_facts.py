"""What an SAE's config says beyond the catalog: before it is loaded, and once it is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.catalog.entries import SaeEntry
from core.catalog.formats import describe, place_of

if TYPE_CHECKING:  # they bring torch, and the card is drawn before it is there
    from core.lease import Lease
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
    file_format: str | None = None
    """Format of its files, such as "sparsify"; None for sae_lens' own and for published SAEs."""
    scale: str | None = None
    """What its input is multiplied by, and who says so; known once it is loaded."""


def facts_of(entry: SaeEntry) -> SaeFacts:
    """From the SAE's folder; of a published SAE, what the catalog says."""
    if entry.path is None:
        return SaeFacts(architecture=entry.architecture)
    found = describe(place_of(entry.path))
    return SaeFacts(
        architecture=entry.architecture,
        dataset=found.dataset,
        context_size=found.context_size,
        file_format=entry.conversion,
    )


def read_card(lease: "Lease", entry: SaeEntry) -> "SaeCard":
    """What the lease's first SAE, which `entry` lists, says about itself."""
    from core.saes import sae_card

    with lease.turn() as (_, (sae, *_)):
        return sae_card(sae, release=entry.release, sae_id=entry.sae_id, folder=entry.path)


def scale_of(card: "SaeCard") -> str | None:
    """What the SAE's input is multiplied by, as a line of the card; None where by nothing."""
    if card.norm_factor is None:
        return None
    return f"Input scale {card.norm_factor_source}: {card.norm_factor:.3g}"
