"""The map of several SAEs: the straightforward pipeline against `core.splitting`.

Straightforward: `umap.UMAP` on the raw decoder matrix with its own search for neighbours, once in 2
and once in 10 dimensions, HDBSCAN, and the top tokens from full logits of 1,000 latents at a time,
turned into text latent by latent. Each side runs in a process of its own, whose memory is watched
from outside, after smaller maps that had numba compile. What the first map of a process costs, as
in a notebook, is measured in one more process.

`python -m benchmarks.splitting family large` measures the larger maps, which only our side makes in
reasonable time; without names the two cases that both sides make.
"""

import json
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.splitting_cases import CASES, case_rows
from benchmarks.splitting_sides import FEW_ROWS
from core.settings import REPOSITORY
from core.splitting.neighbors import exact_neighbors

_JUDGED_ROWS = 3000


def measure(side: str, case: str, folder: Path, what: str = "all") -> dict[str, float]:
    """Figures of one side in a new process; `added` and `peak` are bytes while it works.

    With `what` "first", only the seconds of the first map of a process.
    """
    folder.mkdir()
    module = "benchmarks.splitting_sides"
    command = [sys.executable, "-m", module, side, case, str(folder), what]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        watch = Watch(process.pid)
        assert process.stdout is not None  # for mypy: it is a pipe
        for line in process.stdout:
            watch.note(line.strip())
    if process.returncode:
        raise RuntimeError(f"The {side} side of {case} ended with status {process.returncode}.")
    figures: dict[str, float] = json.loads((folder / "figures.json").read_text())
    if what == "first":
        return figures
    return {**figures, "added": watch.peak - watch.before, "peak": watch.peak}


class Watch:
    """The largest memory of a process and its children between `begin` and `end`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self.before = self.peak = 0.0

    def note(self, word: str) -> None:
        if word == "begin":
            self.before = self.peak = self._bytes()
            threading.Thread(target=self._watch, daemon=True).start()
        elif word == "end":
            self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, self._bytes())

    def _bytes(self) -> int:
        total = 0
        with suppress(psutil.NoSuchProcess):  # the process itself has ended
            for process in [self._process, *self._process.children(recursive=True)]:
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
    """How good the neighbours and the points are, by cosine.

    `recall`: share of the 15 nearest that were found. `triangles`: share of a neighbour's
    neighbours that are the row's own. `trust`: trustworthiness; `trust_near` and `trust_far` of the
    half of the rows that have the nearer relatives, and of the other half.
    """
    unit = rows / rows.norm(dim=1, keepdim=True)
    sample = np.random.default_rng(0).permutation(len(rows))[:_JUDGED_ROWS]
    nearest = exact_neighbors(unit, 15)
    found = np.load(folder / "neighbors.npy")[:, :15]
    hits = _shared(nearest.ids[sample], found[sample])
    own = np.repeat(found[sample], 14, axis=0)
    triangles = _shared(own[:, 1:], found[found[sample, 1:].ravel(), 1:])
    points, away = np.load(folder / "points.npy"), nearest.distances[sample, 1]
    near = away < np.median(away)
    return {
        "recall": hits / (len(sample) * 15),
        "triangles": triangles / (len(own) * 14),
        "trust": trust_of_some(unit, points, sample),
        "trust_near": trust_of_some(unit, points, sample[near]),
        "trust_far": trust_of_some(unit, points, sample[~near]),
    }


def _shared(first: np.ndarray, second: np.ndarray) -> int:
    """How many numbers the rows of two tables share, row by row."""
    return int((first[:, :, None] == second[:, None, :]).sum())


def print_splitting(*cases: str) -> None:
    """A Markdown table for each case on standard output; by default those that have two sides."""
    write = sys.stdout.write
    for name in cases or [name for name, case in CASES.items() if len(case.sides) == 2]:
        rows = case_rows(name)
        sides = {}
        with tempfile.TemporaryDirectory() as folder:
            for side in CASES[name].sides:
                place = Path(folder) / side
                first = measure(side, name, Path(folder) / f"{side}-first", "first")
                sides[side] = first | measure(side, name, place) | judge(rows, place)
        write(f"\n{CASES[name].title}\n\n| what | {' | '.join(sides)} |")
        write(" ratio |\n|---|---|---|---|\n" if len(sides) == 2 else "\n|---|---|\n")
        for line in _lines(sides):
            write(line + "\n")
        sys.stdout.flush()


def _lines(sides: dict[str, dict[str, float]]) -> list[str]:
    for figures in sides.values():
        figures["total"] = figures["map"] + figures["tokens"]
        figures.setdefault("again", figures["total"])  # the plain side keeps nothing
    seconds = {
        "total": "Map, clusters and tokens",
        "map": "– map and clusters",
        "tokens": "– tokens",
        "first": "The first map and clusters of a process, with imports and compiling",
        "again": "A second visit, from the store to the drawing",
    }
    shares = {
        "recall": "Nearest 15 found",
        "trust": "Trustworthiness (15, cosine)",
        "trust_near": "– of the half with the nearer relatives",
        "trust_far": "– of the other half",
        "triangles": "Neighbours of neighbours that are neighbours",
    }
    lines = [_line(what, sides, key, 1, "s") for key, what in seconds.items()]
    lines += [
        _line("Memory added at most", sides, "added", 1e9, "GB"),
        _line("Memory of the whole process at most", sides, "peak", 1e9, "GB"),
    ]
    end = " |" if len(sides) == 2 else ""
    for key, what in shares.items():
        cells = " | ".join(f"{figures[key]:.3f}" for figures in sides.values())
        lines.append(f"| {what} | {cells} |{end}")
    said = ["identical" if figures["identical"] else "differs" for figures in sides.values()]
    lines.append(f"| The same {FEW_ROWS:,} rows again | {' | '.join(said)} |{end}")
    same = "identical" if sides["ours"]["as_umap"] else "differs"
    blank = " |" if len(sides) == 2 else ""
    lines.append(f"| umap-learn, given our neighbours, seed and epochs |{blank} {same} |{end}")
    return lines


def _line(what: str, sides: dict[str, dict[str, float]], key: str, unit: float, sign: str) -> str:
    cells = [f"{figures[key] / unit:.2f} {sign}" for figures in sides.values()]
    if len(sides) == 2:
        cells.append(f"{sides['plain'][key] / max(sides['ours'][key], 1e-9):.1f}×")
    return f"| {what} | {' | '.join(cells)} |"


if __name__ == "__main__":
    unknown = sorted(set(sys.argv[1:]) - set(CASES))
    if unknown:
        raise SystemExit(f"There is no case {unknown[0]!r}; choose from {', '.join(CASES)}.")
    print_splitting(*sys.argv[1:])
