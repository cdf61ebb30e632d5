"""How good explanations of the demo's latents are, as opposed to how fast they are made.

- `python -m benchmarks.quality readings`: latents that fire on one word, read by the tuned model
  and by the base model: word overlap with the model's own definition of the word, and shuffled.
- `python -m benchmarks.quality verdicts`: how well "stands out" tells latents of one word, those
  that are read right, and other latents from random directions.
- `python -m benchmarks.quality autointerp`: latents explained and scored offline beside neurons,
  random directions and random weights.
"""

import argparse
import logging
import sys
import tempfile
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks.table import DEVICE, described_device
from core.activations.text_index import IndexRequest
from core.autointerp.prepare import prepare
from core.autointerp.request import RunRequest
from core.autointerp.run import run as run_autointerp
from core.autointerp.tables import distribution_table
from core.autointerp.view import AutointerpView
from core.catalog import Catalog, SaeEntry
from core.corpus import docs_sample
from core.engine import Engine
from core.lease import Lease
from core.patch_scoping.choice import CHOICES, By
from core.patch_scoping.null_distribution import compare_with_null
from core.patch_scoping.peak_tokens import PeakTokens, find_peak_tokens
from core.patch_scoping.question import DEMO_LAYERS, Question, prompt_of
from core.patch_scoping.run import ScopeRequest, run_sweep
from core.patch_scoping.sweep import SweepConfig, random_sweep
from core.patch_scoping.word_readings import read_words
from core.settings import Settings
from core.store import Store
from core.view.corpora import SAMPLE_TOKENS

RELEASE, TUNED, BASE = "docs-small-res", "docs-small-it", "docs-small"
_READ_RIGHT = 0.5
_N_RANDOM = 200
_TOKENS = 40


class Bench:
    """The demo with a store of its own, and one SAE at a time."""

    def __init__(self, folder: str) -> None:
        self.catalog, self.store = Catalog(Settings.from_environment()), Store(folder)
        self.engine = Engine(self.catalog, device=DEVICE)

    def entry(self, sae_id: str) -> SaeEntry:
        return self.catalog.entry(RELEASE, sae_id)

    def lease(self, model: str, entry: SaeEntry) -> Lease:
        return self.engine.lease(model, [entry.key])

    def peaks(self, entry: SaeEntry) -> PeakTokens:
        sae = (*entry.key, entry.version)
        wanted = IndexRequest(entry.model, (sae,), docs_sample(), SAMPLE_TOKENS)
        return find_peak_tokens(self.lease(entry.model, entry), self.store, wanted)

    def request(self, entry: SaeEntry, layers: tuple[int, ...], speaker: str) -> ScopeRequest:
        config = SweepConfig(layers=layers, max_new_tokens=_TOKENS)
        return ScopeRequest(Question(speaker), entry.key, entry.version, (), config)


def print_readings(
    bench: Bench, n: int, sae_ids: list[str], layers: tuple[int, ...], ways: list[By]
) -> None:
    """A row an SAE, way of choosing and model: overlap of texts with definitions."""
    _write("| SAE | put in before layer | text | model | F1 | shuffled | word for word | latents |")
    _write("|---|---|---|---|---|---|---|---|")
    for entry in map(bench.entry, sae_ids):
        peaks = bench.peaks(entry)
        for way in ways:
            request = bench.request(entry, layers, TUNED)
            leases = {model: bench.lease(model, entry) for model in (TUNED, BASE)}
            found = read_words(leases, bench.store, request, peaks, way, n=n)
            for model, score in found.scores.items():
                _write(
                    f"| {entry.sae_id} | {_listed(layers)} | {way} | {model} | {score.f1} | "
                    f"{score.shuffled} | {score.exact} | {len(found.words)} |"
                )


def print_verdicts(
    bench: Bench, n: int, sae_ids: list[str], layers: tuple[int, ...], by: By
) -> None:
    """A row a kind of direction: how many stand out, are unclear, are unexplainable; AUC."""
    _write("| SAE | directions | number | stand out | unclear | unexplainable | AUC |")
    _write("|---|---|---|---|---|---|---|")
    for entry in map(bench.entry, sae_ids):
        peaks, request = bench.peaks(entry), bench.request(entry, layers, TUNED)
        lease = bench.lease(TUNED, entry)
        read = read_words({TUNED: lease}, bench.store, request, peaks, by, n=n).scores[TUNED]
        words = tuple(int(latent) for latent in read.table["latent"])
        drawn = np.random.default_rng(1).permutation(peaks.alive)
        others = tuple(int(latent) for latent in drawn if int(latent) not in words)[:n]
        tables = {
            name: run_sweep(lease, bench.store, replace(request, latents=latents)).table
            for name, latents in (("word", words), ("other", others))
        }
        controls, fresh = _random(lease, request)
        p = {name: _ps(table, controls) for name, table in tables.items()}
        right = read.table["f1"].to_numpy() >= _READ_RIGHT
        p_random = _ps(fresh, controls)
        kinds = {
            "latents of one word": p["word"],
            f"of them, read right (F1 ≥ {_READ_RIGHT:g})": p["word"][right],
            "of them, read wrong": p["word"][~right],
            "other latents": p["other"],
            "other random directions": p_random,
        }
        for name, values in kinds.items():
            stand, mute = (values <= 0.05).mean(), (values > 0.25).mean()
            _write(
                f"| {entry.sae_id} | {name} | {len(values)} | {stand:.0%} | "
                f"{1 - stand - mute:.0%} | {mute:.0%} | {_auc(values, p_random):.2f} |"
            )


def print_autointerp(bench: Bench, n: int, sae_ids: list[str], explainer: str) -> None:
    """A row a kind of unit: accuracy, what "None" scores, balanced accuracy with its interval."""
    _write("| SAE | units | scored | accuracy | None scores | balanced accuracy |")
    _write("|---|---|---|---|---|---|")
    for entry in map(bench.entry, sae_ids):
        view = AutointerpView(n_random=n, explainer=explainer)
        request = RunRequest(
            model=entry.model,
            sae=entry.key,
            version=entry.version,
            latent=0,
            view=view,
            corpus=docs_sample(),
            speaker=TUNED,
            demo=True,
        )
        lease = bench.lease(request.model, entry)
        speaker = bench.lease(TUNED, entry) if request.explaining_model else None
        prepared = prepare(lease, bench.store, request, speaker)
        record = run_autointerp(lease, bench.store, prepared, None)
        for row in distribution_table(record).to_dict("records"):
            _write(
                f"| {entry.sae_id} | {row['units']} | {row['scored']} of {row['number']} | "
                f"{row['accuracy']:.3f} | {row['all_none']:.3f} | {row['balanced_accuracy']:.3f} "
                f"({row['low']:.3f} to {row['high']:.3f}) |"
            )


def _random(lease: Lease, request: ScopeRequest) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sweeps of the directions that verdicts compare with, and of others that they never saw."""
    n = request.config.n_controls
    config = replace(request.config, n_controls=n + _N_RANDOM)
    with lease.turn() as (model, _):
        prompts = {request.question.template: prompt_of(model, request.question)}
        table = random_sweep(model, prompts, config)
    return table[table["latent"] < n], table[table["latent"] >= n]


def _ps(table: pd.DataFrame, controls: pd.DataFrame) -> np.ndarray:
    return np.array([one.p for one in compare_with_null(table, controls).values()])


def _auc(values: np.ndarray, others: np.ndarray) -> float:
    """Share of pairs in which the first has the smaller p; ties count half."""
    if not len(values):
        return float("nan")
    less = (values[:, None] < others[None]).mean()
    return float(less + (values[:, None] == others[None]).mean() / 2)


def _listed(layers: tuple[int, ...]) -> str:
    return ", ".join(map(str, layers))


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("readings", "verdicts", "autointerp"))
    parser.add_argument("-n", type=int, help="latents of each SAE (200, 150, 50)")
    parser.add_argument("--layers", type=int, nargs="+", default=list(DEMO_LAYERS))
    parser.add_argument("--saes", nargs="+", default=["blocks.2.hook_resid_pre"])
    parser.add_argument("--ways", nargs="+", default=["likeliest"], choices=CHOICES)
    parser.add_argument("--explainer", default="words", choices=("words", "scope"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    _write(f"On {described_device(DEVICE)}:\n")
    with tempfile.TemporaryDirectory() as folder:
        bench, layers = Bench(folder), tuple(options.layers)
        if options.what == "readings":
            print_readings(bench, options.n or 200, options.saes, layers, options.ways)
        elif options.what == "verdicts":
            print_verdicts(bench, options.n or 150, options.saes, layers, options.ways[0])
        else:
            print_autointerp(bench, options.n or 50, options.saes, options.explainer)


if __name__ == "__main__":
    main()
