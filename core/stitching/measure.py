"""A wide SAE stitched into a narrow one on a text.

found = stitch(PlainLease(model, [narrow, wide]), tokens)
found.deltas.delta, found.novel, found.curve.error
"""

from dataclasses import dataclass

import numpy as np

from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.stitching.curve import STEPS, measure_curve, plan_of
from core.stitching.delta import insertion_deltas
from core.stitching.pair import site_of
from core.stitching.proxy import nearest_rows
from core.stitching.result import Stitching


@dataclass(frozen=True)
class StitchConfig:
    """How much is read, and what counts."""

    min_firings: int = 10
    """Latents that fire at fewer positions are not called novel: too little is known of them."""
    curve_tokens: int = 8192
    """Positions on which the stitched SAE is measured at each step; 0 for no curve."""
    loss_tokens: int = 2048
    """Positions of these on which the model's loss is measured too."""

    def __post_init__(self) -> None:
        if self.min_firings < 1 or self.curve_tokens < 0 or self.loss_tokens < 0:
            raise ValueError(
                f"min_firings {self.min_firings}, curve_tokens {self.curve_tokens} and loss_tokens "
                f"{self.loss_tokens}: use 1 or more, and 0 or more."
            )


def stitch(lease: Lease, tokens: TokenSet, *, config: StitchConfig | None = None) -> Stitching:
    """The lease's second (wide) SAE stitched into its first (narrow) on `tokens`.

    Raises:
        ValueError: SAEs of different sites or of one width, SAEs whose latents do not simply add
            up, a text without two positions, activations that are not finite.
    """
    config = config or StitchConfig()
    with lease.turn() as (_, saes):
        shapes = [tuple(it.W_dec.shape) for it in saes]
        device = str(saes[0].W_dec.device)
    with lease.room(
        # What a unit of each latent writes, twice, and the sums of the text.
        sum(8 * n * d for n, d in shapes) + 8 * 3 * 40 * max(n for n, _ in shapes),
        f"Stitching {' and '.join(f'{n:,}' for n, _ in shapes)} latents",
        remedy="choose narrower SAEs",
        device=device,
    ):
        return _stitched(lease, tokens, config)


def _stitched(lease: Lease, tokens: TokenSet, config: StitchConfig) -> Stitching:
    deltas = insertion_deltas(lease, tokens)
    with lease.turn() as (_, saes):
        site = site_of(saes[0], saes[1])
        cosine, match = nearest_rows(site.wide_rows, site.narrow_rows)
        d_narrow = len(site.narrow_rows)
    del site
    curve = None
    if config.curve_tokens:
        novel = deltas.novel(config.min_firings)
        plan = plan_of(deltas.delta, novel, cosine, match, d_narrow)
        last = 1 + int(np.searchsorted(tokens.mask.sum(1).cumsum(), config.curve_tokens))
        some = tokens.rows(0, min(last, tokens.n_rows))
        curve = measure_curve(lease, some, plan, last_novel=STEPS, loss_tokens=config.loss_tokens)
    return Stitching(deltas, cosine, match, curve, config.min_firings)
