"""Is an SAE read where it was trained? Figures against plain torch, shifted SAEs named as such."""

import copy
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sae_lens import SAE, JumpReLUSAE, JumpReLUSAEConfig
from transformers import GPT2LMHeadModel

from core.corpus.docs import docs_sample
from core.corpus.documents import pasted_text
from core.corpus.load import default_packing, load_token_set
from core.corpus.packing import Packing
from core.corpus.token_set import TokenSet
from core.fit_check import FitCheck, check_fit
from core.models import Model, cache_sites, load_model
from core.saes import load_sae_from_disk
from tests.builders import make_sae

pytestmark = pytest.mark.slow

DEMO = Path(__file__).resolve().parent.parent / "demo"
SHIPPED = sorted(it.parent for it in (DEMO / "saes").glob("*/*/cfg.json"))
_CUT: dict[Packing, TokenSet] = {}
RESID = "docs-small-res/blocks.2.hook_resid_pre"


@pytest.fixture(scope="module")
def demo() -> Model:
    return load_model(DEMO / "models" / "docs-small", device="cpu")


def shipped(name: str) -> SAE:
    return load_sae_from_disk(DEMO / "saes" / name, device="cpu")


def docs(model: Model, sae: SAE, n: int = 2000) -> TokenSet:
    """Of the demo's model, whose tokens are cut once for each packing."""
    packing = replace(default_packing(model, sae), max_tokens=n)
    known = _CUT.get(packing)
    if known is None:
        known = _CUT[packing] = load_token_set(docs_sample(), model.tokenizer, packing)
    return known


def text(model: Model, sae: SAE, words: str) -> TokenSet:
    packing = replace(default_packing(model, sae), max_tokens=2000)
    return load_token_set(pasted_text(words), model.tokenizer, packing)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda it: it.name)
def test_no_right_one_is_warned_about(demo: Model, folder: Path) -> None:
    sae = load_sae_from_disk(folder, device="cpu")
    metrics = json.loads((folder / "metrics.json").read_text())
    check = check_fit(demo, sae, docs(demo, sae), declared_l0=metrics["l0"])
    assert check.warnings == ()
    assert check.notes == ()
    assert check.n_tokens == 2000
    assert check.l0.value == pytest.approx(metrics["l0"], rel=0.1)
    assert check.fvu is not None
    assert 1 - check.fvu.value == pytest.approx(metrics["explained_variance"], abs=0.05)
    assert check.fvu.low <= check.fvu.value <= check.fvu.high
    assert check.loss_recovered is not None
    assert check.loss_recovered.value == pytest.approx(metrics["loss_recovered"], abs=0.05)
    assert FitCheck.from_json(json.loads(json.dumps(check.to_json()))) == check


def test_figures_are_those_of_plain_torch(demo: Model) -> None:
    """L0, FVU, dead share and loss recovered, written down again on Hugging Face's model.

    Its stream is not centred; the SAE's is. A mean over d_model is taken off by hand, and put on
    again where the reconstruction takes the stream's place, as LayerNorms do not see it.
    """
    sae = shipped(RESID)
    tokens = docs(demo, sae, 700)
    check = check_fit(demo, sae, tokens)
    hf = GPT2LMHeadModel.from_pretrained(DEMO / "models" / "docs-small", dtype=torch.float32).eval()
    ids = torch.from_numpy(tokens.tokens.astype(np.int64))
    mask = torch.from_numpy(tokens.mask)
    held: dict[str, Any] = {"replace": None}

    def before(module: Any, args: tuple[Any, ...]) -> Any:
        x = args[0]
        held["x"] = x - x.mean(-1, keepdim=True)
        if held["replace"] is None:
            return None
        return (torch.where(mask[..., None], held["replace"](held["x"]), held["x"]), *args[1:])

    def written(x: torch.Tensor) -> torch.Tensor:
        norms = sae.W_dec.norm(dim=-1)
        pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc) * norms
        best = pre.topk(sae.cfg.k, dim=-1)
        latents = torch.zeros_like(pre).scatter(-1, best.indices, best.values.relu())
        held["latents"] = latents
        return latents / norms @ sae.W_dec + sae.b_dec

    hf.transformer.h[2].register_forward_pre_hook(before)

    def loss() -> float:
        logits = hf(ids).logits[:, :-1]
        losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return float(losses[mask[:, 1:]].mean())

    with torch.no_grad():
        clean = loss()
        x = held["x"]
        y = written(x)
        held["replace"] = written
        with_sae = loss()
        held["replace"] = torch.zeros_like
        ablated = loss()
    active = (written(x) is not None) and held["latents"][mask] > 0
    assert check.l0.value == pytest.approx(float(active.sum(-1).float().mean()), rel=1e-5)
    assert check.dead_fraction == pytest.approx(float((~active.any(0)).float().mean()), abs=1e-6)
    kept = x[mask]
    fvu = float((y[mask] - kept).pow(2).sum() / (kept - kept.mean(0)).pow(2).sum())
    assert check.fvu is not None
    assert check.fvu.value == pytest.approx(fvu, rel=1e-4)
    assert check.loss_recovered is not None
    recovered = (ablated - with_sae) / (ablated - clean)
    assert check.loss_recovered.value == pytest.approx(recovered, abs=2e-3)
    assert check.loss_tokens == int(mask[:, 1:].sum())


def threshold_sae(name: str) -> SAE:
    """A JumpReLU SAE as active as the TopK one of the demo that it is made from."""
    sae = shipped(name)
    model = load_model(DEMO / "models" / "docs-small", device="cpu")
    tokens = torch.from_numpy(docs(model, sae, 4000).tokens.astype(np.int64))
    sae.fold_W_dec_norm()
    x = cache_sites(model, tokens, [str(sae.cfg.metadata.hook_name)])
    site = next(iter(x.values()))[:, 1:].flatten(0, 1).flatten(1)
    pre = (site - sae.b_dec) @ sae.W_enc + sae.b_enc
    config = JumpReLUSAEConfig(
        d_in=sae.cfg.d_in,
        d_sae=sae.cfg.d_sae,
        metadata=sae.cfg.metadata,
        reshape_activations=sae.cfg.reshape_activations,
    )
    made = JumpReLUSAE(config)
    made.load_state_dict(
        {
            **{it: getattr(sae, it).clone() for it in ("W_enc", "W_dec", "b_enc", "b_dec")},
            "threshold": torch.full(
                (sae.cfg.d_sae,), float(pre.flatten().topk(sae.cfg.k * len(pre)).values[-1])
            ),
        }
    )
    return made.requires_grad_(False)


@cache
def right_threshold_sae(name: str) -> SAE:
    """A `threshold_sae` that is not warned about; not to be changed."""
    sae = threshold_sae(name)
    model = load_model(DEMO / "models" / "docs-small", device="cpu")
    assert check_fit(model, sae, docs(model, sae), with_loss=False).warnings == ()
    return sae


@pytest.mark.parametrize(
    ("name", "read_at", "fits"),
    [
        (RESID, "blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"),
        (RESID, "blocks.3.hook_resid_pre", "blocks.2.hook_resid_pre"),
        (RESID, "blocks.2.hook_resid_mid", "blocks.2.hook_resid_pre"),
        (RESID, "blocks.1.hook_resid_mid", "blocks.2.hook_resid_pre"),
        (RESID, "blocks.2.hook_mlp_out", "blocks.2.hook_resid_pre"),
        (
            "docs-small-res/blocks.3.hook_resid_post",
            "blocks.3.hook_resid_pre",
            "blocks.3.hook_resid_post",
        ),
        (
            "docs-small-res/blocks.1.hook_resid_pre",
            "blocks.0.hook_resid_pre",
            "blocks.1.hook_resid_pre",
        ),
        ("docs-small-hook-z/blocks.1.hook_z", "blocks.2.attn.hook_z", "blocks.1.attn.hook_z"),
        ("docs-small-hook-z/blocks.2.hook_z", "blocks.1.attn.hook_z", "blocks.2.attn.hook_z"),
    ],
)
@pytest.mark.parametrize("thresholds", [False, True])
def test_a_shifted_one_is_named(
    demo: Model, name: str, read_at: str, fits: str, thresholds: bool
) -> None:
    # That the shipped ones are not warned about as they are is the first test here.
    sae = copy.deepcopy(right_threshold_sae(name)) if thresholds else shipped(name)
    tokens = docs(demo, sae)
    sae.cfg.metadata.hook_name = read_at
    (warning,) = check_fit(demo, sae, tokens, with_loss=False).warnings
    assert f"fits better at {fits}" in warning or f"(the same as {fits})" in warning
    assert (
        'as it is read now (compared on 512 tokens). If it is yours, put "hook_name": "' in warning
    )


@pytest.mark.parametrize("name", [RESID, "docs-small-hook-z/blocks.1.hook_z"])
def test_missing_bos_is_named(demo: Model, name: str) -> None:
    sae = shipped(name)
    sae.cfg.metadata.prepend_bos = False
    tokens = docs(demo, sae)
    assert (tokens.tokens[:, 0] != demo.tokenizer.bos_token_id).all()
    (warning,) = check_fit(demo, sae, tokens, with_loss=False).warnings
    assert "fits better on text with BOS in front (prepend_bos)" in warning
    assert 'put "prepend_bos": true into its cfg.json, or in formats other than' in warning


@pytest.mark.parametrize(
    ("name", "scale"),
    [(RESID, 8.0), ("docs-small-hook-z/blocks.1.hook_z", None), (RESID, 1 / 16)],
)
def test_a_dropped_normalisation_is_named(demo: Model, name: str, scale: float | None) -> None:
    """The weights of an SAE that was trained on s·x, with a config that does not say so."""
    sae = shipped(name)
    tokens = docs(demo, sae)
    by_norm = scale is None
    if scale is None:
        site = str(sae.cfg.metadata.hook_name)
        ids = torch.from_numpy(tokens.tokens.astype(np.int64))
        x = cache_sites(demo, ids, [site])[site].flatten(2)[torch.from_numpy(tokens.mask)]
        scale = 256**0.5 / float(x.norm(dim=-1).mean())
    sae.W_enc /= scale
    sae.W_dec *= scale
    sae.b_dec *= scale
    (warning,) = check_fit(demo, sae, tokens, with_loss=False).warnings
    assert f"with its input multiplied by {scale:.2g}" in warning or by_norm
    assert not by_norm or "which makes its mean norm √256" in warning
    remedy = 'put "normalize_activations": "expected_average_only_in" into its cfg.json'
    assert (remedy in warning) == by_norm
    assert ("see how its input was scaled" in warning) != by_norm


def test_declared_l0(demo: Model) -> None:
    sae = shipped(RESID)
    tokens = docs(demo, sae, 600)
    assert check_fit(demo, sae, tokens, declared_l0=50.0).warnings == ()
    for declared in (61.0, 6.0):
        (warning,) = check_fit(demo, sae, tokens, declared_l0=declared).warnings
        assert f"20 latents are active per token, where {declared:.3g} were declared" in warning
        assert "None of the neighbouring sites" in warning


def test_random_weights(demo: Model) -> None:
    sae = make_sae("standard", d_in=256, d_sae=512, hook_name="blocks.2.hook_resid_pre")
    (warning,) = check_fit(demo, sae, docs(demo, sae, 600)).warnings
    assert "further from blocks.2.hook_resid_pre than the mean is" in warning


@pytest.mark.parametrize(
    "words",
    [
        "the " * 400,
        "1 2 1 2 1 2 " * 100,
        "A short text.",
        "x",
        "-\n\n\n    \n\n" * 60,
        "def f(x):\n    return x\n\n" * 60,
    ],
)
def test_short_and_sparse_texts_raise_no_alarm(demo: Model, words: str) -> None:
    for name in (RESID, "docs-small-hook-z/blocks.3.hook_z"):
        sae = shipped(name)
        check = check_fit(demo, sae, text(demo, sae, words), declared_l0=20.0)
        assert check.warnings == ()
        assert len(check.notes) <= 1


def test_little_text_is_not_judged(demo: Model) -> None:
    sae = shipped(RESID)
    sae.cfg.metadata.hook_name = "blocks.3.hook_resid_pre"
    check = check_fit(demo, sae, text(demo, sae, "A short text."))
    assert check.warnings == ()
    assert "too few to judge" in check.notes[0]


def test_nothing_active(demo: Model) -> None:
    sae = shipped(RESID)
    sae.b_enc.fill_(-1e6)
    check = check_fit(demo, sae, docs(demo, sae, 600))
    assert (check.l0.value, check.dead_fraction) == (0.0, 1.0)
    assert check.warnings[0].startswith("No latent is active at any of 600 tokens: this SAE is")


def test_no_variance(tiny_model: Model) -> None:
    """A site that holds the same everywhere: one token, over and over, before any attention."""
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name="hook_embed")
    tokens = TokenSet.from_rows(torch.full((8, 40), 7))
    check = check_fit(tiny_model, sae, tokens)
    assert check.fvu is None
    assert check.warnings == ()
    assert (check.loss_recovered is None) == any("cannot be told" in it for it in check.notes)
    assert FitCheck.from_json(json.loads(json.dumps(check.to_json()))).fvu is None


def test_nan_is_a_sentence(tiny_gpt2_dir: Path) -> None:
    model = load_model(tiny_gpt2_dir, device="cpu")
    model.blocks[0].mlp.W_out.data[0, 0] = float("nan")
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name="blocks.1.hook_resid_pre")
    with pytest.raises(ValueError, match="hold NaN or infinity; load the model in float32"):
        check_fit(model, sae, TokenSet.from_rows(torch.randint(4, 290, (4, 40))))


def test_a_transcoder_is_held_against_what_it_predicts(tiny_model: Model) -> None:
    """One that predicts nothing explains nothing; one fitted to the MLP's output explains it."""
    site, out = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
    sae = make_sae(
        "transcoder", d_in=32, d_sae=64, hook_name=site, hook_name_out=out, model_name="m"
    )
    ids = torch.randint(4, 290, (16, 60), generator=torch.Generator().manual_seed(0))
    tokens = TokenSet.from_rows(ids)
    found = cache_sites(tiny_model, ids, [site, out])
    x, y = found[site].flatten(0, 1), found[out].flatten(0, 1)
    latents = (x @ sae.W_enc + sae.b_enc).relu()
    design = torch.cat([latents, torch.ones(len(latents), 1)], 1)
    solution = torch.linalg.lstsq(design, y).solution
    sae.W_dec.copy_(solution[:-1])
    sae.b_dec.copy_(solution[-1])
    check = check_fit(tiny_model, sae, tokens)
    assert (check.hook_name, check.hook_name_out) == (site, out)
    fvu = float((design @ solution - y).pow(2).sum() / (y - y.mean(0)).pow(2).sum())
    assert check.fvu is not None
    assert check.fvu.value == pytest.approx(fvu, rel=1e-3)
    assert check.warnings == ()
    sae.cfg.metadata.hook_name_out = "blocks.1.hook_attn_out"
    (warning,) = check_fit(tiny_model, sae, tokens).warnings
    assert f"fits better with {out}" in warning


def test_a_layer_that_writes_elsewhere_is_not_judged_by_what_it_writes(tiny_model: Model) -> None:
    sae = make_sae(
        "transcoder",
        d_in=32,
        d_sae=64,
        hook_name="blocks.1.hook_resid_mid",
        hook_name_out="blocks.1.hook_mlp_out",
    )
    tokens = TokenSet.from_rows(torch.randint(4, 290, (16, 60)))
    check = check_fit(tiny_model, sae, tokens, reconstructs=False)
    assert (check.fvu, check.loss_recovered, check.own, check.warnings) == (None, None, None, ())
    assert check.l0.value > 0


@pytest.mark.parametrize("architecture", ["jumprelu", "gated", "topk", "standard"])
def test_all_architectures(tiny_model: Model, architecture: str) -> None:
    for hook in ("blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"):
        sae = make_sae(architecture, d_in=32, d_sae=64, hook_name=hook)
        tokens = TokenSet.from_rows(torch.randint(4, 290, (16, 60)))
        check = check_fit(tiny_model, sae, tokens)
        assert check.own is not None
        assert len(check.alternatives) >= 3
