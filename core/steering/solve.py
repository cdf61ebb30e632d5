"""The factor at which something that grows with it reaches a value: bisection, many at a time."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

TOLERANCE = 0.02
"""How far what is reached may be from what was asked for, relative."""
_LARGEST = 2.0**30
_STEPS = 60


def solve_factors(
    measure: Callable[[Int[Tensor, " m"], Float[Tensor, " m"]], Float[Tensor, " m"]],
    wanted: Float[Tensor, " n"],
    start: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Factors above 0 at which `measure(rows, factors)` is `wanted[rows]`, to within 2 %.

    All rows are measured together, those that are done left out. A bracket around each factor is
    found from `start` and halved, or cut where a straight line in logarithms crosses the value:
    divergences grow about with the square of a strength. NaN where no factor reaches the value.
    """
    wanted, tried = wanted.double(), start.double().clone()
    low, high = torch.zeros_like(tried), torch.full_like(tried, torch.inf)
    low_value, high_value = torch.zeros_like(tried), torch.full_like(tried, torch.inf)
    found = torch.full_like(tried, torch.nan)
    rows = torch.arange(len(tried))
    for _ in range(_STEPS):
        if len(rows) == 0:
            break
        factor = tried[rows]
        value = measure(rows, factor).double().cpu()
        done = (value / wanted[rows] - 1).abs() <= TOLERANCE
        found[rows[done]] = factor[done]
        below = value < wanted[rows]
        low[rows[below]], low_value[rows[below]] = factor[below], value[below]
        above = ~below  # what is not a number counts as too far
        high[rows[above]], high_value[rows[above]] = factor[above], value[above]
        tried[rows] = _next(
            low[rows], low_value[rows], high[rows], high_value[rows], wanted[rows], factor
        )
        closed = (high[rows] - low[rows]) < 1e-7 * high[rows]
        rows = rows[~done & ~closed & (tried[rows] <= _LARGEST)]
    return found


def _next(
    low: Tensor, low_value: Tensor, high: Tensor, high_value: Tensor, wanted: Tensor, last: Tensor
) -> Tensor:
    by_square = (wanted / low_value.clamp_min(1e-12)).sqrt()
    up = torch.where(low > 0, low, last) * (1.2 * by_square).clamp(2, 16)
    down = high * (0.8 * (wanted / high_value).sqrt()).nan_to_num(0.0).clamp(1 / 16, 0.5)
    slope = (high_value / low_value).log() / (high / low).log()
    crossing = low * (wanted / low_value) ** (1 / slope)
    middle = (low + high) / 2
    margin = 0.05 * (high - low)
    within = torch.maximum(torch.minimum(crossing, high - margin), low + margin)
    within = torch.where(within.isfinite(), within, middle)
    bracketed = torch.where(low > 0, within, down)
    return torch.where(high.isinf(), up, bracketed)
