"""Jacobian between rows written at one site and rows read at another, by batched passes.

The matrix sought is `E · ∂y/∂x · D`: D holds what each source adds to one position of the first
site, E what each target reads at one position of the second. Backwards, a batch of targets is
pulled through one recorded run of the prompt: by hand where the blocks' derivatives are known
(`core.gradients.linearise`), else by `vmap` over autograd's backward pass. Forwards, a batch of
sources is pushed along with the run. Either way nothing is ever as large as `[batch of passes,
pos, d_sae]`. As attention is causal, the prompt is cut after the last position that matters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.gradients.linearise import linearise, parts_passed
from core.gradients.segment import Segment, device_of
from core.jobs.progress import Progress

Mode = Literal["auto", "forward", "reverse"]

DEFAULT_MEMORY_BUDGET = 1 << 30
"""Bytes that batched passes may take beyond the model and the result."""

_MOST_PASSES = 256
_WORK_AT_ONCE = {"cpu": 4e10, "mps": 4e11, "cuda": 8e12}
"""FLOP between two looks at whether to stop: below a second on a slow machine of the kind."""
_LINEARISED = 0.5
"""Work of a pass back through a linearised segment, as a share of a pass by autograd."""


@dataclass(frozen=True)
class Entries:
    """One axis of a Jacobian: where each entry is, and what it writes or reads there."""

    items: Int[Tensor, " n"]
    """Which prompt of the batch."""
    positions: Int[Tensor, " n"]
    """Position in it."""
    rows: Float[Tensor, "n d"]
    """What the source adds there per unit, or the target's derivative there; heads flattened."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.items)

    def __getitem__(self, chosen: Tensor | slice) -> "Entries":
        """Only these entries."""
        return Entries(self.items[chosen], self.positions[chosen], self.rows[chosen])


def jacobian(
    segment: Segment,
    base: Float[Tensor, "batch pos ..."],
    sources: Entries,
    targets: Entries,
    *,
    mode: Mode = "auto",
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
    progress: Progress | None = None,
) -> Float[Tensor, "n_targets n_sources"]:
    """Derivatives at `base`, the activations of the segment's source site.

    `mode` is "reverse" (a pass a target), "forward" (a pass a source) or, by "auto", whichever
    is less work. The result does not depend on it, nor on the budget, beyond rounding.

    Raises:
        ValueError: an unknown mode, or a budget that is not positive.
        JobCancelled: the progress was cancelled; looked at between passes.
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f"Unknown mode {mode!r}; use 'auto', 'forward' or 'reverse'.")
    # Under the caller's inference_mode, tensors could not be differentiated.
    with torch.inference_mode(False):
        result = targets.rows.new_zeros(len(targets), len(sources))
        done = 0
        for block in jacobian_blocks(
            segment, base, sources, targets, mode=mode, memory_budget_bytes=memory_budget_bytes
        ):
            result[block.targets[:, None], block.sources] = block.values.to(result)
            done += block.passes
            if progress is not None:
                progress.update(done, block.total, unit="passes", message="Gradients")
    return result


@dataclass(frozen=True)
class Block:
    """Derivatives that one batch of passes found; all that no block holds are zero."""

    targets: Int[Tensor, " m"]
    """Numbers of its rows."""
    sources: Int[Tensor, " n"]
    """Numbers of its columns."""
    values: Float[Tensor, "m n"]
    """The derivatives."""
    passes: int
    """Passes it took."""
    total: int
    """Passes that all blocks take together."""


def jacobian_blocks(
    segment: Segment,
    base: Float[Tensor, "batch pos ..."],
    sources: Entries,
    targets: Entries,
    *,
    mode: Mode = "auto",
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
) -> Iterator[Block]:
    """What `jacobian` is put together from, a batch of passes at a time.

    In "reverse" mode blocks are whole rows of one prompt, in "forward" mode whole columns.
    """
    with torch.inference_mode(False):
        plans = [
            _Plan(segment, base, item, sources, targets, mode, memory_budget_bytes)
            for item in range(base.shape[0])
        ]
    total = sum(plan.passes for plan in plans)
    for plan in plans:
        # Entered anew for each block: what waits for the next must not hold on to the mode.
        blocks = plan.blocks()
        while True:
            with torch.inference_mode(False):
                part = next(blocks, None)
            if part is None:
                break
            to, source, values = part
            passes = len(source) if plan.forward else len(to)
            yield Block(to, source, values, passes, total)


def cheaper_mode(segment: Segment, sources: Entries, targets: Entries) -> Mode:
    """Whether a pass a source ("forward") or a pass a target ("reverse") is less work.

    For prompts that differ in this, the choice of the batch as a whole.
    """
    cuts = (targets.positions + 1 if segment.is_causal else targets.positions * 0 + 1).tolist()
    if not len(sources) or not cuts:
        return "reverse"
    share = 1.0 if parts_passed(segment) is None else _LINEARISED
    reverse = share * sum(work(segment, cut) for cut in cuts)
    return "forward" if len(sources) * work(segment, max(cuts)) < reverse else "reverse"


class _Plan:
    """The Jacobian of one prompt of the batch, of which no other prompt knows."""

    def __init__(
        self,
        segment: Segment,
        base: Tensor,
        item: int,
        sources: Entries,
        targets: Entries,
        mode: Mode,
        budget: int,
    ) -> None:
        self._segment, self._budget = segment, budget
        # In order of position: a stable sort keeps equal ones as they came.
        self._from = _of_item(sources, item)
        self._to = _of_item(targets, item)
        self._sources, self._targets = sources[self._from], targets[self._to]
        self._item = torch.tensor([item], device=base.device)
        self._pos = base.shape[1]
        self._base = base[item : item + 1]
        if len(self._from) and len(self._to) and segment.is_causal:
            first, last = self._sources.positions[0], self._targets.positions[-1]
            reached = self._targets.positions >= first
            self._to, self._targets = self._to[reached], self._targets[reached]
            seen = self._sources.positions <= last
            self._from, self._sources = self._from[seen], self._sources[seen]
        if mode == "auto":
            mode = cheaper_mode(segment, self._sources, self._targets)
        self.forward = mode == "forward"
        self.passes = 0
        if len(self._from) and len(self._to):
            self.passes = len(self._from) if self.forward else len(self._to)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows, columns and values of this prompt's part, a batch of passes at a time."""
        if self.passes:
            yield from self._forwards() if self.forward else self._backwards()

    def _backwards(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        positions = self._targets.positions
        stop = len(positions)
        longest = self._cut(int(positions[-1]))
        known = linearise(self._segment, self._base[:, :longest], self._item)
        while stop > 0:
            # From the last position: its passes are the longest, so estimates start cautious.
            cut = self._cut(int(positions[stop - 1]))
            start = max(0, stop - passes_at_once(self._segment, cut, self._budget))
            chunk = self._targets[start:stop]
            grads = (
                self._pulled(chunk, cut)
                if known is None
                else known(chunk.rows.to(self._base), chunk.positions)
            )
            yield self._to[start:stop], self._from, _contract(grads, self._sources)
            stop = start

    def _pulled(self, chunk: Entries, cut: int) -> Float[Tensor, "passes cut d"]:
        """What autograd says that the rows of these targets depend on."""
        x = self._base[:, :cut].detach()
        with torch.enable_grad():
            recorded = torch.func.vjp(lambda source: self._segment.run(source, self._item), x)
        y, pull = recorded[0], recorded[1]
        number = torch.arange(len(chunk), device=y.device)
        rows = torch.zeros((len(chunk), *y.shape), dtype=y.dtype, device=y.device).flatten(3)
        rows[number, 0, chunk.positions] = chunk.rows.to(y)
        (grads,) = torch.func.vmap(pull)(rows.view(-1, *y.shape))
        return grads[:, 0].flatten(2)

    def _forwards(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        cut = self._cut(int(self._targets.positions[-1]))
        x = self._base[:, :cut].detach()
        at_once = passes_at_once(self._segment, cut, self._budget)

        def push(tangent: Tensor) -> Tensor:
            return torch.func.jvp(
                lambda source: self._segment.run(source, self._item), (x,), (tangent,)
            )[1]

        for start in range(0, len(self._from), at_once):
            chunk = slice(start, start + at_once)
            rows, positions = self._sources.rows[chunk], self._sources.positions[chunk]
            tangents = torch.zeros((len(rows), *x.shape), dtype=x.dtype, device=x.device).flatten(3)
            tangents[torch.arange(len(rows), device=x.device), 0, positions] = rows.to(x)
            with torch.no_grad():
                moved = torch.func.vmap(push)(tangents.view(-1, *x.shape))
            part = _contract(moved[:, 0].flatten(2), self._targets)
            yield self._to, self._from[chunk], part.T

    def _cut(self, position: int) -> int:
        return position + 1 if self._segment.is_causal else self._pos


def _of_item(entries: Entries, item: int) -> Int[Tensor, " m"]:
    """Numbers of the entries of one prompt, by position."""
    numbers = (entries.items == item).nonzero()[:, 0]
    return numbers[entries.positions[numbers].argsort(stable=True)]


def _contract(moved: Float[Tensor, "passes cut d"], entries: Entries) -> Float[Tensor, "passes n"]:
    """Inner product of what each pass has at an entry's position with the entry's row."""
    moved = moved.to(entries.rows)
    product = moved.new_zeros(len(moved), len(entries))
    positions, counts = entries.positions.unique_consecutive(return_counts=True)
    start = 0
    for position, count in zip(positions.tolist(), counts.tolist(), strict=True):
        if position < moved.shape[1]:
            part = slice(start, start + count)
            product[:, part] = moved[:, position] @ entries.rows[part].T
        start += count
    return product


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
