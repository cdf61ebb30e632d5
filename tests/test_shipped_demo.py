"""The bundle in demo/ is what its card says: it loads, fits, and can be measured again."""

import json
import re

import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from core.catalog import Catalog
from core.docs_corpus import harvest
from core.models import load_model
from core.saes import check_fits, load_sae_from_disk
from core.settings import REPOSITORY, Settings
from make_demo.activations import sample_windows
from make_demo.measure import VectorReader, induction_losses, sae_quality, unigram_f1
from make_demo.text import encode
from make_demo.vectors import latent_words, sample_residuals, word_latents, word_tokens

pytestmark = pytest.mark.slow

DEMO = REPOSITORY / "demo"
CARD = (DEMO / "README.md").read_text()
METRICS = {
    path.parent.relative_to(DEMO / "saes").as_posix(): json.loads(path.read_text())
    for path in sorted((DEMO / "saes").rglob("metrics.json"))
}


@pytest.fixture(scope="module")
def model():
    return load_model(DEMO / "models" / "docs-small")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(DEMO / "models" / "docs-small" / "tokenizer.json"))


@pytest.fixture(scope="module")
def windows(tokenizer):
    tokens = encode(tokenizer, harvest(["networkx"])[:400])
    return sample_windows(tokens, n_tokens=30_000, context=256, seed=0)


def test_catalog_offers_the_bundle_and_recognises_the_family():
    catalog = Catalog(Settings(demo_dir=DEMO))
    releases = {release.release for release in catalog.releases("docs-small", hub=False)}
    assert releases == {"docs-small-res", "docs-small-res-splitting", "docs-small-hook-z"}
    entry = catalog.entry("docs-small-res-splitting", "blocks.2.hook_resid_pre_1024")
    assert catalog.family_of(entry).widths == tuple(256 * 2**n for n in range(7))


@pytest.mark.parametrize("folder", METRICS)
def test_sae_loads_and_fits_both_models(folder, model):
    sae = load_sae_from_disk(DEMO / "saes" / folder)
    check_fits(sae, model, model_name="docs-small")
    check_fits(sae, model, model_name="docs-small-it")
    assert sae.cfg.d_sae == METRICS[folder]["width"]


def test_bundle_is_small_enough_for_git():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 70_000_000


def test_card_lists_every_sae_with_its_measured_figures():
    for folder, value in METRICS.items():
        row = next(line for line in CARD.splitlines() if line.startswith(f"| {folder} |"))
        assert f"{value['explained_variance']:.3f} | {value['loss_recovered']:.3f}" in row


def test_explained_variance_rises_with_the_width_of_the_family():
    family = sorted(
        (value["width"], value["explained_variance"])
        for folder, value in METRICS.items()
        if "splitting" in folder
    )
    rising = [variance for _, variance in family]
    assert rising == sorted(set(rising))
    line = next(it for it in CARD.splitlines() if it.startswith("| Explained variance rises"))
    assert "missed" not in line


def test_hardly_a_latent_is_dead():
    assert max(value["dead_fraction"] for value in METRICS.values()) < 0.05


def test_sae_figures_can_be_measured_again_on_other_text(model, windows):
    folder = "docs-small-res/blocks.2.hook_resid_pre"
    sae = load_sae_from_disk(DEMO / "saes" / folder)
    quality = sae_quality(model, sae, windows[:60], more_windows=windows[60:])
    assert quality["l0"] == pytest.approx(METRICS[folder]["l0"], rel=0.05)
    for figure in ("explained_variance", "loss_recovered"):
        assert quality[figure] == pytest.approx(METRICS[folder][figure], abs=0.05)


def test_induction_is_what_the_card_says():
    folder = DEMO / "models" / "docs-small"
    losses = induction_losses(GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval())
    stated = float(re.search(r"second copy of random tokens (\d+\.\d+)", CARD).group(1))
    assert losses["second_copy"] == pytest.approx(stated, abs=0.02)


def test_tuned_model_reads_directions_of_an_sae_it_never_saw(model, tokenizer, windows):
    """The card's claim on a handful of latents: far better than with the latents shuffled."""
    sae = load_sae_from_disk(DEMO / "saes" / "docs-small-res" / "blocks.1.hook_resid_pre")
    tuned = GPT2LMHeadModel.from_pretrained(
        DEMO / "models" / "docs-small-it", dtype=torch.float32
    ).eval()
    sample = sample_residuals(model, windows, [1])[1]
    found = word_latents(latent_words(sae, sample), word_tokens(tokenizer))[:12]
    reader = VectorReader(tuned, tokenizer)
    own = [reader.define(item.token) for item in found]
    read = [
        reader.read(sae.W_dec[item.latent], layer=1, norm=sample.typical_norm) for item in found
    ]
    f1 = [unigram_f1(a, b) for a, b in zip(read, own, strict=True)]
    shuffled = [unigram_f1(a, b) for a, b in zip(read[1:] + read[:1], own, strict=True)]
    assert sum(f1) > 2 * sum(shuffled)
    assert sum(f1) / len(f1) > 0.25


def test_tuned_model_answers_in_the_chat_format():
    tuned = load_model(DEMO / "models" / "docs-small-it")
    text = tuned.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n"
