"""The map of several SAEs: the straightforward pipeline against `core.splitting`.

Straightforward: `umap.UMAP` on the raw decoder matrix with its own search for neighbours, once in 2
and once in 10 dimensions, HDBSCAN, and the top tokens from full logits of 1,000 latents at a time,
turned into text latent by latent. Each side runs in a process of its own, whose memory is watched
from outside: twice on the data with compiling done before, so that the second run tells whether the
same call gives the same map. Compiling is told apart: it is what the first map of a process costs.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from core.settings import REPOSITORY

FAMILY = REPOSITORY / "demo/saes/docs-small-res-splitting"
MODEL = REPOSITORY / "demo/models/docs-small"
CASES = {
    "planted": "16,128 × 768 (768, 3,072 and 12,288 latents that split)",
    "demo": "The demo's whole family (256 to 16,384 latents)",
}
_COMPILING_ROWS = 5000
_JUDGED_ROWS = 3000


def planted_rows() -> torch.Tensor:
    """768 random directions, each with 4 children, each with 4 of its own and noise around them."""
    generator = torch.Generator().manual_seed(0)

    def unit(rows: torch.Tensor) -> torch.Tensor:
        return rows / rows.norm(dim=1, keepdim=True)

    def around(parents: torch.Tensor, n: int, spread: float) -> torch.Tensor:
        children = parents.repeat_interleave(n, dim=0)
        return unit(children + spread * unit(torch.randn(children.shape, generator=generator)))

    narrow = unit(torch.randn(768, 768, generator=generator))
    middle = around(narrow, 4, 0.8)
    wide = around(middle, 4, 0.8)
    # A third of the wide latents split from nothing.
    alone = torch.randperm(len(wide), generator=generator)[: len(wide) // 3]
    wide[alone] = unit(torch.randn(len(alone), 768, generator=generator))
    return torch.cat([narrow, middle, wide])


def family_rows() -> torch.Tensor:
    """Decoder rows of the demo's SAEs that differ in width."""
    from core.saes import load_sae_from_disk

    folders = sorted(FAMILY.iterdir(), key=lambda folder: int(folder.name.rpartition("_")[2]))
    return torch.cat([load_sae_from_disk(folder, device="cpu").W_dec for folder in folders])


def case_rows(case: str) -> torch.Tensor:
    """Decoder rows [n, d_in] of a case."""
    return planted_rows() if case == "planted" else family_rows()


# --- The two sides, each in a process of its own ---


def plain_side(rows: torch.Tensor, model: Any, folder: Path) -> dict[str, Callable[[], Any]]:
    """Stages of the straightforward pipeline."""
    import hdbscan
    from umap import UMAP

    def fit(n_components: int, min_dist: float) -> np.ndarray:
        umap = UMAP(n_components=n_components, n_neighbors=15, min_dist=min_dist, metric="cosine")
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
    """Stages of `core.splitting`; `again` is a second visit, from the store."""
    from core.splitting import MapConfig, VocabularyTexts, compute_map, top_token_ids
    from core.store import Store

    made = _rows_of(rows)
    runs = iter(range(100))
    stores = [Store(folder / "store-0")]

    def draw() -> np.ndarray:
        found = compute_map(made(), MapConfig(clusters=True), store=stores[-1])
        np.save(folder / "neighbors.npy", found.neighbors.ids)
        return found.points[["umap_x", "umap_y"]].to_numpy()

    def layout() -> np.ndarray:
        stores.append(Store(folder / f"store-{next(runs) + 1}"))
        return draw()

    def tokens() -> list[str]:
        ids = top_token_ids(rows, model.W_U, 10, store=stores[-1])
        return VocabularyTexts(model).quoted(ids.boosted)

    def again() -> None:
        draw()
        tokens()

    return {"map": layout, "tokens": tokens, "again": again}


def _rows_of(rows: torch.Tensor) -> Callable[[], Any]:
    """Makes `DecoderRows` of one matrix anew, as a page that is drawn again does."""
    from types import SimpleNamespace

    from core.splitting import LabelledSae, decoder_rows

    metadata = SimpleNamespace(hook_name="blocks.0.hook_resid_pre")
    sae: Any = SimpleNamespace(W_dec=rows, cfg=SimpleNamespace(metadata=metadata))
    return lambda: decoder_rows([LabelledSae("all", sae)])


def run_side(side: str, case: str, folder: Path) -> None:
    """Run one side, say when memory counts, and leave figures and coordinates in `folder`."""
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    rows = case_rows(case).float().contiguous()
    model = _model(case)
    sides = {"plain": plain_side, "ours": our_side}
    figures: dict[str, float] = {}
    small = sides[side](rows[:_COMPILING_ROWS], model, folder)
    figures["compiling"] = _seconds(small["map"])[0]
    stages = sides[side](rows, model, folder)
    _say("begin")
    for name in ("map", "tokens"):
        figures[name], result = _seconds(stages[name])
        if name == "map":
            np.save(folder / "points.npy", result)
    _say("end")
    if side == "ours":
        figures["again"] = _seconds(stages["again"])[0]
    _, repeated = _seconds(stages["map"])
    figures["identical"] = np.array_equal(np.load(folder / "points.npy"), repeated)
    (folder / "figures.json").write_text(json.dumps(figures))


def _model(case: str) -> Any:
    """The demo's model; for the planted rows, one of their width with its vocabulary."""
    from core.models import load_model

    model = load_model(MODEL, device="cpu")
    if case == "demo":
        return model
    from types import SimpleNamespace

    generator = torch.Generator().manual_seed(1)
    W_U = torch.randn(768, model.W_U.shape[1], generator=generator)
    return SimpleNamespace(W_U=W_U, tokenizer=model.tokenizer, to_str_tokens=model.to_str_tokens)


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


# --- Watching and judging ---


def measure(side: str, case: str, folder: Path) -> dict[str, float]:
    """Figures of one side in a new process; `memory` is what the work added, in bytes."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.splitting", side, case, str(folder)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        watch = _Watch(process.pid)
        assert process.stdout is not None  # for mypy: it is a pipe
        for line in process.stdout:
            watch.note(line.strip())
    if process.returncode:
        raise RuntimeError(f"The {side} side of {case} ended with status {process.returncode}.")
    return {**json.loads((folder / "figures.json").read_text()), "memory": watch.growth}


class _Watch:
    """The largest memory of a process between `begin` and `end`, over that at `begin`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self.growth = 0.0

    def note(self, word: str) -> None:
        if word == "begin":
            threading.Thread(target=self._watch, daemon=True).start()
        elif word == "end":
            self._over.set()

    def _watch(self) -> None:
        before = self._bytes()
        while not self._over.wait(0.05):
            self.growth = max(self.growth, self._bytes() - before)

    def _bytes(self) -> int:
        processes = [self._process, *self._process.children(recursive=True)]
        total = 0
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # HDBSCAN's helpers come and go
                total += process.memory_info().rss
        return total


def trust_of_some(rows: torch.Tensor, points: np.ndarray, sample: np.ndarray, k: int = 15) -> float:
    """Trustworthiness as `sklearn.manifold.trustworthiness` has it, of a sample among all rows.

    With every row in the sample it is sklearn's figure; that needs the distances of all pairs at
    once. `rows` have length 1.
    """
    coordinates = torch.as_tensor(points, dtype=torch.float32)
    n, excess = len(rows), 0
    for some in torch.as_tensor(sample).split(250):
        cosines = rows[some] @ rows.T
        away = torch.cdist(
            coordinates[some], coordinates, compute_mode="donot_use_mm_for_euclid_dist"
        )
        away[torch.arange(len(some)), some] = torch.inf
        near = away.topk(k, largest=False).indices
        cosines[torch.arange(len(some)), some] = -torch.inf
        for neighbor in near.T:
            own = cosines.gather(1, neighbor[:, None])
            rank = (cosines > own).sum(dim=1) + 1
            excess += int((rank - k).clamp(min=0).sum())
    return 1 - 2 * excess / (len(sample) * k * (2 * n - 3 * k - 1))


def judge(rows: torch.Tensor, folder: Path) -> dict[str, float]:
    """Share of the 15 nearest that were found, and trustworthiness of the points (cosine)."""
    from core.splitting import exact_neighbors

    unit = rows / rows.norm(dim=1, keepdim=True)
    exact = exact_neighbors(unit, 15).ids
    found = np.load(folder / "neighbors.npy")[:, :15]
    hits = sum(
        len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(exact, found, strict=True)
    )
    sample = np.random.default_rng(0).permutation(len(rows))[:_JUDGED_ROWS]
    trust = trust_of_some(unit, np.load(folder / "points.npy"), sample)
    return {"recall": hits / exact.size, "trust": trust}


def print_splitting() -> None:
    """A Markdown table for each case on standard output."""
    for case, title in CASES.items():
        rows = case_rows(case).float()
        with tempfile.TemporaryDirectory() as folder:
            plain = measure("plain", case, Path(folder) / "plain")
            ours = measure("ours", case, Path(folder) / "ours")
            plain |= judge(rows, Path(folder) / "plain")
            ours |= judge(rows, Path(folder) / "ours")
        _say(f"\n{title}\n\n| what | plain | ours | ratio |\n|---|---|---|---|")
        for line in _lines(plain, ours):
            _say(line)


def _lines(plain: dict[str, float], ours: dict[str, float]) -> list[str]:
    both = {"plain": plain, "ours": ours}
    total = {side: figures["map"] + figures["tokens"] for side, figures in both.items()}
    same = {
        side: "identical" if figures["identical"] else "differs" for side, figures in both.items()
    }
    return [
        _timed("Map, clusters and tokens", total["plain"], total["ours"]),
        _timed("– map and clusters", plain["map"], ours["map"]),
        _timed("– tokens", plain["tokens"], ours["tokens"]),
        _timed(
            "A map of 5,000 rows in a new process (compiling)",
            plain["compiling"],
            ours["compiling"],
        ),
        _timed("A second visit", total["plain"], ours["again"]),
        f"| Memory added at most | {plain['memory'] / 1e6:.0f} MB | {ours['memory'] / 1e6:.0f} MB |"
        f" {plain['memory'] / max(ours['memory'], 1):.1f}× |",
        f"| Nearest 15 found | {plain['recall']:.3f} | {ours['recall']:.3f} | |",
        f"| Trustworthiness (15, cosine) | {plain['trust']:.4f} | {ours['trust']:.4f} | |",
        f"| Same call again | {same['plain']} | {same['ours']} | |",
    ]


def _timed(what: str, plain: float, ours: float) -> str:
    return f"| {what} | {plain:.2f} s | {ours:.2f} s | {plain / ours:.1f}× |"


if __name__ == "__main__":
    if len(sys.argv) == 4:
        run_side(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        print_splitting()
