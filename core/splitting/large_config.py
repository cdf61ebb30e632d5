"""From how many latents on is a map made in another way, and how far do its shortcuts go?"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LargeMap:
    """Settings of maps that are too large for the plain way; tests lower them."""

    above: int = 100_000
    """Up to so many latents neighbours are exact and all of them are laid out at once."""
    least_searched: int = 32
    """Neighbours that the approximate search looks for at least; the nearest of them are kept."""
    judged_rows: int = 1000
    """Rows whose neighbours are sought exactly as well, to measure the recall."""
    sample_rows: int = 50_000
    """Latents that are laid out first; the others are placed among their neighbours."""
    epochs: int = 60
    """Epochs of UMAP for all latents, from those places on."""
    alpha: float = 0.5
    """Step size at the first of these epochs; UMAP begins with 1."""
    tried_rows: int = 16_384
    """Rows on which the time is measured beforehand."""

    @property
    def search(self) -> dict[str, Any]:
        """What approximate neighbours depend on."""
        return {"searched": self.least_searched, "judged": self.judged_rows}

    @property
    def parameters(self) -> dict[str, Any]:
        """All that a large map depends on."""
        return asdict(self)


LARGE = LargeMap()
"""What the app uses."""
