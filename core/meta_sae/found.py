"""What the page shows of one SAE's decompositions."""

from dataclasses import dataclass

from core.meta_sae.measure import Decompositions


@dataclass(frozen=True, eq=False)
class MetaFound:
    """Decompositions, and how their meta-latents read."""

    made: Decompositions
    """Of the SAE's decoder rows."""
    tokens: tuple[str, ...]
    """The tokens that each meta-latent boosts most, as one text; empty where not known."""
    latent_tokens: tuple[str, ...]
    """The same of each of the SAE's latents."""
    fingerprint: str
    """Of the SAE's weights: descriptions of the user are kept under it."""
    no_tokens: str
    """Why they are not known; empty where they are."""
