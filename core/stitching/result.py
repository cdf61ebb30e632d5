"""What was found of a pair of SAEs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from core.stitching.curve import Curve
from core.stitching.delta import Deltas


@dataclass(frozen=True, eq=False)
class Stitching:
    """One pair on one text."""

    deltas: Deltas
    """What each latent of the wide SAE would do to the narrow one."""
    cosine: Float[np.ndarray, " d_wide"]
    """Highest cosine of each one's row with a row of the narrow SAE."""
    match: Int[np.ndarray, " d_wide"]
    """Which row that is; -1 for rows of zeros."""
    curve: Curve | None
    """From narrow to wide; None where it was not asked for."""
    min_firings: int
    """Firings below which nothing is said of a latent."""

    @property
    def told(self) -> Bool[np.ndarray, " d_wide"]:
        """Latents that fired often enough to be told."""
        return self.deltas.firings >= self.min_firings

    @property
    def novel(self) -> Bool[np.ndarray, " d_wide"]:
        """Latents that lower the narrow SAE's error."""
        return self.deltas.novel(self.min_firings)
