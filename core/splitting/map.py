"""Where does each latent of several SAEs lie on one map, and which of them lie together?

Neighbours, coordinates and clusters are kept in the store one by one, each under only what it
depends on: another `min_cluster_size` fits no layout again, and clusters added to a map that was
drawn before leave its points where they were. Of very many latents a sample is laid out first
(`core.splitting.large_map`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool

from core.jobs.progress import Progress
from core.splitting.fits import Fit, run_here
from core.splitting.large_config import LARGE, LargeMap
from core.splitting.large_map import LargeWork
from core.splitting.large_time import TimeTold
from core.splitting.map_config import MapConfig
from core.splitting.map_work import ClusterGeometry, Work
from core.splitting.neighbors import Neighbors, neighbors_of
from core.splitting.rows import DecoderRows, LabelledSae, decoder_rows
from core.store.memory import Memory, ResultStore

FEWEST_LATENTS = 3
"""A latent, itself counted, has two neighbours at least, and one more latent is left over."""


@dataclass(frozen=True)
class SplittingMap:
    """A map: one row a latent in `points`, in the order of the SAEs and of their latents."""

    points: pd.DataFrame
    """`sae`, `sae_width`, `latent_idx`, `umap_x`, `umap_y`, and `cluster` (-1: noise) if asked."""
    left_out: pd.DataFrame
    """Latents without a place: `sae`, `sae_width`, `latent_idx`, `reason`."""
    neighbors: Neighbors
    """Nearest latents of each, itself first, as row numbers of `points`."""
    config: MapConfig
    """Settings it was made with."""
    clusters: ClusterGeometry | None = None
    """How tight each cluster is and which latent is most typical of it; None if not asked for."""
    large: LargeMap | None = None
    """How it was made of very many latents, with a sample first; None where all were laid out."""

    @property
    def shortcuts(self) -> str:
        """What was not done in full, in sentences; nothing of a map that was."""
        found = []
        if self.neighbors.recall is not None:
            found.append(
                f"Neighbours are approximate: {self.neighbors.recall:.1%} of the nearest were "
                f"found, by exact search for {self.neighbors.judged:,} of the latents."
            )
        if self.large is not None:
            n = min(self.large.sample_rows, len(self.points))
            found.append(
                f"A random sample of {n:,} latents was laid out first, the others placed among "
                f"their neighbours, and all moved for {self.large.epochs} epochs."
            )
            if self.clusters is not None:
                found.append(
                    "Clusters are those of the sample; every other latent is in the cluster of the "
                    "latent of the sample that it lies next to. Groups of fewer than about "
                    f"{round(self.config.min_cluster_size * len(self.points) / n):,} latents are "
                    "not told apart."
                )
        return " ".join(found)


def compute_map(
    saes: DecoderRows | Sequence[LabelledSae],
    config: MapConfig | None = None,
    *,
    hidden: Mapping[str, Bool[Any, " d_sae"]] | None = None,
    store: ResultStore | None = None,
    fit: Fit | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    large: LargeMap = LARGE,
) -> SplittingMap:
    """Neighbours, layout and, if the config says so, clusters of the SAEs' decoder directions.

    Args:
        saes: SAEs of one site, or their rows (`decoder_rows`, made while the SAEs may be touched).
        config: how; by default as `MapConfig()` says.
        hidden: latents to leave out as dead, by label; only with SAEs, rows are without them.
        store: where to look for and keep neighbours, coordinates and clusters.
        fit: what runs UMAP and HDBSCAN, `worker.run` in the app; by default this process, in which
            they must not be run by two threads.
        device: where neighbours are computed; by default where the directions are.
        progress: told of the stages; cancelling through it takes under a second in the worker.
        large: from how many latents on, and how, a map is made with a sample first.

    Raises:
        ValueError: SAEs that do not go together, or fewer latents than neighbours are asked for.
    """
    config = config or MapConfig()
    rows = _rows(saes, hidden, device)
    if len(rows) < FEWEST_LATENTS:
        raise ValueError(
            f"There are {len(rows)} latents to place; a map needs {FEWEST_LATENTS} or more. Choose "
            "wider SAEs, add another one, or hide fewer latents."
        )
    if len(rows) < config.k + 1:
        raise ValueError(
            f"There are {len(rows)} latents to place and {config.k} neighbours asked for; choose "
            f"wider SAEs, hide fewer latents, or use {len(rows) - 1} neighbours or fewer."
        )
    kept: ResultStore = Memory() if store is None else store
    fit = fit or run_here
    is_large = len(rows) > large.above
    told = TimeTold(rows, config, large, fit, kept, progress) if is_large else None
    neighbors = neighbors_of(
        rows, config.k, store=kept, progress=progress, large=large, fit=fit, told=told
    )
    work: Work | LargeWork = Work(rows, config, neighbors, kept, fit, progress)
    if told is not None:
        work = LargeWork(rows, config, neighbors, kept, fit, progress, large, told)
    xy = work.points()["points"]
    points = rows.frame()
    points["umap_x"], points["umap_y"] = xy[:, 0], xy[:, 1]
    clusters = None
    if config.clusters:
        found = work.clusters()
        points["cluster"] = found["labels"]
        clusters = ClusterGeometry(found["compactness"], found["medoids"])
    how = large if is_large else None
    return SplittingMap(points, rows.left_out, neighbors, config, clusters, how)


def _rows(
    saes: DecoderRows | Sequence[LabelledSae],
    hidden: Mapping[str, Any] | None,
    device: str | torch.device | None,
) -> DecoderRows:
    if not isinstance(saes, DecoderRows):
        return decoder_rows(saes, hidden=hidden, device=device)
    if hidden:
        raise ValueError("Rows are given already; give hidden to decoder_rows instead.")
    if device is not None:
        return replace(saes, directions=saes.directions.to(device))
    return saes
