"""Print the benchmark table; everything runs on the demo bundle and on random data, on the CPU."""

import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from sae_lens.saes.sae import SAEMetadata, TrainStepInput
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from transformers import GPT2LMHeadModel

from benchmarks.activations import print_activations
from benchmarks.autointerp import print_autointerp
from benchmarks.gradients import print_gradients
from benchmarks.latents import print_latents
from benchmarks.patch_scoping import print_patch_scoping
from benchmarks.sae_quality import print_sae_quality
from benchmarks.splitting import print_splitting
from benchmarks.steering import print_steering
from benchmarks.table import Row, print_table
from core.corpus import default_packing, docs_sample, load_token_set
from core.fit_check import check_fit
from core.fit_check.check import FIT_TOKENS
from core.logit_lens import top_tokens
from core.models import cache_sites, load_model
from core.saes import load_sae_from_disk
from core.settings import REPOSITORY
from core.store import ARRAYS, Key, Store
from make_demo.fast_topk import FastTopKTrainingSAE

DEMO = REPOSITORY / "demo"


def store_row(folder: Path) -> Row:
    """A stored answer against computing it again."""
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res-splitting/blocks.2.hook_resid_pre_16384")
    model = load_model(DEMO / "models/docs-small")
    store, key = Store(folder), Key("benchmark", 1, {"k": 10})

    def compute() -> dict[str, np.ndarray]:
        ids, values = top_tokens(sae.W_dec, model.W_U, 10)
        return {"ids": ids.numpy(), "values": values.numpy()}

    store.put(key, compute(), ARRAYS)
    return Row(
        "Top tokens of 16,384 latents: computed / read from the store",
        compute,
        lambda: store.get(key, ARRAYS),
    )


def site_row() -> Row:
    """One early site: the whole model with every activation kept, or a run that stops there."""
    model = load_model(DEMO / "models/docs-small")
    tokens = torch.randint(4, 4096, (16, 256), generator=torch.Generator().manual_seed(0))
    name = "blocks.1.hook_resid_pre"

    def plain() -> object:
        with torch.no_grad():
            return model.run_with_cache(tokens)[1][name]

    return Row(
        "Activations of one early site: `run_with_cache` / `cache_sites`",
        plain,
        lambda: cache_sites(model, tokens, [name]),
    )


def loading_row() -> Row:
    """The demo's model: as transformers loads it, or processed and hooked, with an SAE."""
    folder = DEMO / "models/docs-small"

    def ours() -> object:
        sae = DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre"
        return load_model(folder), load_sae_from_disk(sae)

    return Row(
        "Demo into memory: transformers, model alone / `core`, hooked model and an SAE",
        lambda: GPT2LMHeadModel.from_pretrained(folder),
        ours,
    )


def catalog_row() -> Row:
    """The list of releases: through sae_lens, or from its YAML alone, in a fresh process."""

    def fresh(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)

    return Row(
        "List of published SAEs in a new process: importing sae_lens / `core.catalog`",
        lambda: fresh(
            "from sae_lens.loading.pretrained_saes_directory import *;"
            "get_pretrained_saes_directory()"
        ),
        lambda: fresh("from core.catalog import Catalog; Catalog().releases()"),
        repeats=3,
    )


def fit_row() -> Row:
    """Whether an SAE is read where it was trained, beside a run of the model on the same text."""
    model = load_model(DEMO / "models/docs-small")
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre")
    packing = default_packing(model, sae, max_tokens=FIT_TOKENS)
    text = load_token_set(docs_sample(), model.tokenizer, packing)
    tokens = torch.from_numpy(text.tokens.astype(np.int64))

    def plain() -> object:
        with torch.no_grad():
            return model(tokens)

    return Row(
        f"Fit check on {FIT_TOKENS:,} tokens: one run of the model / the check",
        plain,
        lambda: check_fit(model, sae, text),
    )


def training_row() -> Row:
    """One optimiser-free step of a TopK SAE: sae_lens' dense step, or the sparse one."""

    def sae_of(trained_class: type[TopKTrainingSAE]) -> TopKTrainingSAE:
        config = TopKTrainingSAEConfig(
            d_in=256,
            d_sae=16384,
            k=24,
            apply_b_dec_to_input=True,
            metadata=SAEMetadata(hook_name="blocks.2.hook_resid_pre"),
        )
        return trained_class(config)

    step = TrainStepInput(
        sae_in=torch.randn(1024, 256),
        coefficients={},
        dead_neuron_mask=None,
        n_training_steps=0,
        is_logging_step=False,
    )

    def run(sae: TopKTrainingSAE) -> None:
        sae.zero_grad()
        sae.training_forward_pass(step).loss.backward()

    dense, sparse = sae_of(TopKTrainingSAE), sae_of(FastTopKTrainingSAE)
    return Row(
        "Training step of a TopK SAE, 1,024 × 16,384: sae_lens / `make_demo.fast_topk`",
        lambda: run(dense),
        lambda: run(sparse),
        repeats=3,
    )


def main() -> None:
    """Print the tables, or only those that are named: `python -m benchmarks splitting`."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tables = {
        "core": print_core,
        "splitting": print_splitting,
        "activations": print_activations,
        "latents": print_latents,
        "gradients": print_gradients,
        "autointerp": print_autointerp,
        "patch_scoping": print_patch_scoping,
        "steering": print_steering,
        "sae_quality": print_sae_quality,
    }
    unknown = sorted(set(sys.argv[1:]) - set(tables))
    if unknown:
        raise SystemExit(f"There is no table {unknown[0]!r}; choose from {', '.join(tables)}.")
    for name in sys.argv[1:] or tables:
        tables[name]()


def print_core() -> None:
    """The table of what the rest of `core` does."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [store_row(Path(folder)), site_row(), loading_row(), fit_row()]
        print_table([*rows, catalog_row(), training_row()])


if __name__ == "__main__":
    main()
