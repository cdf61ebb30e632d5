"""Does a latent do more to the model than a random direction of the same norm does?

No fixed threshold can tell: how much of a direction arrives, and how decided the model is, differs
between models, layers and prompts. Random directions, measured alike, give the scale.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from core.patch_scoping.diagnostics import Diagnostics

Words = str | int
"""What names a direction in the tables: a latent's number, or a control's name."""
LEVEL = 0.05
"""Probability with which a random direction may be taken for a latent."""
DEFAULT_CONTROLS = 40
"""Random directions: enough for two measures at `LEVEL`."""


@dataclass(frozen=True)
class Standing:
    """One latent against the random directions."""

    rise: float
    """Largest self-similarity over the scales, less that with nothing injected."""
    control_rise: float
    """Mean of the same over the random directions."""
    rise_p: float
    """Share of directions, this latent counted in, that rise as high."""
    entropy: float
    """Lowest next-token entropy over the scales, in nats."""
    control_entropy: float
    """Mean of the same over the random directions."""
    entropy_p: float
    """Share of directions, this latent counted in, with an entropy as low."""
    verdict: Literal["stands out", "unexplainable"]
    """"unexplainable" when random directions do as well on both measures."""

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        figures = (
            f"self-similarity rises by {self.rise:.3f} (random directions: "
            f"{self.control_rise:.3f}, p {self.rise_p:.2f}), next-token entropy falls to "
            f"{self.entropy:.2f} nats ({self.control_entropy:.2f}, p {self.entropy_p:.2f})"
        )
        if self.verdict == "stands out":
            return f"The latent stands out: {figures}."
        return f"Unexplainable here, whatever the text says: {figures}."


def standing(
    latents: Diagnostics, controls: Diagnostics, *, level: float = LEVEL
) -> list[Standing]:
    """Compare each direction of `latents` with all of `controls`, measured at the same scales.

    A latent stands out when one of the two measures is rarer than level/2 among random
    directions, so that a random direction passes with a probability of at most `level`.

    Raises:
        ValueError: other scales, or too few controls for `level`.
    """
    if not np.array_equal(latents.scales, controls.scales):
        raise ValueError("Latents and controls were measured at different scales; use the same.")
    n = len(controls.resting)
    if n < fewest_controls(level):
        raise ValueError(
            f"{n} controls cannot reach level {level}; use {fewest_controls(level)} or more."
        )
    rises, other_rises = (_rises(found) for found in (latents, controls))
    lows, other_lows = (found.entropy.min(1) for found in (latents, controls))
    found = []
    for rise, low in zip(rises, lows, strict=True):
        rise_p = (1 + int((other_rises >= rise).sum())) / (n + 1)
        entropy_p = (1 + int((other_lows <= low).sum())) / (n + 1)
        found.append(
            Standing(
                rise=float(rise),
                control_rise=float(other_rises.mean()),
                rise_p=rise_p,
                entropy=float(low),
                control_entropy=float(other_lows.mean()),
                entropy_p=entropy_p,
                verdict="stands out" if min(rise_p, entropy_p) <= level / 2 else "unexplainable",
            )
        )
    return found


def standings_of(
    table: pd.DataFrame, controls: Diagnostics, *, level: float = LEVEL
) -> dict[Words, Standing]:
    """The standing of each latent of a sweep's table that holds one prompt and one layer.

    Raises ValueError as `standing`, and for a table in which the latents' scales differ.
    """
    first = table[table["sample"] == 0]
    names = list(first["latent"].unique())
    scales = first["scale"].to_numpy(float).reshape(len(names), -1)
    if not (scales == scales[0]).all():
        raise ValueError("The latents were swept at different scales; sweep them alike.")

    def measured(name: str) -> Float[np.ndarray, "n m"]:
        return first[name].to_numpy(float).reshape(len(names), -1)

    found = Diagnostics(
        scales=scales[0],
        self_similarity=measured("self_similarity"),
        resting=measured("resting")[:, 0],
        entropy=measured("entropy"),
        cross_entropy=measured("cross_entropy"),
    )
    return dict(zip(names, standing(found, controls, level=level), strict=True))


def fewest_controls(level: float = LEVEL) -> int:
    """How many random directions the level takes: the smallest p is 1/(n + 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; use a probability between 0 and 1.")
    return int(np.ceil(2 / level - 1e-9)) - 1


def _rises(found: Diagnostics) -> Float[np.ndarray, " n"]:
    return found.self_similarity.max(1) - found.resting
