"""Quality of an SAE: figures against plain torch, planted dead and doubled latents, nulls."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sae_lens import SAE

from core.absorption import text_sites, vocabulary_sites
from core.activations.coded import coded
from core.catalog.entries import SaeEntry
from core.corpus.documents import pasted_text
from core.corpus.load import default_packing, load_token_set
from core.corpus.token_set import TokenSet
from core.jobs import JobCancelled, Progress
from core.lease import PlainLease
from core.meta_sae import edit_effect
from core.models import Model, cache_sites, run_with_replacements
from core.sae_quality import QualityConfig, decoder_geometry, measure_quality, quality_table
from core.sae_quality import figures as charts
from core.sae_quality.null import random_explained_variance
from core.sae_quality.run import QualityRequest, run_quality
from core.sae_quality.tables import quality_lines
from core.saes import decode, encode
from core.stitching import stitch
from core.store import Store
from tests.builders import make_sae

HOOK = "blocks.1.hook_resid_pre"
WORDS = (
    "The river runs under the bridges of the city. Mary gave a drink to John in 1998; who knows?"
)


def text(model: Model, sae: SAE, n: int = 400) -> TokenSet:
    packing = replace(default_packing(model, sae, context=16), max_tokens=n)
    return load_token_set(pasted_text("\n\n".join([WORDS] * 12)), model.tokenizer, packing)


def sae_of(kind: str = "jumprelu", **options: object) -> SAE:
    return make_sae(kind, d_in=32, d_sae=96, hook_name=HOOK, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk", "gated", "batchtopk"])
def test_what_is_coded_is_what_encode_and_decode_give(tiny_model: Model, kind: str) -> None:
    sae = sae_of(kind)
    x = cache_sites(tiny_model, torch.arange(40).reshape(4, 10), [HOOK])[HOOK].flatten(0, 1)
    found, dense = coded(sae, x), encode(sae, x)
    again = torch.zeros_like(dense)
    again[found.position, found.latent] = found.value
    torch.testing.assert_close(again, dense)
    torch.testing.assert_close(found.written, decode(sae, dense, like=x), rtol=1e-5, atol=1e-5)


def test_figures_of_the_text_are_those_of_plain_torch(tiny_model: Model) -> None:
    sae = sae_of()
    tokens = text(tiny_model, sae)
    found = measure_quality(PlainLease(tiny_model, [sae]), tokens)
    ids, mask = torch.from_numpy(tokens.tokens.astype(np.int64)), torch.from_numpy(tokens.mask)
    site = cache_sites(tiny_model, ids, [HOOK])[HOOK]
    x = site[mask]
    dense = sae.encode(x)
    written = sae.decode(dense)
    assert found.text.n_tokens == len(x) == 400
    assert found.text.l0.value == pytest.approx(float((dense > 0).sum(1).float().mean()))
    counts = torch.bincount((dense > 0).sum(1)).numpy()
    np.testing.assert_array_equal(found.text.l0_counts, counts)
    np.testing.assert_array_equal(found.text.firings, (dense > 0).sum(0).numpy())
    explained = 1 - (x - written).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    assert found.text.explained_variance.value == pytest.approx(float(explained), abs=1e-5)
    assert found.text.dead_fraction == float((dense == 0).all(0).float().mean())

    # Positions 4 to 7 of the rows, about their own mean.
    at = mask & (torch.arange(mask.shape[1]) >= 4) & (torch.arange(mask.shape[1]) < 8)
    some = site[at]
    error = (some - sae.decode(sae.encode(some))).pow(2).sum()
    own = 1 - error / (some - some.mean(0)).pow(2).sum()
    place = list(found.text.position_edges).index(4)
    assert found.text.position_explained[place, 0] == pytest.approx(float(own), abs=1e-5)
    assert found.text.position_tokens[place] == int(at.sum())


def test_losses_are_those_of_runs_with_the_site_replaced(tiny_model: Model) -> None:
    sae = sae_of()
    tokens = text(tiny_model, sae)
    found = measure_quality(PlainLease(tiny_model, [sae]), tokens).loss
    assert found is not None
    ids, mask = torch.from_numpy(tokens.tokens.astype(np.int64)), torch.from_numpy(tokens.mask)
    site = cache_sites(tiny_model, ids, [HOOK])[HOOK]
    mean = site[mask].mean(0)
    wide = mask[..., None]
    versions = {
        "model": site,
        "sae": torch.where(wide, sae(site), site),
        "zero": torch.where(wide, torch.zeros_like(site), site),
        "mean": torch.where(wide, mean.expand_as(site), site),
    }
    counted = mask[:, 1:]
    logits = {
        name: run_with_replacements(tiny_model, ids, {HOOK: it})[:, :-1][counted]
        for name, it in versions.items()
    }
    wanted = ids[:, 1:][counted]
    loss = {name: float(F.cross_entropy(it, wanted)) for name, it in logits.items()}
    assert found.n_tokens == int(counted.sum())
    for name, value in loss.items():
        assert getattr(found, name).value == pytest.approx(value, abs=1e-4)
    p = logits["model"].softmax(-1)
    for name in ("sae", "zero", "mean"):
        kl = (p * (logits["model"].log_softmax(-1) - logits[name].log_softmax(-1))).sum(-1).mean()
        assert getattr(found, f"kl_{name}").value == pytest.approx(float(kl), abs=1e-4)
    recovered = (loss["zero"] - loss["sae"]) / (loss["zero"] - loss["model"])
    assert found.recovered_zero.value == pytest.approx(recovered, rel=1e-2, nan_ok=True)


def test_planted_dead_and_dense_latents_are_counted(tiny_model: Model) -> None:
    sae = sae_of()
    with torch.no_grad():
        sae.b_enc[:5] = -1e4  # never
        sae.b_enc[5:12], sae.threshold[5:12] = 1e4, 0.0  # always
    found = measure_quality(PlainLease(tiny_model, [sae]), text(tiny_model, sae)).text
    assert (found.firings[:5] == 0).all()
    assert (found.rates[5:12] == 1).all()
    dense = found.dense_fraction()
    assert dense.low <= dense.value <= dense.high
    assert dense.value == pytest.approx((found.rates > 0.1).mean())
    assert found.dead_on_twice_the_text <= found.dead_fraction


def test_silent_latents_that_more_text_would_wake_are_estimated() -> None:
    """Good–Toulmin on rates that are known: close to what twice the text does."""
    from core.sae_quality.text_figures import TextFigures

    generator = np.random.default_rng(0)
    rates = 10 ** generator.uniform(-6, -1, 20_000)
    n = 5000
    first, second = (generator.binomial(n, rates) for _ in range(2))
    nothing = np.zeros(0)
    found = TextFigures(n, None, nothing, None, nothing, nothing, nothing, first)  # type: ignore[arg-type]
    truth = float((first + second == 0).mean())
    assert found.dead_fraction - truth > 0.04, "else the test could not fail"
    assert found.dead_on_twice_the_text == pytest.approx(truth, abs=0.02)


def test_geometry_of_a_tied_orthogonal_sae_and_of_doubled_rows() -> None:
    sae = make_sae("standard", d_in=32, d_sae=32, hook_name=HOOK)
    with torch.no_grad():
        sae.W_dec.copy_(2 * torch.eye(32))
        sae.W_enc.copy_(torch.eye(32))
    found = decoder_geometry(sae)
    np.testing.assert_allclose(found.norms, 2)
    assert found.encoder_cosine is not None
    assert found.encoder_null is not None
    np.testing.assert_allclose(found.encoder_cosine, 1)
    np.testing.assert_allclose(found.encoder_null, 0, atol=1e-6)
    np.testing.assert_allclose(found.neighbour, 0, atol=1e-6)
    assert np.median(found.neighbour_uniform) > 0.2
    with torch.no_grad():
        sae.W_dec[1] = 3 * sae.W_dec[0]
    doubled = decoder_geometry(sae)
    np.testing.assert_allclose(doubled.neighbour[:2], 1, atol=1e-6)
    np.testing.assert_allclose(doubled.neighbour[2:], 0, atol=1e-6)


def test_random_rows_of_the_same_covariance_have_the_same_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4000, 32, generator=generator)
    rows[:, :2] *= 30  # nearly all rows point along two coordinates
    sae = make_sae("standard", d_in=32, d_sae=4000, hook_name=HOOK)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
    found = decoder_geometry(sae)
    assert np.median(found.neighbour_gaussian) == pytest.approx(
        np.median(found.neighbour), abs=0.03
    )
    assert np.median(found.neighbour_uniform) < np.median(found.neighbour) - 0.2


def test_random_directions_explain_what_they_can() -> None:
    """One active of many directions on a line explains all; on round noise, far less."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(500, 64, generator=generator)
    few = random_explained_variance(noise, d_sae=256, l0=1)
    many = random_explained_variance(noise, d_sae=256, l0=200)
    assert 0.05 < few < 0.3 < many < 1
    with pytest.raises(ValueError, match="do not vary"):
        random_explained_variance(torch.ones(5, 8), d_sae=16, l0=2)


def test_runs_are_kept_one_by_one_and_cancelled_at_once(
    tiny_model: Model, tmp_path: object
) -> None:
    store = Store(tmp_path)  # type: ignore[arg-type]
    saes = [sae_of(), sae_of("topk", seed=1)]
    request = QualityRequest(
        "tiny", (("r", "a", ""), ("r", "b", "")), pasted_text(" ".join([WORDS] * 9)), 200
    )
    first = run_quality(
        PlainLease(tiny_model, saes[:1]), store, replace(request, saes=request.saes[:1])
    )
    both = run_quality(PlainLease(tiny_model, saes), store, request)
    assert both[0].quality.text.l0 == first[0].quality.text.l0
    np.testing.assert_array_equal(both[0].quality.text.firings, first[0].quality.text.firings)
    assert both[1].quality.text.l0.value != both[0].quality.text.l0.value
    stopped = Progress()
    stopped.cancel()
    with pytest.raises(JobCancelled):
        run_quality(
            PlainLease(tiny_model, saes, progress=stopped), Store(tmp_path / "new"), request
        )  # type: ignore[operator]


def test_tables_and_charts_hold_what_was_measured(tiny_model: Model) -> None:
    sae = sae_of()
    found = measure_quality(PlainLease(tiny_model, [sae]), text(tiny_model, sae))
    entry = SaeEntry("r", "a", "tiny", "user", width=96, l0=12.5, explained_variance=0.4)
    lines = quality_lines(found, entry).set_index("figure")
    assert lines.loc["l0", "published"] == 12.5
    assert lines.loc["explained_variance", "null"] == found.random_explained
    assert lines.loc["loss_recovered_zero", "n"] == found.loss.n_tokens  # type: ignore[union-attr]
    table = quality_table({"a": found, "b": found}, {"a": entry})
    assert list(table["latents"]) == [96, 96]
    assert table["explained_variance_published"].notna().tolist() == [True, False]
    drawn = charts.compared_figure(table, "explained_variance", by="sae", chosen="b")
    assert list(drawn.data[0].y) == [found.text.explained_variance.value] * 2
    assert len(charts.neighbour_figure(found.geometry).data) == 3
    assert sum(charts.l0_figure(found.text).data[0].y) == 400
    with pytest.raises(ValueError, match="choose another figure"):
        charts.compared_figure(table, "fame", by="sae")


def test_bad_input_is_refused_in_a_sentence(tiny_model: Model) -> None:
    sae = sae_of()
    tokens = text(tiny_model, sae)
    with pytest.raises(ValueError, match="use 0 or more"):
        QualityConfig(loss_tokens=-1)
    with pytest.raises(ValueError, match="choose a longer one"):
        measure_quality(
            PlainLease(tiny_model, [sae]), replace(tokens, mask=np.zeros_like(tokens.mask))
        )
    other = make_sae("standard", d_in=16, d_sae=40, hook_name=HOOK)
    with pytest.raises(ValueError, match=r"reads 16 numbers a position at blocks\.1"):
        measure_quality(PlainLease(tiny_model, [other]), tokens)


@pytest.mark.parametrize(
    ("d_in", "hook", "words"),
    [
        (16, "blocks.1.hook_resid_pre", "16"),
        (32, "blocks.7.hook_resid_pre", "no site"),
    ],
)
def test_an_sae_of_another_model_is_refused_by_every_part_of_the_page(
    tiny_model: Model, d_in: int, hook: str, words: str
) -> None:
    saes = [make_sae("topk", d_in=d_in, d_sae=d_sae, hook_name=hook) for d_sae in (40, 80)]
    lease = PlainLease(tiny_model, saes)
    tokens = TokenSet.from_rows(np.arange(40).reshape(4, 10) + 5)
    for measure in (
        lambda: measure_quality(lease, tokens),
        lambda: stitch(lease, tokens),
        lambda: text_sites(lease, tokens),
        lambda: vocabulary_sites(lease),
        lambda: edit_effect(lease, 0, np.ones(d_in, np.float32), "The river", tokens),
    ):
        with pytest.raises(ValueError, match=words):
            measure()
