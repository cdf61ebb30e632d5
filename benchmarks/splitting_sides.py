"""The two ways to a map, each run in a process of its own: python -m benchmarks.splitting_sides."""

import json
import sys
import time
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.splitting_cases import case_model, case_rows
from core.logit_lens import top_token_ids
from core.splitting.figure import map_figure
from core.splitting.layout import schedule
from core.splitting.map import compute_map
from core.splitting.map_config import MapConfig
from core.splitting.rows import LabelledSae, decoder_rows
from core.store import Store
from core.tokens import vocabulary_texts

FEW_ROWS = 5000
"""Rows of the map that is made twice, to be compared; by then numba has compiled."""
_K = 15


def plain_side(rows: torch.Tensor, model: Any, folder: Path) -> dict[str, Callable[[], Any]]:
    """Stages of the straightforward pipeline."""
    import hdbscan
    from umap import UMAP

    def fit(n_components: int, min_dist: float) -> np.ndarray:
        umap = UMAP(n_components=n_components, n_neighbors=_K, min_dist=min_dist, metric="cosine")
        found = umap.fit_transform(rows.numpy())
        np.save(folder / "neighbors.npy", umap._knn_indices)
        return found

    def layout() -> np.ndarray:
        points = fit(2, 0.05)
        hdbscan.HDBSCAN(min_cluster_size=3).fit(fit(10, 0.1))
        return points

    def tokens() -> list[str]:
        texts = []
        for start in range(0, len(rows), 1000):
            logits = rows[start : start + 1000] @ model.W_U
            for ids in logits.topk(10).indices:
                texts.append(", ".join(map(repr, model.to_str_tokens(ids))))
        return texts

    return {"map": layout, "tokens": tokens}


def our_side(rows: torch.Tensor, model: Any, folder: Path) -> dict[str, Callable[[], Any]]:
    """Stages of `core.splitting`; `again` is a second visit: from the store to the drawing."""
    runs = count()
    stores: list[Store] = []

    def made() -> Any:
        """The rows anew, as a page that is drawn again makes them."""
        metadata = SimpleNamespace(hook_name="blocks.0.hook_resid_pre")
        sae: Any = SimpleNamespace(W_dec=rows, cfg=SimpleNamespace(metadata=metadata))
        return decoder_rows([LabelledSae("all", sae)])

    def placed() -> Any:
        return compute_map(made(), MapConfig(clusters=True), store=stores[-1])

    def layout() -> np.ndarray:
        stores.append(Store(folder / f"store-{len(rows)}-{next(runs)}"))
        found = placed()
        np.save(folder / "neighbors.npy", found.neighbors.ids)
        np.save(folder / "distances.npy", found.neighbors.distances)
        return found.points[["umap_x", "umap_y"]].to_numpy()

    def tokens() -> list[str]:
        ids = top_token_ids(rows, model.W_U, 10, store=stores[-1]).boosted
        if model.W_U.shape[1] > len(model.tokenizer):  # a vocabulary without texts
            return [", ".join(map(str, row)) for row in ids.tolist()]
        return vocabulary_texts(model).quoted(ids)

    def again() -> None:
        map_figure(placed().points, tokens=tokens()).figure.to_json()

    return {"map": layout, "tokens": tokens, "again": again}


def run_side(side: str, case: str, folder: Path) -> None:
    """Run one side, say when memory counts, and leave figures and coordinates in `folder`."""
    rows, model, stages_of = _set_up(side, case)
    figures: dict[str, float] = {}
    few = stages_of(rows[:FEW_ROWS], model, folder)
    figures["identical"] = np.array_equal(few["map"](), few["map"]())
    stages = stages_of(rows, model, folder)
    _say("begin")
    for name in ("map", "tokens"):
        figures[name], result = _seconds(stages[name])
        if name == "map":
            np.save(folder / "points.npy", result)
    _say("end")
    if side == "ours":
        figures["again"] = _seconds(stages["again"])[0]
        figures["as_umap"] = _is_that_of_umap(rows, folder)
    (folder / "figures.json").write_text(json.dumps(figures))


def run_first(side: str, case: str, folder: Path) -> None:
    """Seconds of the first map of this process, with the imports and the compiling it needs."""
    rows, model, stages_of = _set_up(side, case)
    seconds, _ = _seconds(lambda: stages_of(rows, model, folder)["map"]())
    (folder / "figures.json").write_text(json.dumps({"first": seconds}))


def _set_up(side: str, case: str) -> tuple[torch.Tensor, Any, Callable[..., Any]]:
    """Rows and model of a case, and what gives the stages of a side."""
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    return (
        case_rows(case).contiguous(),
        case_model(case),
        {"plain": plain_side, "ours": our_side}[side],
    )


def _is_that_of_umap(rows: torch.Tensor, folder: Path) -> bool:
    """Whether umap-learn, given our neighbours, seed and epochs, gives our points to the bit."""
    from umap import UMAP

    names = ("neighbors", "distances")
    knn = tuple(np.ascontiguousarray(np.load(folder / f"{name}.npy")[:, :_K]) for name in names)
    n_epochs, step = schedule(len(rows))
    settings: Any = {"random_state": 0, "n_epochs": n_epochs, "learning_rate": step}
    umap = UMAP(n_neighbors=_K, min_dist=0.05, metric="cosine", precomputed_knn=knn, **settings)
    return np.array_equal(umap.fit_transform(rows.numpy()), np.load(folder / "points.npy"))


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"all": run_side, "first": run_first}[sys.argv[4]](sys.argv[1], sys.argv[2], Path(sys.argv[3]))
