"""What an index of activations keeps."""

from dataclasses import dataclass

CELLS = 32
"""Cells of equal width over [0, 2·2^e), where 2^e <= a latent's largest activation < 2·2^e."""


@dataclass(frozen=True)
class IndexConfig:
    """What is kept of every latent. Each field changes the result, and so the store's key."""

    n_top: int = 20
    """Strongest examples."""
    n_quantiles: int = 10
    """Bands of equal width that a latent's activation range is cut into; at most 16."""
    per_quantile: int = 5
    """Random examples of each band."""
    buffer: int = 10
    """Tokens on either side of an example whose activations are kept with it."""
    one_per_row: bool = True
    """Whether the strongest examples are of different rows, one peak each, as on public dashboards.

    Otherwise every firing position competes. Examples of bands are drawn from all positions.
    """
    n_partners: int = 10
    """Latents that fire together with it most (by Jaccard index)."""
    cofiring_tokens: int = 50_000
    """Positions of the random sample of rows in which firing together is counted."""
    cofiring_pairs: int = 200_000_000
    """Pairs of active latents after which that sample ends early (always-on latents)."""
    seed: int = 0
    """Which examples and rows are drawn at random."""

    def __post_init__(self) -> None:
        for name, least in (
            ("n_top", 1),
            ("n_quantiles", 1),
            ("per_quantile", 1),
            ("buffer", 0),
            ("n_partners", 0),
            ("cofiring_tokens", 0),
            ("cofiring_pairs", 0),
        ):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} is {value}; use {least} or more.")
        # With more, a band could lie between two cells.
        if self.n_quantiles > CELLS // 2:
            raise ValueError(f"n_quantiles is {self.n_quantiles}; use at most {CELLS // 2}.")

    @property
    def window(self) -> int:
        """Positions of an example's window."""
        return 2 * self.buffer + 1
