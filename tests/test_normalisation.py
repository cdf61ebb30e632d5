"""The scale that an SAE was trained on: measured, folded in, refused where nobody tells it."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_saes_directory
from sae_lens.registry import SAE_CLASS_REGISTRY, get_sae_class
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.activation_scaler import ActivationScaler
from torch import Tensor

import core.engine.input_scale as engine_scale
from core.catalog import pretrained
from core.catalog.input_scale import SCALER_FILE
from core.catalog.local_saes import read_sae_folder
from core.corpus.documents import pasted_text
from core.corpus.token_set import TokenSet
from core.engine import Engine
from core.models import Model, cache_sites
from core.saes import decode, encode, load_sae_from_disk, reconstruct, sae_card
from core.saes.normalisation import estimate_norm_factor, fold_norm_factor, norm_factor
from core.store import Store
from tests.builders import make_sae, write_sae, write_tiny_gpt2
from tests.sae_folders import user_catalog

SITE = "blocks.1.hook_resid_pre"
SCALE = 0.283
SCALED = "expected_average_only_in"
FOLDED = [it for it in SAE_CLASS_REGISTRY if it != "matching_pursuit"]


def any_sae(architecture: str, normalize: str, *, apply_b_dec: bool, rescale: bool) -> SAE:
    cls, config_class = get_sae_class(architecture)
    options: dict[str, Any] = {"apply_b_dec_to_input": apply_b_dec}
    if "topk" in architecture:
        options |= {"k": 6, "rescale_acts_by_decoder_norm": rescale}
    if architecture == "temporal":
        options |= {"n_heads": 2, "bottleneck_factor": 4, "kval_topk": 6}
    if "transcoder" in architecture:
        options |= {"d_out": 24}
    torch.manual_seed(3)
    config = config_class(
        d_in=32,
        d_sae=64,
        normalize_activations=normalize,
        metadata=SAEMetadata(hook_name=SITE, model_name="m"),
        **options,
    )
    sae = cls(config)
    generator = torch.Generator().manual_seed(5)
    for parameter in sae.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)
    if hasattr(sae, "threshold"):
        sae.threshold.data = sae.threshold.data.abs()
    return sae.eval().requires_grad_(False)


@pytest.mark.parametrize("architecture", FOLDED)
@pytest.mark.parametrize("apply_b_dec", [False, True])
@pytest.mark.parametrize("rescale", [False, True])
def test_folding_is_exact(architecture: str, apply_b_dec: bool, rescale: bool) -> None:
    """Latents are those of scale·x, and what is written is that of scale·x, by the scale."""
    if ("transcoder" in architecture and apply_b_dec) or (rescale and "topk" not in architecture):
        pytest.skip("not a setting of this architecture")
    settings = {"apply_b_dec": apply_b_dec, "rescale": rescale}
    trained = any_sae(architecture, "none", **settings)
    sae = fold_norm_factor(any_sae(architecture, SCALED, **settings), SCALE, source="given")
    x = 5 * torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))
    expected = trained.encode(SCALE * x)
    assert (expected != 0).any()
    torch.testing.assert_close(encode(sae, x), expected, atol=1e-4, rtol=1e-4)
    written = reconstruct(trained, SCALE * x) / SCALE
    torch.testing.assert_close(reconstruct(sae, x), written, atol=1e-3, rtol=1e-4)
    assert sae_card(sae).norm_factor == SCALE


def test_sae_lens_own_fold_scales_latents_of_a_topk() -> None:
    """Why it is not used: with decoder norms in play, its latents are those of scale·x by scale."""
    x = 5 * torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    sae = any_sae("topk", SCALED, apply_b_dec=True, rescale=True)
    expected = copy.deepcopy(sae).encode(SCALE * x)
    sae.fold_activation_norm_scaling_factor(SCALE)
    torch.testing.assert_close(sae.encode(x), expected / SCALE, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), "2"])
def test_bad_factors(bad: Any) -> None:
    with pytest.raises(ValueError, match="; give a positive number"):
        fold_norm_factor(make(SCALED), bad, source="given")


def test_one_that_needs_none_refuses_it() -> None:
    with pytest.raises(ValueError, match="takes no norm_factor: its normalize_activations is"):
        fold_norm_factor(make("none"), 2.0, source="given")


def make(normalize: str = SCALED, **options: Any) -> SAE:
    return make_sae(
        "standard", d_in=32, d_sae=64, hook_name=SITE, normalize_activations=normalize, **options
    )


def test_the_factor_is_sae_lens_own(tiny_model: Model) -> None:
    """The same number as its trainer estimates on the same activations."""
    tokens = torch.randint(4, 290, (6, 20), generator=torch.Generator().manual_seed(2))
    tokens[:, 0] = 0
    token_set = TokenSet.from_rows(tokens, bos_id=0, include_bos=True)
    site = cache_sites(tiny_model, tokens, [SITE])[SITE].flatten(0, 1)
    scaler = ActivationScaler()
    scaler.estimate_scaling_factor(32, iter(site.split(30)), n_batches_for_norm_estimate=4)
    found = estimate_norm_factor(tiny_model, make(), token_set)
    assert found.factor == pytest.approx(scaler.scaling_factor, rel=1e-6)
    assert found.n_tokens == 120
    assert norm_factor(site, 32) == pytest.approx(scaler.scaling_factor, rel=1e-6)
    assert 0 < found.standard_error < found.factor
    with pytest.raises(ValueError, match="from which no scale can be told"):
        norm_factor(torch.zeros(4, 32), 32)


def test_folders(tmp_path: Path) -> None:
    folder = write_sae(make(), tmp_path / "sae")
    with pytest.raises(ValueError, match="the factor is not in its files: give norm_factor="):
        load_sae_from_disk(folder, device="cpu")
    x = torch.randn(4, 32)
    expected = make("none").encode(SCALE * x)
    given = load_sae_from_disk(folder, device="cpu", norm_factor=SCALE)
    torch.testing.assert_close(encode(given, x), expected, atol=1e-5, rtol=1e-5)
    assert read_sae_folder(folder, release="r", sae_id="s").problem is None
    # A checkpoint that still lies beside its trainer's file.
    before = read_sae_folder(folder, release="r", sae_id="s").version
    (folder / SCALER_FILE).write_text(json.dumps({"scaling_factor": SCALE}))
    beside = load_sae_from_disk(folder, device="cpu")
    torch.testing.assert_close(encode(beside, x), expected, atol=1e-5, rtol=1e-5)
    assert sae_card(beside).norm_factor_source == "its trainer's file"
    assert read_sae_folder(folder, release="r", sae_id="s").version != before
    (folder / SCALER_FILE).write_text(json.dumps({"scaling_factor": -1}))
    with pytest.raises(ValueError, match="it must be a positive number"):
        load_sae_from_disk(folder, device="cpu")


def test_configs_of_old_give_a_boolean(tmp_path: Path) -> None:
    folder = write_sae(make(), tmp_path / "sae")
    cfg = json.loads((folder / "cfg.json").read_text())
    metadata = {**cfg.pop("metadata"), "sae_lens_version": "2.0.0", "activation_fn_str": "relu"}
    old = {**cfg, **metadata, "hook_point": SITE, "normalize_activations": True}
    (folder / "cfg.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match="give norm_factor="):
        load_sae_from_disk(folder, device="cpu")
    (folder / "cfg.json").write_text(json.dumps({**old, "normalize_activations": False}))
    assert sae_card(load_sae_from_disk(folder, device="cpu")).norm_factor is None


def test_whitening_is_refused_unless_its_statistics_lie_there(tmp_path: Path) -> None:
    folder = write_sae(make("covariance_whitening", apply_b_dec_to_input=False), tmp_path / "sae")
    with pytest.raises(ValueError, match="cannot be estimated well enough from a sample"):
        load_sae_from_disk(folder, device="cpu")
    problem = read_sae_folder(folder, release="r", sae_id="s").problem
    assert problem is not None
    assert "covariance_whitening" in problem
    x = torch.randn(200, 32) @ torch.randn(32, 32) + 1
    scaler = ActivationScaler()
    scaler.estimate_whitening(32, iter([x]), n_batches_for_norm_estimate=1)
    scaler.save(str(folder / SCALER_FILE))
    sae = load_sae_from_disk(folder, device="cpu")
    trained = make("none", apply_b_dec_to_input=False)
    z = scaler.scale(x)
    torch.testing.assert_close(encode(sae, x), trained.encode(z), atol=1e-3, rtol=1e-3)
    expected = scaler.unscale(trained.decode(trained.encode(z)))
    torch.testing.assert_close(reconstruct(sae, x), expected, atol=1e-3, rtol=1e-3)


def test_matching_pursuit_is_refused(tmp_path: Path) -> None:
    sae = any_sae("matching_pursuit", SCALED, apply_b_dec=True, rescale=False)
    folder = write_sae(sae, tmp_path / "sae")
    with pytest.raises(ValueError, match="its one matrix reads and writes"):
        load_sae_from_disk(folder, device="cpu")
    assert "its one matrix" in str(read_sae_folder(folder, release="r", sae_id="s").problem)


def test_published_ones_that_are_scaled_have_a_factor() -> None:
    """llama_scope's loaders scale the threshold, which sae_lens' fold leaves alone: both or none.

    Its configs say `expected_average_only_in`; `from_pretrained` folds what the list gives.
    """
    listed = pretrained_saes_directory.get_pretrained_saes_directory()
    for name, entries in pretrained.read_pretrained().entries.items():
        if entries[0].conversion in ("llama_scope", "llama_scope_r1_distill"):
            factors = listed[name].norm_scaling_factor
            assert set(factors) == {it.sae_id for it in entries}


@pytest.fixture
def unscaled(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of a tiny model and of an SAE beside it whose factor is not in its files."""
    model = write_tiny_gpt2(tmp_path / "saes" / "tiny-gpt2")
    sae = make(model_name="tiny-gpt2", context_size=32)
    return model, write_sae(sae, tmp_path / "saes" / "sae")


@pytest.mark.slow
def test_the_engine_measures_it_once(
    unscaled: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folder, folder = unscaled
    text = pasted_text("The river runs under the bridges of the city. " * 60, name="A river")
    read: list[int] = []

    def documents() -> Any:
        read.append(1)
        return text.documents()

    loaders_complete = engine_scale.complete

    def complete(sae: SAE, model: Model, **options: Any) -> None:
        corpus = replace(text, documents=documents)
        loaders_complete(sae, model, corpus=lambda: corpus, **options)

    from core.engine.loaders import Loaders

    store = Store(tmp_path / "cache")

    def engine() -> Engine:
        catalog = user_catalog(tmp_path / "saes")
        return Engine(catalog, device="cpu", store=store, loaders=Loaders(complete=complete))

    first = engine()
    entry = first.catalog.saes("saes")[0]
    assert entry.problem is None
    assert entry.path == folder
    factors: list[float] = []
    for it in (first, first, engine()):
        with it.use(str(model_folder), [entry.key]) as (model, (sae,)):
            card = sae_card(sae)
            factors.append(card.norm_factor or 0)
            site = cache_sites(model, torch.tensor([[0, 5, 9, 11]]), [SITE])[SITE]
            expected = make("none").encode(factors[0] * site)
            torch.testing.assert_close(encode(sae, site), expected, atol=1e-4, rtol=1e-4)
            assert "estimated here on" in str(card.norm_factor_source)
            assert "A river" in str(card.norm_factor_source)
    assert len(read) == 1  # and kept for the second engine
    assert factors[0] > 0
    assert len(set(factors)) == 1
    # Measured as training does: contexts of 32 tokens laid end to end, BOS counted.
    with first.use(str(model_folder), [entry.key]) as (model, _):
        content = next(iter(text.documents())).text
        ids = model.tokenizer(content, add_special_tokens=False)["input_ids"]
        rows = [[0, *ids[at : at + 31]] for at in range(0, len(ids), 31)]
        norms: list[Tensor] = []
        for row in rows:
            norms.append(cache_sites(model, torch.tensor([row]), [SITE])[SITE].norm(dim=-1)[0])
        assert factors[0] == pytest.approx(32**0.5 / float(torch.cat(norms).mean()), rel=1e-5)


def test_decode_needs_nothing_more() -> None:
    sae = fold_norm_factor(make(), SCALE, source="given")
    latents = torch.rand(4, 64)
    expected = (latents @ make("none").W_dec + make("none").b_dec) / SCALE
    torch.testing.assert_close(decode(sae, latents), expected, atol=1e-4, rtol=1e-4)
