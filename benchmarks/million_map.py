"""A map of a made-up SAE of 1,048,576 latents, whose groups are known: time, memory, how good.

    python -m benchmarks.million_map [latents] [folder]

Rows are planted (`benchmarks.million_rows`) and go through the functions that the app calls, with
the worker process. What is judged: the recall of the neighbours that the map states, against an
exact search for other rows; trustworthiness of a sample of rows among all; whether the points
nearest on the map are of the row's own group, against chance; the clusters against the groups; and
the bytes that a browser is sent.

With a folder, the SAE is written to `folder/saes/planted`, for the demo's model, and results are
kept in `folder/cache`: with `SAE_EXPLORER_SAES` and `SAE_EXPLORER_CACHE` set to these, the explorer
and `python -m core.run map` go on from there.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from scipy.spatial import KDTree

from benchmarks.million_rows import planted_million
from benchmarks.splitting import Watch, trust_of_some
from core.jobs.progress import Progress
from core.splitting.colors import LIGHT, PointColors
from core.splitting.descent import nearest_of
from core.splitting.figure import narrowest_first
from core.splitting.large_config import LARGE
from core.splitting.large_time import seconds_of_parts
from core.splitting.map import SplittingMap, compute_map
from core.splitting.map_config import MapConfig
from core.splitting.packed import packed_points
from core.splitting.rows import LabelledSae, decoder_rows
from core.store import Store
from core.worker import WorkerProcess

HOOK = "blocks.1.hook_resid_mid"
"""A site that no SAE of the demo reads, so that a map of it has the planted one alone."""
_JUDGED = 500


class _Timed(Progress):
    """Notes how long each message of a job stood there."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self._since, self._message = time.monotonic(), "Reading"

    def update(
        self, done: float, total: float | None = None, *, unit: str = "", message: str = ""
    ) -> None:
        """As `Progress.update`."""
        now = time.monotonic()
        spent = self.seconds.get(self._message, 0.0) + now - self._since
        self.seconds[self._message] = spent
        self._since, self._message = now, message
        super().update(done, total, unit=unit, message=message)


def judged(rows: torch.Tensor, group: np.ndarray, found: SplittingMap) -> dict[str, float]:
    """How good a map of planted rows is."""
    sample = np.random.default_rng(1).permutation(len(rows))[:_JUDGED]
    points = found.points[["umap_x", "umap_y"]].to_numpy()
    chosen = torch.as_tensor(sample)
    _, exact = nearest_of(rows[chosen], rows, 15, own=chosen)
    pairs = zip(exact.tolist(), found.neighbors.ids[sample].tolist(), strict=True)
    same = [len({*true} & {*given}) for true, given in pairs]
    near = KDTree(points).query(points[sample], k=16)[1][:, 1:]
    own = (group[near] == group[sample][:, None]).mean()
    figures = {
        "recall of other rows": float(np.mean(same)) / 15,
        "trustworthiness (15)": trust_of_some(rows, points, sample),
        "15 nearest on the map of the own group": float(own),
        "the same by chance": float((np.bincount(group) ** 2).sum() / len(group) ** 2),
    }
    if "cluster" in found.points:
        clusters = found.points["cluster"].to_numpy()
        inside = clusters >= 0
        table = pd.DataFrame({"c": clusters[inside], "g": group[inside]})
        most = table.groupby(["c", "g"]).size().groupby("c").max().sum()
        figures["latents in clusters"] = float(inside.mean())
        figures["of these, of the cluster's most frequent group"] = float(most / inside.sum())
    return figures


@contextmanager
def _watched(figures: dict[str, float]) -> Iterator[None]:
    watch = Watch(os.getpid())
    watch.note("begin")
    began = time.monotonic()
    yield
    watch.note("end")
    figures["seconds"] = time.monotonic() - began
    figures["memory before, GB"], figures["memory at most, GB"] = (
        watch.before / 1e9,
        watch.peak / 1e9,
    )


def written(decoder: torch.Tensor, folder: Path) -> None:
    """An SAE of the demo's model with this decoder, as sae_lens writes it."""
    metadata = SAEMetadata(hook_name=HOOK, model_name="docs-small", prepend_bos=True)
    n, d = decoder.shape
    sae = StandardSAE(StandardSAEConfig(d_in=d, d_sae=n, metadata=metadata))
    with torch.no_grad():
        sae.W_dec.copy_(decoder)
        sae.W_enc.copy_(decoder.T)
    sae.save_model(folder)


def main(n: int = 1_048_576, folder: Path | None = None) -> None:
    """Print the figures."""
    write = sys.stdout.write
    decoder, group = planted_million(n)
    if folder is not None:
        written(decoder, folder / "saes" / "planted")
    metadata = SimpleNamespace(hook_name=HOOK)
    sae: Any = SimpleNamespace(W_dec=decoder, cfg=SimpleNamespace(metadata=metadata))
    rows = decoder_rows([LabelledSae("planted", sae)])
    del decoder, sae
    config = MapConfig(clusters=True)
    store = None if folder is None else Store(folder / "cache")
    with WorkerProcess() as worker:
        parts = seconds_of_parts(rows, config, LARGE, worker.run)
        write(f"{n:,} latents of {rows.directions.shape[1]} numbers\n")
        write(f"said beforehand: {sum(parts):.0f} s {[round(part) for part in parts]}\n")
        sys.stdout.flush()
        progress, figures = _Timed(), dict[str, float]()
        with _watched(figures):
            found = compute_map(rows, config, store=store, fit=worker.run, progress=progress)
            progress.update(0, message="done")
    for message, seconds in progress.seconds.items():
        write(f"  {message}: {seconds:.1f} s\n")
    sys.stdout.flush()
    figures |= judged(rows.directions, group, found)
    coloring = PointColors(n)
    packed = packed_points(found.points, coloring, LIGHT, narrowest_first(found.points))
    figures["bytes for a browser, MB"] = len(packed) / 1e6
    for name, value in figures.items():
        write(f"{name}: {value:.4g}\n")
    write(found.shortcuts + "\n")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 1_048_576, Path(given[1]) if given[1:] else None)
