"""What a pass through a segment costs, roughly: how many to run at a time."""

from core.gradients.segment import Segment, device_of

DEFAULT_MEMORY_BUDGET = 1 << 30
"""Bytes that batched passes may take beyond the model and the result."""

_MOST_PASSES = 256
_WORK_AT_ONCE = {"cpu": 4e10, "mps": 4e11, "cuda": 8e12}
"""FLOP between two looks at whether to stop: below a second on a slow machine of the kind."""


def passes_at_once(segment: Segment, cut: int, memory_budget_bytes: int) -> int:
    """Passes over `cut` positions that fit into the budget and into about half a second.

    Raises:
        ValueError: a budget that is not positive.
    """
    if memory_budget_bytes <= 0:
        raise ValueError(f"The memory budget is {memory_budget_bytes} bytes; give more than 0.")
    by_time = _WORK_AT_ONCE.get(device_of(segment.model).type, 4e10) / work(segment, cut)
    by_memory = memory_budget_bytes / memory(segment, cut)
    return max(1, min(_MOST_PASSES, int(by_time), int(by_memory)))


def work(segment: Segment, cut: int) -> float:
    """FLOP of one pass over `cut` positions."""
    d_model, heads, d_mlp = _widths(segment)
    layer = 2 * d_model * (4 * heads + 3 * d_mlp) * cut + 4 * heads * cut**2
    return float(max(1, len(segment.layers)) * layer)


def memory(segment: Segment, cut: int) -> float:
    """Bytes that one pass over `cut` positions holds at its peak."""
    d_model, heads, d_mlp = _widths(segment)
    numbers = cut * (6 * max(d_mlp, heads) + 10 * d_model)
    numbers += 5 * segment.model.cfg.n_heads * cut**2
    return float(numbers * next(segment.model.parameters()).element_size())


def _widths(segment: Segment) -> tuple[int, int, int]:
    """d_model, width of all heads together, d_mlp."""
    cfg = segment.model.cfg
    d_mlp = getattr(cfg, "d_mlp", None) or 4 * cfg.d_model
    return int(cfg.d_model), int(cfg.n_heads * cfg.d_head), int(d_mlp)
