"""Does the gradient predict what really happens? Sources are changed and the model is run.

A gradient speaks of small changes. Each source is therefore changed twice, by a small step and by
taking it away altogether (ablation), in the same setting in which the gradient was taken: the rest
of the reconstruction stays. What the targets then come to is read with their thresholds, so a
target that dies counts as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.gradients.jacobian import DEFAULT_MEMORY_BUDGET, passes_at_once
from core.gradients.route import Route
from core.jobs.progress import Progress

Cell = tuple[int, int]
"""Number of a target (row) and of a source (column)."""


@dataclass(frozen=True)
class Agreement:
    """Predicted against actual changes."""

    correlation: float
    """Pearson's, over the cells; NaN for fewer than two, or where nothing varies."""
    correlation_alive: float
    """The same over the cells whose target stays active: no gradient foresees a threshold."""
    n_died: int
    """Targets that the change switched off."""
    same_sign: float
    """Share of cells in which both have the same sign (or are both zero)."""
    median_error: float
    """Median of |actual - predicted| over the larger of the two; 0 is perfect, 2 the worst."""


@dataclass(frozen=True)
class Verification:
    """How far the linear story of some cells holds."""

    cells: pd.DataFrame
    """A row a cell: batch, {from,to}_position, {from,to}_index (latent or token), {from,to}_value,
    gradient, step, {predicted,actual}_{step,ablation}, died_{step,ablation} (of the target)."""
    step: Agreement
    """For the small step."""
    ablation: Agreement
    """For taking the source away."""

    @classmethod
    def of(cls, cells: pd.DataFrame) -> "Verification":
        """Of the rows that `changes` gave, together or in parts."""
        return cls(cells, step=_agreement(cells, "step"), ablation=_agreement(cells, "ablation"))

    @property
    def verdict(self) -> str:
        """How far the linear story holds, in two sentences."""
        step, ablation = self.step, self.ablation
        return (
            f"A small step: gradients predict {len(self.cells)} changes {_word(step)} (correlation "
            f"{step.correlation:.3f}{_dead(step)}, {step.same_sign:.0%} with the right sign). "
            f"Ablation: {_word(ablation)} (correlation {ablation.correlation:.3f}"
            f"{_dead(ablation)}, typical error {ablation.median_error:.0%})."
        )


def strongest_cells(gradients: Float[np.ndarray, "n_to n_from"], n: int = 20) -> list[Cell]:
    """The `n` cells with the largest absolute value, strongest first, zeros left out."""
    size = np.abs(gradients).ravel()
    order = np.argsort(-size, kind="stable")[:n]
    return [divmod(int(cell), gradients.shape[1]) for cell in order if size[cell] > 0]


def changes(
    route: Route,
    gradients: Float[Tensor, "n_to n_from"],
    cells: Sequence[Cell],
    *,
    step_fraction: float = 0.02,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """What each cell's gradient predicts, and what comes of an intervention: a row a cell.

    `gradients` is what `route.gradients()` gave (not attributions). The small step is
    `step_fraction` of the source's activation. Columns are those of `Verification.cells`.

    Raises:
        ValueError: no cells, cells or gradients that do not belong to the route, or a step of 0.
    """
    if tuple(gradients.shape) != (len(route.targets), len(route.sources)):
        raise ValueError(
            f"Gradients of shape {list(gradients.shape)} do not belong to a route with "
            f"{len(route.targets)} targets and {len(route.sources)} sources."
        )
    if not cells:
        raise ValueError("There are no cells to verify; choose at least one.")
    if step_fraction == 0:
        raise ValueError("A step of 0 changes nothing; choose a small fraction, such as 0.02.")
    targets, sources = torch.tensor(list(cells), device=gradients.device).unbind(-1)
    if int(targets.max()) >= len(route.targets) or int(sources.max()) >= len(route.sources):
        raise ValueError("A cell lies outside the gradients; cells are (target, source) numbers.")
    values = route.source_values[sources]
    slope = gradients[targets, sources].to(values)
    step = step_fraction * values
    before, after = intervene(
        route,
        torch.cat([sources, sources]),
        torch.cat([targets, targets]),
        torch.cat([step, -values]),
        memory_budget_bytes=memory_budget_bytes,
        progress=progress,
    )
    actual_step, actual_ablation = (after - before).to(values).chunk(2)
    died_step, died_ablation = ((before > 0) & (after == 0)).chunk(2)
    columns = {
        "batch": route.source_indices[sources, 0],
        "from_position": route.source_indices[sources, 1],
        "from_index": route.source_indices[sources, 2],
        "from_value": values,
        "to_position": route.target_indices[targets, 1],
        "to_index": route.target_indices[targets, 2],
        "to_value": route.target_values[targets],
        "gradient": slope,
        "step": step,
        "predicted_step": slope * step,
        "actual_step": actual_step,
        "predicted_ablation": -slope * values,
        "actual_ablation": actual_ablation,
        "died_step": died_step,
        "died_ablation": died_ablation,
    }
    return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})


@torch.no_grad()
def intervene(
    route: Route,
    sources: Int[Tensor, " m"],
    targets: Int[Tensor, " m"],
    deltas: Float[Tensor, " m"],
    *,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
    progress: Progress | None = None,
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Each target's value without, and with `deltas[i]` added to source `sources[i]` alone.

    A pair in two different prompts of the batch knows nothing of each other.
    """
    before = torch.zeros(len(sources), dtype=route.target_values.dtype, device=deltas.device)
    after = before.clone()
    order = torch.arange(len(sources), device=sources.device)
    items, positions = route.targets.items[targets], route.targets.positions[targets]
    done = 0
    for item in items.unique().tolist():
        pending = order[items == item]
        cut = int(positions[pending].max()) + 1 if route.segment.is_causal else route.base.shape[1]
        # One of the copies stays as it is, so that both values come from one run.
        at_once = max(1, passes_at_once(route.segment, cut, memory_budget_bytes) - 1)
        for chunk in pending.split(at_once):
            copies = route.base[[item] * (len(chunk) + 1), :cut]
            _add(route, copies, chunk, sources[chunk], deltas[chunk], item)
            reached = route.segment.run(copies, items.new_full((len(copies),), item))
            number = torch.arange(len(chunk), device=reached.device)
            ids = route.target_indices[targets[chunk], 2]
            before[chunk] = route.read(reached[-1, positions[chunk]], ids).to(before)
            after[chunk] = route.read(reached[number, positions[chunk]], ids).to(after)
            done += len(chunk)
            if progress is not None:
                progress.update(done, len(sources), unit="interventions", message="Verifying")
    return before, after


def _add(
    route: Route, copies: Tensor, chunk: Tensor, sources: Tensor, deltas: Tensor, item: int
) -> None:
    """Add to copy i what its source writes, wherever the source is within reach."""
    at = route.sources.positions[sources]
    inside = (route.sources.items[sources] == item) & (at < copies.shape[1])
    number = torch.arange(len(chunk), device=copies.device)[inside]
    rows = route.sources.rows[sources[inside]] * deltas[inside, None].to(route.sources.rows)
    copies[number, at[inside]] += rows.reshape(-1, *copies.shape[2:]).to(copies)


def _agreement(cells: pd.DataFrame, change: str) -> Agreement:
    p, a = (cells[f"{side}_{change}"].to_numpy(np.float64) for side in ("predicted", "actual"))
    died = cells[f"died_{change}"].to_numpy()
    larger = np.maximum(np.abs(p), np.abs(a))
    error = np.divide(np.abs(a - p), larger, out=np.zeros_like(p), where=larger > 0)
    return Agreement(
        correlation=_correlation(p, a),
        correlation_alive=_correlation(p[~died], a[~died]),
        n_died=int(died.sum()),
        same_sign=float((np.sign(p) == np.sign(a)).mean()),
        median_error=float(np.median(error)),
    )


def _correlation(p: np.ndarray, a: np.ndarray) -> float:
    varies = len(p) > 1 and p.std() > 0 and a.std() > 0
    return float(np.corrcoef(p, a)[0, 1]) if varies else float("nan")


def _word(found: Agreement) -> str:
    """How good that is; a correlation that cannot be told counts for nothing."""
    correlation = 1.0 if np.isnan(found.correlation) else found.correlation
    if found.median_error < 0.1 and found.same_sign > 0.95 and correlation > 0.95:
        return "closely"
    if found.median_error < 0.35 and found.same_sign > 0.8 and correlation > 0.6:
        return "roughly"
    return "only in part" if found.same_sign > 0.6 else "badly"


def _dead(found: Agreement) -> str:
    if not found.n_died:
        return ""
    rest = "" if np.isnan(found.correlation_alive) else f"; {found.correlation_alive:.3f} without"
    targets = "1 target that falls" if found.n_died == 1 else f"{found.n_died} that fall"
    return f"{rest} {targets} silent" if rest else f"; {targets} silent"
