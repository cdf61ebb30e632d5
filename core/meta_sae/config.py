"""How a meta-SAE is trained."""

import math
from dataclasses import dataclass

LEAST_ROWS = 20
"""Decoder rows that a meta-SAE needs."""


@dataclass(frozen=True)
class MetaConfig:
    """Settings of one training; the defaults are those of SAEBench's `meta_structure`."""

    share: float = 0.25
    """Meta-latents as a share of the latents."""
    k: int = 4
    """Meta-latents a latent, on average."""
    steps: int = 1500
    """Batches."""
    batch: int = 1024
    """Rows of a batch, drawn with replacement."""
    lr: float = 5e-4
    """Learning rate of Adam."""
    beta2: float = 0.999
    """Second decay of Adam; the first is 0.9."""
    seed: int = 42
    """Of the start and of the batches."""

    def __post_init__(self) -> None:
        if not (0 < self.share <= 4 and self.k >= 1 and self.steps >= 1 and self.batch >= 1):
            raise ValueError(
                f"share {self.share}, k {self.k}, steps {self.steps} and batch {self.batch}: use a "
                "share above 0 and at most 4, and whole numbers from 1."
            )
        if not (0 < self.lr < 1 and 0 < self.beta2 < 1):
            raise ValueError(f"lr {self.lr} and beta2 {self.beta2} must lie between 0 and 1.")

    def width(self, n_rows: int) -> int:
        """Meta-latents for so many latents."""
        return max(self.k, math.ceil(self.share * n_rows))


PRESETS = {
    "saebench": MetaConfig(),
    "paper": MetaConfig(share=2304 / 49152, steps=2000, batch=16_384, lr=1e-3, beta2=0.99),
}
"""SAEBench's `meta_structure`, and the GPT-2 meta-SAE of Bussmann and others (arXiv 2502.04878)."""
