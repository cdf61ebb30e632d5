"""A dossier on a tiny model: parts, store, controls and numbers against plain computations."""

import numpy as np
import pytest
import torch

from core.descriptions.patterns import Pattern
from core.dossier import run
from core.dossier.conclude import conclude
from core.dossier.controls import StandInLease, drawn_latents, nearest_by_rate
from core.dossier.document import chapters
from core.dossier.export_html import dossier_html
from core.dossier.export_text import dossier_json
from core.dossier.measure import named
from core.dossier.request import PARTS, DossierRequest
from core.dossier.run import run_dossier, run_dossiers
from core.dossier.shared import Shared
from core.dossier.stored import PART, open_dossier
from core.dossier.texts import predicted, words_of_sample
from core.jobs.progress import JobCancelled, Progress
from core.lease import PlainLease
from core.models.hooks import cache_sites
from core.saes import encode
from core.store import Store
from tests.dossier_tiny import HOOK, RELEASE, corpus, little_text, tiny_saes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saes():
    return tiny_saes()


@pytest.fixture(scope="module")
def small():
    """Little text for every part."""
    patch = pytest.MonkeyPatch()
    little_text(patch)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def made(tiny_model, saes, small, tmp_path_factory):
    """The dossiers of a latent that fires and of its model, with everything that there is."""
    store = Store(tmp_path_factory.mktemp("dossier"))

    def lease_of(model, names):
        assert model in ("tiny", "tiny-it")
        return PlainLease(tiny_model, [saes[tuple(name)] for name in names])

    request = DossierRequest(
        model="tiny",
        sae=(RELEASE, "own", "1"),
        latent=0,
        corpus=corpus(1),
        tokens=3000,
        family=((RELEASE, "own", "1"), (RELEASE, "wide", "1")),
        before=(RELEASE, "before", "1"),
    )
    common = Shared(lease_of, store, request)
    latent = int(common.own.index.summary["count"].argmax())
    request = request.of(latent, (("yours", 'the word "river"'),))
    done: list[str] = []
    found = run_dossier(lease_of, store, request, shared=common, on_part=done.append)
    assert done == list(PARTS)
    return store, lease_of, request, found, common


def test_all_parts_are_made_and_shown(made) -> None:
    _, _, _, found, _ = made
    # The tiny tokenizer has no kind of tokens with twenty members.
    assert found.not_run == {
        "hides": "There is no concept to compare the latent with; read a longer text."
    }
    assert not found.missing
    for part in set(PARTS) - {"hides"}:
        for measure in found.section(part).measures:
            assert measure.title
    end = conclude(found)
    text = dossier_html(found, end)
    assert "Not computed yet" not in text
    assert text.count("Not run: There is no concept") == 2, "as a part and as a line of evidence"
    assert len(chapters(found, end)) == len(PARTS) + 2
    assert '"schema": 1' in dossier_json(found, end)
    assert {it.source for it in found.says.said} >= {"yours"}
    assert "no model" in found.says.not_said["model"]


def test_rate_and_tokens_are_those_of_a_plain_pass(made, tiny_model, saes) -> None:
    _, _, request, found, common = made
    tokens = common.own.index.token_set
    rows = torch.from_numpy(tokens.tokens.astype(np.int64))
    site = cache_sites(tiny_model, rows, [HOOK])[HOOK]
    acts = encode(saes[(RELEASE, "own")], site)[..., request.latent].to_dense()
    fires = (acts > 0).numpy() & tokens.mask
    assert found.reads.count == int(fires.sum())
    assert named(found.reads.measures, "rate").value == fires.sum() / tokens.mask.sum()
    best = np.unravel_index(int((acts.numpy() * tokens.mask).argmax()), fires.shape)
    assert found.reads.peak == pytest.approx(float(acts[best]), rel=1e-4)
    assert found.reads.top[0].activations[found.reads.top[0].peak] == pytest.approx(
        found.reads.peak, rel=1e-3
    )


def test_removal_is_what_a_plain_hook_does(made, tiny_model, saes) -> None:
    _, _, request, found, common = made
    tokens, sae = common.own.index.token_set, saes[(RELEASE, "own")]
    row = found.writes.ablation.iloc[0]
    which, position = divmod(int(row["place"]), tokens.context)
    ids = torch.from_numpy(tokens.tokens[which, : position + 1].astype(np.int64))[None]
    leading = tokens.leading(which)

    def remove(x, hook):
        acts = encode(sae, x)[..., request.latent].to_dense()
        acts[:, :leading] = 0
        return x - acts[..., None] * sae.W_dec[request.latent]

    with torch.no_grad():
        plain = tiny_model(ids)[0, -1].log_softmax(-1)
        changed = tiny_model.run_with_hooks(ids, fwd_hooks=[(HOOK, remove)])[0, -1].log_softmax(-1)
    kl = float((changed.exp() * (changed - plain)).sum())
    assert row["kl"] == pytest.approx(kl, rel=1e-2, abs=1e-6)


def test_words_of_held_out_text_are_counted_as_by_hand(made) -> None:
    from core.autointerp.rules import rule_from_text

    _, _, _, found, common = made
    sample = common.own.held_out
    words = words_of_sample(sample, common.own.index.vocabulary)
    text = " ".join(word for row in words.rows for word in row)
    assert int(predicted(rule_from_text('the word "river"'), words).sum()) == text.count("river")
    capital = Pattern("beginning", "M", 1.0, 5)
    assert int(predicted(capital, words).sum()) == text.count("Mary"), "capitals are meant"
    mine = next(it for it in found.says.said if it.source == "yours")
    assert mine.precision.n == text.count("river")


def test_controls_fire_about_as_often_and_are_kept(made) -> None:
    _, _, request, found, common = made
    purity = named(found.reads.measures, "purity")
    assert 0 < len(purity.latents) <= 19
    assert 0 < len(purity.directions) <= 19
    assert isinstance(common.random.lease, StandInLease)
    assert (
        request.latent
        not in common.near(
            common.controls("reads", lambda *_: None, PART["reads"].version), request.latent
        )["latents"]["unit"].tolist()
    )
    rates = np.array([0.001, 0.01, 0.02, 0.5])
    assert nearest_by_rate(0.015, rates, n=2).tolist() == [1, 2]
    assert nearest_by_rate(0.015, rates, n=2, leave=[1]).tolist() == [0, 2]
    assert len(drawn_latents(common.own.index.summary, n=5)) == 5


def test_firings_read_in_one_run_are_those_of_two(made, tmp_path) -> None:
    _, lease_of, request, _, common = made
    apart = Shared(lease_of, Store(tmp_path), request)
    apart.own._stand_in = lambda: None
    for name in ("sample", "held_out"):
        for together, alone in ((common.own, apart.own), (common.random, apart.random)):
            one, two = getattr(together, name).firings, getattr(alone, name).firings
            assert one.latents.nnz
            assert (one.latents != two.latents).nnz == 0, name
            assert np.array_equal(one.places, two.places)


def test_nothing_is_made_twice_and_opening_needs_no_model(made, monkeypatch) -> None:
    store, lease_of, request, found, _ = made
    for name, part in list(PART.items()):
        made_again = type(part)(_refuse, part.codec, part.version)
        monkeypatch.setitem(PART, name, made_again)
    again = run_dossier(lease_of, store, request, parts=_MADE)
    opened = open_dossier(store, request)
    for one in (again, opened):
        assert conclude(one) == conclude(found)
        assert one.versions == found.versions
    assert open_dossier(store, request.of(request.latent)).missing == ("says",)


_MADE = tuple(part for part in PARTS if part != "hides")  # what failed is tried again


def _refuse(*_):
    raise AssertionError("made again")


def test_a_batch_has_what_single_runs_have(made) -> None:
    store, lease_of, request, found, _ = made
    other = (request.latent + 1) % 48
    pair = [request, request.of(other)]
    both = run_dossiers(lease_of, store, pair, parts=("reads", "belongs"))
    assert [it.request.latent for it in both] == [request.latent, other]
    assert both[0].reads.count == found.reads.count
    with pytest.raises(ValueError, match="no latent to look at"):
        run_dossiers(lease_of, store, [])


def test_what_cannot_be_run_says_why_and_the_rest_goes_on(made, tmp_path) -> None:
    _, lease_of, request, _, common = made
    counts = common.own.index.summary["count"].to_numpy()
    dead = np.flatnonzero(counts == 0)
    if not len(dead):
        pytest.skip("every latent fires")
    found = run_dossier(lease_of, Store(tmp_path), request.of(int(dead[0])))
    assert "never fires" in found.not_run["works"]
    assert found.reads is not None
    assert conclude(found).kind == "silent"


def test_refusals_and_cancelling(made, tiny_model, saes, tmp_path) -> None:
    store, lease_of, request, _, _ = made
    with pytest.raises(ValueError, match="There is no latent 48"):
        run_dossier(lease_of, store, request.of(48))
    with pytest.raises(ValueError, match="no part 'smells'"):
        run_dossier(lease_of, store, request, parts=("smells",))
    progress, fresh = Progress(), Store(tmp_path)

    def leases(model, names):
        return PlainLease(tiny_model, [saes[tuple(it)] for it in names], progress=progress)

    def stop(part: str) -> None:
        progress.cancel()

    with pytest.raises(JobCancelled):
        run_dossier(leases, fresh, request, on_part=stop)
    assert open_dossier(fresh, request).reads is not None, "what is done is kept"
    assert "writes" in open_dossier(fresh, request).missing


def test_the_key_knows_what_the_result_depends_on() -> None:
    one = DossierRequest("m", ("r", "s", "v"), 1, corpus(1))
    assert one.key != one.of(2).key
    spoken = one.of(1, (("yours", "x"),))
    assert one.digest("says") != spoken.digest("says")
    assert one.digest("reads") == spoken.digest("reads"), "others' texts change one part alone"
    with pytest.raises(ValueError, match="too few"):
        DossierRequest("m", ("r", "s", "v"), 1, corpus(1), tokens=10)
    assert run.TITLES["reads"] == "Reads"
