"""A matrix of gradients filled in over several turns, for others to use the model in between."""

import time

import torch

from core.gradients.cost import DEFAULT_MEMORY_BUDGET
from core.gradients.jacobian import Mode, cheaper_mode
from core.gradients.route import Route
from core.jobs.progress import Progress


class Filling:
    """Gradients of a route that is opened anew for every turn; holds on to no model."""

    def __init__(self, route: Route, *, mode: Mode = "auto") -> None:
        """Nothing is computed yet; `mode` is as `Route.gradients` takes it."""
        self.values = torch.zeros(len(route.targets), len(route.sources))
        """What is known so far, [n_to, n_from] in float32 in main memory."""
        auto = cheaper_mode(route.segment, route.sources, route.targets)
        self._mode: Mode = auto if mode == "auto" else mode
        # Rows (columns, where passes go forwards) that no turn has come to.
        n_left = len(route.sources if self._mode == "forward" else route.targets)
        self._left = torch.ones(n_left if self.values.numel() else 0, dtype=torch.bool)

    @property
    def is_full(self) -> bool:
        """Whether all is known."""
        return not bool(self._left.any())

    def go_on(
        self,
        route: Route,
        progress: Progress | None = None,
        *,
        seconds: float,
        memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
    ) -> None:
        """Take a turn of about `seconds`, but of one batch of passes at least.

        `route` is the same as before, opened in the lease of this turn.

        Raises:
            JobCancelled: through `progress`.
        """
        if self.is_full:
            return
        left, total = self._left.nonzero()[:, 0], len(self._left)
        forward = self._mode == "forward"
        chosen = left.to(route.source_values.device)
        rest = route.restrict(sources=chosen) if forward else route.restrict(targets=chosen)
        began = time.monotonic()
        for block in rest.blocks(mode=self._mode, memory_budget_bytes=memory_budget_bytes):
            rows, columns = block.targets.cpu(), block.sources.cpu()
            if forward:
                columns = left[columns]
            else:
                rows = left[rows]
            self.values[rows[:, None], columns] = block.values.cpu().float()
            self._left[columns if forward else rows] = False
            if progress is not None:
                done = total - int(self._left.sum())
                progress.update(done, total, unit="latents", message="Gradients")
            if time.monotonic() - began > seconds:
                return
        # What no block held depends on nothing here.
        self._left[:] = False
