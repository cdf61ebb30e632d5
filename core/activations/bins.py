"""Bins of activations: log-spaced ones for display, cells of equal width for the bands."""

import numpy as np
from jaxtyping import Float, Int

from core.activations.config import CELLS

BINS_PER_OCTAVE = 4
FIRST_OCTAVE, LAST_OCTAVE = -12, 16
N_BINS = BINS_PER_OCTAVE * (LAST_OCTAVE - FIRST_OCTAVE)
"""Bins of the log-spaced histogram: a quarter octave each, from 2**-12 to 2**16; ends are open."""


def exponent(value: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """e with 2**e <= value < 2**(e + 1), for positive finite values."""
    return np.frexp(value)[1].astype(np.int64) - 1


def cell_width(peak: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Width (a power of 2) of the cells of latents whose largest activation is `peak`; 1 for 0."""
    safe = np.where(peak > 0, peak, np.float32(1))
    return np.ldexp(1.0, exponent(safe) + 1) / CELLS


def log_bin(value: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Bin of the log-spaced histogram: a quarter of its octave, told by the float's own bits."""
    bits = np.ascontiguousarray(value, dtype=np.float32).view(np.uint32)
    quarter = (bits >> np.uint32(21)).astype(np.int64) - BINS_PER_OCTAVE * (127 + FIRST_OCTAVE)
    return quarter.clip(0, N_BINS - 1)


def bin_edges() -> Float[np.ndarray, " n_bins_plus_1"]:
    """Edges of the log-spaced histogram: 2**e · (1, 1.25, 1.5, 1.75)."""
    octave, quarter = np.divmod(np.arange(N_BINS + 1), BINS_PER_OCTAVE)
    return np.ldexp(1 + quarter / BINS_PER_OCTAVE, octave + FIRST_OCTAVE)
