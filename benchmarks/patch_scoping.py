"""Patch scoping on the demo: batched sweeps, a batch of latents, and how well latents are read.

`python -m benchmarks patch_scoping` prints times; `python -m benchmarks.patch_scoping` reads 200
latents that fire on one word, on the tuned model and on the base model, and prints how far the
texts agree with each model's own definitions.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from sae_lens import SAE

from benchmarks.table import Row, print_table
from core.catalog import Catalog
from core.corpus import docs_sample
from core.engine import Engine
from core.jobs.progress import Progress
from core.models import Model, hooks_at, load_model
from core.patch_scoping import SweepConfig, hook_fn_patch_scoping, sweep, template_prompt
from core.patch_scoping.choice import CHOICES, By
from core.patch_scoping.directions import typical_norm, unit_directions
from core.patch_scoping.generation import complete
from core.patch_scoping.inject import Injection
from core.saes import load_sae_from_disk
from core.settings import REPOSITORY, Settings
from core.store import Store
from core.view.patch_scoping.asking import Question
from core.view.patch_scoping.peaks import find_peaks
from core.view.patch_scoping.trust import read_words
from core.view.patch_scoping.workbench import ScopeRequest

DEMO = REPOSITORY / "demo"
SCALES, TOKENS, LATENTS, LAYER = 12, 50, 100, 2
MULTIPLES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


@cache
def setting() -> tuple[Model, SAE]:
    """The demo's tuned model and an SAE of its base model."""
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre")
    return load_model(DEMO / "models/docs-small-it"), sae


def _rows() -> list[Injection]:
    model, sae = setting()
    prompt = template_prompt(model, "definition")
    norm, [direction] = typical_norm(model, prompt, LAYER), unit_directions(model, sae, [7])
    scales = [norm * (0.25 + 0.25 * i) for i in range(SCALES)]
    return [Injection(prompt, LAYER, direction * scale) for scale in scales]


def _vector(row: Injection) -> torch.Tensor:
    if row.vector is None:
        raise ValueError("The row injects nothing; give it a vector.")
    return row.vector


def seed_loop() -> list[list[int]]:
    """One scale after the other: the seed's hook in the library's own generation loop."""
    model, _ = setting()
    found: list[list[int]] = []
    for row in _rows():
        places = list(row.prompt.positions)
        hook = partial(hook_fn_patch_scoping, seq_pos=places, latent_vector=_vector(row))
        tokens = torch.tensor([row.prompt.tokens])
        with hooks_at(model, [(f"blocks.{LAYER}.hook_resid_pre", hook)]):
            out: Any = model.generate(
                tokens,
                max_new_tokens=TOKENS,
                do_sample=False,
                verbose=False,
            )
        found.append(out[0, tokens.shape[1] :].tolist())
    return found


def batched() -> list[list[int]]:
    """The same scales as one batch."""
    model, _ = setting()
    texts = complete(model, _rows(), max_new_tokens=TOKENS, stop=None)
    return [list(one.tokens) for [one] in texts]


def same_texts() -> bool:
    """Whether both ways write the same, up to where a text ends."""
    pairs = zip(seed_loop(), batched(), strict=True)
    return all(plain[: len(ours)] == ours for plain, ours in pairs)


def _latents(together: bool) -> Callable[[], object]:
    model, sae = setting()
    prompts = {"definition": template_prompt(model, "definition")}
    config = SweepConfig(layers=(LAYER,), multiples=MULTIPLES, max_new_tokens=TOKENS, n_controls=0)

    def run() -> object:
        if together:
            return sweep(model, sae, range(LATENTS), prompts, config)
        return [sweep(model, sae, [latent], prompts, config) for latent in range(LATENTS)]

    return run


def print_patch_scoping() -> None:
    """The table of times."""
    verdict = "same texts" if same_texts() else "TEXTS DIFFER"
    print_table(
        [
            Row(
                f"Patch scoping, {SCALES} scales × {TOKENS} tokens, {verdict}: loop / batch",
                seed_loop,
                batched,
                repeats=3,
            ),
            Row(
                f"Patch scoping, {LATENTS} latents × {len(MULTIPLES)} scales: latent by latent / "
                "as one task",
                _latents(together=False),
                _latents(together=True),
                repeats=1,
            ),
        ]
    )


def print_readings(n: int, sae_ids: list[str], layers: tuple[int, ...], ways: list[By]) -> None:
    """How well the demo's models read `n` latents of each SAE that fire on one word."""
    write = sys.stdout.write
    write(
        "| SAE | put in before layer | text | model | F1 | shuffled | word for word | latents |\n"
    )
    write("|---|---|---|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as folder:
        catalog, store = Catalog(Settings.from_environment()), Store(folder)
        engine, models = Engine(catalog, device="cpu"), ["docs-small-it", "docs-small"]
        for sae_id in sae_ids:
            entry = catalog.entry("docs-small-res", sae_id)
            peaks = find_peaks(engine, store, entry.model, entry.key, docs_sample(), Progress())
            for way in ways:
                config = SweepConfig(layers=layers, max_new_tokens=30)
                request = ScopeRequest(Question(models[0]), entry.key, entry.version, (), config)
                found = read_words(engine, store, request, models, peaks, way, Progress(), n=n)
                for model, score in found.scores.items():
                    put = ", ".join(map(str, layers))
                    write(
                        f"| {sae_id} | {put} | {way} | {model} | {score.f1} | {score.shuffled} | "
                        f"{score.exact} | {len(found.words)} |\n"
                    )
                    sys.stdout.flush()


def main() -> None:
    """Print how well latents are read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="latents of each SAE")
    parser.add_argument("--layers", type=int, nargs="+", default=[LAYER])
    parser.add_argument("--saes", nargs="+", default=["blocks.2.hook_resid_pre"])
    parser.add_argument("--ways", nargs="+", default=["likeliest"], choices=CHOICES)
    options = parser.parse_args()
    print_readings(options.n, options.saes, tuple(options.layers), options.ways)


if __name__ == "__main__":
    main()
