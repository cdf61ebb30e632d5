"""Two SAEs that can be stitched together, and what both make of a text."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.activations.coded import Coded, coded
from core.corpus.token_set import TokenSet
from core.models.hooks import Model
from core.sae_quality.measure import positions_of
from core.saes import decode, head_of, sae_hook_name
from core.saes.writes import input_scale, unit_writes, written_site


@dataclass(frozen=True, eq=False)
class Site:
    """What a pair reads and writes, and what a unit of each latent adds."""

    hook: str
    """Site that both read."""
    out: str
    """Site that both write."""
    narrow_rows: Float[Tensor, "d_narrow d_out"]
    """What a unit of each latent of the narrow SAE writes."""
    wide_rows: Float[Tensor, "d_wide d_out"]
    """The same of the wide one."""
    narrow_bias: Float[Tensor, " d_out"]
    """What the narrow SAE writes without any latent."""
    wide_bias: Float[Tensor, " d_out"]
    """The same of the wide one."""


@dataclass(frozen=True, eq=False)
class Both:
    """Some positions through both SAEs."""

    wanted: Float[Tensor, "n d_out"]
    """What they are to write."""
    narrow: Coded
    """What the narrow SAE makes of them."""
    wide: Coded
    """What the wide SAE makes of them."""
    row: np.ndarray
    """Row of the text that each position is of."""


@torch.no_grad()
def site_of(narrow: SAE, wide: SAE) -> Site:
    """Where a pair works.

    Raises:
        ValueError: SAEs of different sites, heads or widths of activations, the same width, or SAEs
            whose latents do not simply add up.
    """
    sites = [(sae_hook_name(it), written_site(it), head_of(it)) for it in (narrow, wide)]
    if sites[0] != sites[1] or narrow.W_dec.shape[1] != wide.W_dec.shape[1]:
        raise ValueError(
            f"One SAE is of {sites[0][1]} ({narrow.W_dec.shape[1]} numbers) and the other of "
            f"{sites[1][1]} ({wide.W_dec.shape[1]}); stitch two SAEs of one site."
        )
    if narrow.cfg.d_sae >= wide.cfg.d_sae:
        raise ValueError(
            f"The narrow SAE has {narrow.cfg.d_sae:,} latents and the wide one "
            f"{wide.cfg.d_sae:,}; choose two widths, the narrower one first."
        )
    for sae in (narrow, wide):
        if input_scale(sae) is not None:
            raise ValueError(
                "One of these SAEs multiplies what its latents write by a measure of each input "
                f"({sae.cfg.normalize_activations}), so its latents cannot be moved into another "
                "SAE; choose SAEs without that."
            )
        if isinstance(getattr(sae, "W_skip", None), Tensor):
            raise ValueError(
                "A transcoder with a skip connection cannot be stitched, for what its latents add "
                "is what the connection leaves; choose transcoders without."
            )
    rows = [unit_writes(it, range(it.cfg.d_sae)) for it in (narrow, wide)]
    return Site(*sites[0][:2], *rows, *(_bias(it) for it in (narrow, wide)))


def both_at(
    model: Model, narrow: SAE, wide: SAE, tokens: TokenSet, rows: slice, site: Site
) -> Both:
    """Both SAEs at the positions of some rows that count."""
    x, y, row, _ = positions_of(model, narrow, tokens, rows, site.hook, site.out)
    return Both(y, coded(narrow, x), coded(wide, x.to(wide.W_dec.device)), row)


def _bias(sae: SAE) -> Tensor:
    nothing = sae.W_dec.new_zeros(1, sae.cfg.d_sae)
    return decode(sae, nothing, d_head=int(sae.W_dec.shape[1])).flatten(1)[0]
