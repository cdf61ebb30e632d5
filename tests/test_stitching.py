"""Stitching: changes of the error against inserting one by one, planted pairs, the whole curve."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sae_lens import SAE

from core.corpus.documents import pasted_text
from core.corpus.load import default_packing, load_token_set
from core.corpus.token_set import TokenSet
from core.lease import PlainLease
from core.models import Model, cache_sites, run_with_replacements
from core.stitching import StitchConfig, check_proxy, insertion_deltas, latent_table, stitch
from core.stitching.curve import STEPS
from core.stitching.run import StitchRequest, last_stitched, run_stitching
from core.stitching.tables import curve_table
from core.store import Store
from tests.builders import make_sae

HOOK = "blocks.1.hook_resid_pre"
WORDS = (
    "The river runs under the bridges of the city. Mary gave a drink to John in 1998; who knows?"
)
WHOLE = StitchConfig(min_firings=1, curve_tokens=10_000, loss_tokens=10_000)


def text(model: Model, sae: SAE, n: int = 300) -> TokenSet:
    packing = replace(default_packing(model, sae, context=16), max_tokens=n)
    return load_token_set(pasted_text("\n\n".join([WORDS] * 12)), model.tokenizer, packing)


def sae_of(kind: str, d_sae: int, seed: int = 0, **options: object) -> SAE:
    return make_sae(kind, d_in=32, d_sae=d_sae, hook_name=HOOK, seed=seed, **options)  # type: ignore[arg-type]


def inputs(model: Model, tokens: TokenSet) -> torch.Tensor:
    ids = torch.from_numpy(tokens.tokens.astype(np.int64))
    return cache_sites(model, ids, [HOOK])[HOOK][torch.from_numpy(tokens.mask)].double()


@pytest.mark.parametrize("kinds", [("jumprelu", "topk"), ("topk", "gated"), ("standard", "topk")])
def test_changes_are_those_of_inserting_one_by_one(
    tiny_model: Model, kinds: tuple[str, str]
) -> None:
    narrow, wide = sae_of(kinds[0], 40), sae_of(kinds[1], 120, seed=1)
    tokens = text(tiny_model, narrow)
    found = insertion_deltas(PlainLease(tiny_model, [narrow, wide]), tokens)
    x = inputs(tiny_model, tokens)
    written = narrow(x.float()).double()
    acts = wide.encode(x.float()).double()
    before = (x - written).pow(2).sum(1).mean()
    by_hand = [
        float(
            (x - written - acts[:, i, None] * wide.W_dec[i].double()).pow(2).sum(1).mean() - before
        )
        for i in range(120)
    ]
    np.testing.assert_allclose(found.delta, by_hand, rtol=0, atol=1e-6)
    assert np.abs(found.delta).max() > 0.01, "else nothing was tested"
    assert found.narrow_error == pytest.approx(float(before), rel=1e-5)
    np.testing.assert_array_equal(found.firings, (acts > 0).sum(0).numpy())


def test_rows_that_are_rescaled_write_what_they_write(tiny_model: Model) -> None:
    narrow, wide = sae_of("jumprelu", 40), sae_of("topk", 80, seed=1)
    wide.cfg.rescale_acts_by_decoder_norm = True
    with torch.no_grad():
        wide.W_dec.mul_(torch.linspace(0.5, 2, 80)[:, None])
    tokens = text(tiny_model, narrow)
    found = insertion_deltas(PlainLease(tiny_model, [narrow, wide]), tokens)
    x = inputs(tiny_model, tokens)
    rest = x - narrow(x.float()).double()
    acts = wide.encode(x.float())
    for latent in (3, 40, 79):
        one = torch.zeros_like(acts)
        one[:, latent] = acts[:, latent]
        alone = (wide.decode(one) - wide.b_dec).double()
        change = (rest - alone).pow(2).sum(1).mean() - rest.pow(2).sum(1).mean()
        assert found.delta[latent] == pytest.approx(float(change), abs=1e-6)


def test_what_is_planted_as_novel_and_as_repeated_is_found(tiny_model: Model) -> None:
    """The wide SAE has the narrow one's latents, and those of which the narrow one was robbed."""
    whole = sae_of("standard", 32)
    with torch.no_grad():  # orthogonal directions: each latent explains its own coordinate
        whole.W_dec.copy_(torch.eye(32))
        whole.W_enc.copy_(torch.eye(32))
        whole.b_enc.zero_()
        whole.b_dec.zero_()
    narrow = sae_of("standard", 16)
    with torch.no_grad():
        for name in ("W_dec", "b_enc"):
            getattr(narrow, name).copy_(getattr(whole, name)[:16])
        narrow.W_enc.copy_(whole.W_enc[:, :16])
        narrow.b_dec.copy_(whole.b_dec)
    tokens = text(tiny_model, narrow)
    found = stitch(PlainLease(tiny_model, [narrow, whole]), tokens, config=WHOLE)
    fired = found.deltas.firings > 0
    assert fired.sum() > 24
    assert (found.deltas.delta[:16][fired[:16]] > 0).all(), "they are in it already"
    assert (found.deltas.delta[16:][fired[16:]] < 0).all(), "it does not have them"
    proxy = check_proxy(found.cosine[fired], found.novel[fired])
    assert proxy.auc.value == 1.0
    assert (proxy.hits.value, proxy.false_alarms.value) == (1.0, 0.0)
    assert proxy.auc_null < 0.9
    # Each alone lowers the error by what it explains; with errors of other positions it does not.
    table = latent_table(found).set_index("latent")
    assert table.loc[16:, "delta"].sum() < 0 < table.loc[16:, "null_delta"].sum()
    assert table["kind"].isin(["novel", "reconstruction", "undecided", "too rare"]).all()


def test_the_curve_goes_from_the_narrow_sae_to_the_wide_one(tiny_model: Model) -> None:
    narrow, wide = sae_of("jumprelu", 40), sae_of("topk", 120, seed=1)
    tokens = text(tiny_model, narrow)
    found = stitch(PlainLease(tiny_model, [narrow, wide]), tokens, config=WHOLE)
    curve = found.curve
    assert curve is not None
    x = inputs(tiny_model, tokens)
    ids, mask = torch.from_numpy(tokens.tokens.astype(np.int64)), torch.from_numpy(tokens.mask)
    site = cache_sites(tiny_model, ids, [HOOK])[HOOK]
    for step, sae in ((0, narrow), (-1, wide)):
        error = (x - sae(x.float())).pow(2).sum(1).mean()
        assert curve.error[step, 0] == pytest.approx(float(error), rel=1e-5)
        assert curve.random_error[step] == pytest.approx(float(error), rel=1e-5)
        assert curve.l0[step] == pytest.approx(
            float((sae.encode(x.float()) > 0).sum(1).float().mean())
        )
        spliced = torch.where(mask[..., None], sae(site), site)
        logits = run_with_replacements(tiny_model, ids, {HOOK: spliced})[:, :-1]
        loss = F.cross_entropy(logits[mask[:, 1:]], ids[:, 1:][mask[:, 1:]])
        assert curve.loss is not None
        assert curve.loss[step, 0] == pytest.approx(float(loss), abs=1e-4)
    assert (curve.added[0], curve.kept[0]) == (0, 40)
    assert (curve.added[-1], curve.kept[-1]) == (120, 0)
    assert curve.added[STEPS] == found.novel.sum()
    # Half-way: the novel latents all in, nothing taken out.
    acts = wide.encode(x.float()) * torch.from_numpy(found.novel)
    error = (x - narrow(x.float()) - acts @ wide.W_dec).pow(2).sum(1).mean()
    assert curve.error[STEPS, 0] == pytest.approx(float(error), rel=1e-5)
    assert len(curve_table(curve)) == 2 * STEPS + 1


def test_undecided_latents_are_called_so(tiny_model: Model) -> None:
    """Standard errors from groups of rows are about what many texts would scatter by."""
    narrow, wide = sae_of("jumprelu", 40), sae_of("topk", 120, seed=1)
    tokens = text(tiny_model, narrow, n=150)
    found = insertion_deltas(PlainLease(tiny_model, [narrow, wide]), tokens)
    assert set(np.unique(found.surely())) <= {-1, 0, 1}
    assert (found.surely()[found.firings == 0] == 0).all()
    assert (found.spread[found.firings > 3] > 0).all()


def test_the_proxy_is_chance_where_cosines_say_nothing() -> None:
    generator = np.random.default_rng(0)
    cosine, novel = generator.uniform(0, 1, 2000), generator.random(2000) < 0.35
    found = check_proxy(cosine, novel)
    assert found.auc.low < 0.5 < found.auc.high
    assert 0.5 < found.auc_null < 0.56
    below = float((cosine[novel] < 0.7).mean())
    assert found.hits.value == pytest.approx(below)
    assert found.hits.low < 0.7 < found.hits.high
    only = check_proxy(cosine, np.ones(2000, bool))
    assert np.isnan(only.auc.value)


def test_pairs_are_kept_and_the_key_tells_texts_apart(tiny_model: Model, tmp_path: object) -> None:
    store = Store(tmp_path)  # type: ignore[arg-type]
    lease = PlainLease(tiny_model, [sae_of("jumprelu", 40), sae_of("topk", 120, seed=1)])
    corpus = pasted_text(" ".join([WORDS] * 9))
    request = StitchRequest("tiny", ("r", "a", ""), ("r", "b", ""), corpus, 200)
    first, again = run_stitching(lease, store, request), run_stitching(lease, store, request)
    np.testing.assert_array_equal(first.deltas.delta, again.deltas.delta)
    assert again.curve is not None
    prints = lease.sae_fingerprints
    assert last_stitched(store, "another", *prints) is None
    assert last_stitched(store, "tiny", *reversed(prints)) is None
    fewer = run_stitching(lease, store, replace(request, tokens=90))
    last = last_stitched(store, "tiny", *prints)
    assert last is not None
    assert (last[0].deltas.n_tokens, last[1]) == (90, corpus.name)
    assert fewer.deltas.n_tokens == 90
    assert request.key != replace(request, tokens=90).key


def test_pairs_that_cannot_be_stitched_are_refused(tiny_model: Model) -> None:
    narrow, wide = sae_of("jumprelu", 40), sae_of("topk", 120, seed=1)
    tokens = text(tiny_model, narrow)
    elsewhere = make_sae("topk", d_in=32, d_sae=120, hook_name="blocks.2.hook_resid_pre")
    scaled = sae_of("standard", 120, normalize_activations="layer_norm")
    for pair, words in (
        ([wide, narrow], "choose two widths"),
        ([narrow, narrow], "choose two widths"),
        ([narrow, elsewhere], "two SAEs of one site"),
        ([narrow, scaled], "cannot be moved into another"),
        ([narrow], "takes a narrow and a wide one"),
    ):
        with pytest.raises(ValueError, match=words):
            stitch(PlainLease(tiny_model, pair), tokens)
    with pytest.raises(ValueError, match="use 1 or more"):
        StitchConfig(min_firings=0)
    with pytest.raises(ValueError, match="a cosine lies"):
        check_proxy(np.zeros(3), np.zeros(3, bool), threshold=7)
