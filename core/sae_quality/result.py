"""What was measured of one SAE."""

from dataclasses import dataclass

from core.sae_quality.geometry import Geometry
from core.sae_quality.loss import LossFigures
from core.sae_quality.text_figures import TextFigures


@dataclass(frozen=True, eq=False)
class Quality:
    """One SAE on one text."""

    hook_name: str
    """Site that it reads."""
    hook_out: str
    """Site that it writes: another for a transcoder."""
    d_sae: int
    """Number of latents."""
    text: TextFigures
    """L0, variance explained, firing rates."""
    random_explained: float
    """Variance that as many random directions explain, as many of them active."""
    random_tokens: int
    """Positions that this null rests on."""
    loss: LossFigures | None
    """What the model loses; None where that was not asked for, or nothing was predicted."""
    geometry: Geometry
    """What the weights look like."""
