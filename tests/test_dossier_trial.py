"""Hypotheses on held-out text, two latents on the same texts, and runs about the whole SAE."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.autointerp.examples import Example
from core.autointerp.roles import Evidence, Material
from core.autointerp.rules import fitting_words as predicted_in
from core.dossier import compare as comparing
from core.dossier.beside import open_beside
from core.dossier.beside_runs import make_run
from core.dossier.beside_shown import beside_blocks
from core.dossier.compare import compare, stored_comparison
from core.dossier.hypothesis import Hypothesis, predict, read_tokens
from core.dossier.measure import Measure, named
from core.dossier.request import DossierRequest
from core.dossier.scoring import explained_by_words
from core.dossier.shared import Shared
from core.dossier.trial import share_by_row, try_hypothesis, verdict_of
from core.dossier.trial_chat import try_with_chat
from core.dossier.trial_examples import activations_of, row_around
from core.dossier.trials import load_trials, save_trial
from core.lease import PlainLease
from core.llm import ChatEndpoint, ChatSession
from core.models.hooks import cache_sites
from core.prompt_latents.active import text_activations
from core.saes import encode
from core.store import Store
from tests.dossier_tiny import HOOK, RELEASE, corpus, little_text, tiny_saes
from tests.loopback_openai import GOOD_KEY, loopback_openai

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tiny_model, tmp_path_factory):
    """What a latent that fires on about a tenth of the text shares with others, and its number."""
    patch = pytest.MonkeyPatch()
    little_text(patch)
    store, saes = Store(tmp_path_factory.mktemp("trial")), tiny_saes()

    def lease_of(model, names):
        return PlainLease(tiny_model, [saes[tuple(name)] for name in names])

    request = DossierRequest(
        model="tiny",
        sae=(RELEASE, "own", "1"),
        latent=0,
        corpus=corpus(1),
        tokens=3000,
        family=((RELEASE, "own", "1"), (RELEASE, "wide", "1")),
    )
    shared = Shared(lease_of, store, request)
    rates = shared.own.held_out.firings.frequency()
    latent = int(np.abs(rates - 0.1).argmin())
    yield shared, latent, saes, lease_of
    patch.undo()


def on_held_out(shared, sae, model, latent):
    """Texts of all positions that count, and whether the latent is above a tenth of its largest
    activation on the read text, from plain passes."""

    def acts(tokens):
        rows = torch.from_numpy(tokens.tokens.astype(np.int64))
        site = cache_sites(model, rows, [HOOK])[HOOK]
        return encode(sae, site)[..., latent].to_dense().numpy()

    read, tokens = shared.own.index.token_set, shared.own.held_out.tokens
    peak = float((acts(read) * read.mask).max())
    firings = shared.own.held_out.firings
    row, position = np.divmod(firings.places, firings.context)
    return shared.own.index.vocabulary.array[firings.tokens], acts(tokens)[
        row, position
    ] > peak / 10


def test_a_set_of_tokens_is_tried_exactly(tiny, tiny_model) -> None:
    shared, latent, saes, _ = tiny
    texts, fires = on_held_out(shared, saes[(RELEASE, "own")], tiny_model, latent)
    chosen = sorted(set(texts[fires].tolist()))[:3]
    listed = ", ".join('"' + it.replace("\\", "\\\\").replace('"', '\\"') + '"' for it in chosen)
    trial = try_hypothesis(shared, latent, Hypothesis("tokens", listed), who="Ann")
    said = np.isin(texts, chosen)
    precision, recall = (named(trial.measures, name) for name in ("precision", "recall"))
    assert precision.value == pytest.approx((said & fires).sum() / said.sum())
    assert recall.value == pytest.approx((said & fires).sum() / fires.sum())
    assert (precision.n, recall.n) == (said.sum(), fires.sum())
    assert precision.low < precision.value < precision.high or precision.value in (0.0, 1.0)
    assert len(recall.latents) > 5, "random latents that fire as often"
    for row in trial.silent:
        assert row.tokens[row.peak] in chosen
    for row in trial.missed:
        assert row.tokens[row.peak] not in chosen
    strength = [row.activations[row.peak] for row in trial.missed]
    assert strength == sorted(strength, reverse=True)
    assert all(it > 0.1 * trial.peak for it in strength)
    assert len(trial.missed) > 0
    everything = ", ".join('"' + it.replace('"', '\\"') + '"' for it in set(texts.tolist()))
    every = try_hypothesis(shared, latent, Hypothesis("tokens", everything.replace("\n", "\\n")))
    assert named(every.measures, "recall").value == 1
    assert every.verdict == "like chance", "whoever names everything knows nothing"


def test_the_words_of_an_explanation_are_counted(tiny) -> None:
    shared, latent, _, _ = tiny
    found = predict(Hypothesis("explanation", 'the word "river"'), shared.own)
    text = " ".join(word for row in shared.own.words.rows for word in row)
    assert int(found.said.sum()) == len(re.findall(r"\briver\b", text))
    assert found.unit == "words"
    assert "“river”" in found.reads_as
    trial = try_hypothesis(shared, latent, Hypothesis("explanation", 'the word "river"'))
    assert named(trial.measures, "precision").n == int(found.said.sum())


def test_trials_are_kept_with_their_author(tiny, tmp_path) -> None:
    shared, latent, _, _ = tiny
    store, hypothesis = Store(tmp_path), Hypothesis("explanation", 'the word "river"')
    first = try_hypothesis(shared, latent, hypothesis, who="Ann")
    save_trial(store, "f" * 64, latent, first)
    second = replace(first, who="Ben")
    assert [it.who for it in save_trial(store, "f" * 64, latent, second)] == ["Ben", "Ann"]
    again = save_trial(store, "f" * 64, latent, replace(first, when="later"))
    assert (again[0].who, again[0].when) == ("Ann", "later")
    assert len(again) == 2, "the same trial again is one trial"
    (read, _) = load_trials(Store(tmp_path), "f" * 64, latent)
    assert read.measures == first.measures
    assert [tuple(it.tokens) for it in read.missed] == [tuple(it.tokens) for it in first.missed]
    assert load_trials(store, "e" * 64, latent) == ()


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("tokens", '"no such token at all"', "no single token"),
        ("tokens", " , ", "no token in the list"),
        ("tokens", " ", "no hypothesis"),
        ("explanation", "the and of", "names no word"),
        ("explanation", "x" * 3000, "3,000 characters"),
        ("guess", "x", "kind is 'guess'"),
    ],
)
def test_what_cannot_be_tried_says_why(tiny, kind: str, text: str, words: str) -> None:
    shared, latent, _, _ = tiny
    with pytest.raises(ValueError, match=words):
        try_hypothesis(shared, latent, Hypothesis(kind, text))


def test_tokens_are_read_with_and_without_quotation_marks(tiny) -> None:
    vocabulary = tiny[0].own.index.vocabulary
    texts = vocabulary.array.tolist()
    spaced = next(it for it in texts if it.startswith(" ") and it[1:] in texts and it[1:].isalpha())
    both, _ = read_tokens(spaced.strip(), vocabulary)
    assert sorted(vocabulary.text(int(it)) for it in both) == sorted({spaced, spaced[1:]})
    one, shown = read_tokens(f'"{spaced}"', vocabulary)
    assert [vocabulary.text(int(it)) for it in one] == [spaced]
    assert "␣" in shown


def test_intervals_know_that_places_of_one_text_are_alike() -> None:
    row_of = np.repeat(np.arange(10), 50)
    alike = row_of < 5  # whole texts right, whole texts wrong
    everywhere = np.ones(500, dtype=bool)
    value, low, high = share_by_row(alike, everywhere, row_of)
    _, alone_low, alone_high = share_by_row(alike, everywhere, np.arange(500))
    assert value == 0.5
    assert high - low > 3 * (alone_high - alone_low)
    assert np.isnan(share_by_row(alike, ~everywhere, row_of)[0])


@pytest.mark.parametrize(
    ("precision", "recall", "null", "verdict"),
    [
        (0.9, 0.9, 0.1, "fits"),
        (0.2, 0.9, 0.1, "too wide"),
        (0.9, 0.2, 0.1, "too narrow"),
        (0.2, 0.2, 0.1, "beyond chance"),
        (0.9, 0.9, 0.95, "like chance"),
        (float("nan"), 0.0, 0.1, "says nothing"),
    ],
)
def test_a_trial_comes_to_what_its_rules_say(precision, recall, null, verdict) -> None:
    measures = [
        Measure(name, name, value, value - 0.1, value + 0.1, 50, "x", latents=(null,) * 40)
        for name, value in (("precision", precision), ("recall", recall))
    ]
    assert verdict_of(measures) == verdict


def test_a_chat_model_that_sees_right_is_told_from_one_that_guesses(tiny, tmp_path) -> None:
    shared, latent, _, _ = tiny
    units = shared.own
    acts = activations_of(units.held_out, latent)
    fires = acts > 0.1 * units.whole.peak[latent]
    right = {
        "".join(row_around(units, acts, int(at), around=10).tokens) for at in np.flatnonzero(fires)
    }

    def reply(body):
        texts = re.findall(r"^(\d+)\. (.*)$", body["messages"][-1]["content"], re.MULTILINE)
        assert len(texts) <= 10
        return ", ".join(n for n, text in texts if text in right) or "None"

    with loopback_openai() as service:
        service.reply = reply
        endpoint = ChatEndpoint("judge", service.url, GOOD_KEY)
        hypothesis = Hypothesis("explanation", "what only the judge knows")
        trial = try_with_chat(
            shared, latent, hypothesis, ChatSession(endpoint, store=Store(tmp_path)), who="Ann"
        )
        asked = len(service.questions())
        again = ChatSession(endpoint, store=Store(tmp_path))
        assert try_with_chat(shared, latent, hypothesis, again).measures == trial.measures
        assert len(service.questions()) == asked, "no answer is paid for twice"
        assert trial.judge == "judge"
        recall, false = (named(trial.measures, name) for name in ("recall", "false"))
        assert recall.n == min(30, int(fires.sum()))
        assert (recall.value, false.value) == (1, 0)
        assert trial.verdict == "fits"
        assert not trial.missed
        assert not trial.silent
        service.reply = lambda body: "None"
        silent = ChatSession(endpoint, store=Store(tmp_path / "other"))
        assert try_with_chat(shared, latent, hypothesis, silent).verdict == "says nothing"


def test_two_latents_are_read_on_the_same_texts(tiny, monkeypatch) -> None:
    shared, latent, saes, lease_of = tiny
    one = shared.request.of(latent)
    wide = Shared(lease_of, shared.store, replace(one, sae=(RELEASE, "wide", "1")))
    rates = wide.own.held_out.firings.frequency()
    other = wide.request.of(int(np.abs(rates - 0.1).argmin()))
    assert stored_comparison(shared.store, one, other) is None
    found = compare(lease_of, shared.store, one, other)
    assert found.n_texts > 10
    assert found.in_place
    too = named(found.measures, "second_too")
    assert too.n == min(24, too.n)
    assert too.n > 0, "where a text stands, the latent fires in it"
    for pair in (*found.only_one, *found.only_other, *found.both):
        assert "".join(pair.one.tokens) == "".join(pair.other.tokens)
        best = max(pair.one.activations)
        assert pair.one_share == pytest.approx(best / found.peaks[0], rel=1e-5)
    differences = [it.one_share - it.other_share for it in found.only_one]
    assert differences == sorted(differences, reverse=True)
    rows = [saes[(RELEASE, name)].W_dec[n] for name, n in (("own", latent), ("wide", other.latent))]
    cosine = float(torch.nn.functional.cosine_similarity(*rows, dim=0))
    assert named(found.measures, "cosine").value == pytest.approx(cosine, rel=1e-4)
    again = stored_comparison(shared.store, one, other)
    assert [it.value for it in again.measures] == [it.value for it in found.measures]
    with pytest.raises(ValueError, match="same latent"):
        compare(lease_of, shared.store, one, one)
    monkeypatch.setattr(comparing, "_same_tokens", lambda *_: False)  # as with other tokenizers
    alone = compare(lease_of, shared.store, one, other)
    assert not alone.in_place
    pair = alone.only_one[0]
    read = text_activations(shared.lease.with_saes([0]), latent, "".join(pair.one.tokens))
    assert pair.one_share == pytest.approx(max(read.activations) / alone.peaks[0], rel=1e-4)


def test_longer_runs_stand_in_the_dossier_once_they_are_made(tiny) -> None:
    shared, latent, _, lease_of = tiny
    request = shared.request.of(latent)
    before = open_beside(shared.store, request)
    assert not before.has("map")
    (why, _) = beside_blocks("belongs", before, request, None)
    assert "not run" in why.text

    def fit(function, *args, **kwargs):
        n = len(args[0])
        points = {"points": np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)}
        labels = np.arange(n) % 3
        if function.endswith("fit_layout"):
            return points["points"]
        if function.endswith("label_clusters"):
            return labels
        return {**points, "embedding": np.zeros((n, 10), np.float32), "labels": labels}

    make_run("map", lease_of, shared.store, request, fit=fit)
    after = open_beside(shared.store, request)
    assert len(after.map) == 48 + 96
    (picture, _) = beside_blocks("belongs", after, request, None)
    assert picture.png.startswith(b"\x89PNG")
    assert "Its cluster has 48 latents" in picture.note
    with pytest.raises(ValueError, match="no run 'x'"):
        make_run("x", lease_of, shared.store, request)


class _Reader:
    """Stands in for a model: tokens are numbers of texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def to_str_tokens(self, ids: torch.Tensor) -> list[str]:
        return [self.texts[int(it)] for it in ids]


def test_a_neighbour_of_all_peaks_explains_more_than_words_of_some() -> None:
    reader = _Reader()

    def material(latent: int, *texts: tuple[str, ...]) -> Material:
        examples = [
            Example([reader.number(it) for it in text], [0.0, 2.0, 0.0], 0.2, reader)
            for text in texts
        ]
        return Material(Evidence(latent, examples))

    peaks = ["res", "res", "res", "ser", "ser", "ser", "array", "array", "one", "two"]
    prompts = material(0, *((">>>", f" {it}", f" end{n}") for n, it in enumerate(peaks)))
    others = [
        material(n, *((f"a{n}{i}", f" word{n}{i}", f" b{i}") for i in range(10)))
        for n in range(1, 8)
    ]
    found = explained_by_words(dict(enumerate([prompts, *others])))
    assert found[0].rule.kind == "after"
    assert found[0].text == 'text after ">>>"'
    assert predicted_in(found[0].rule, [">>>", "never", "seen"]) == [False, True, False]
    same = [*peaks[:8], "res", "ser"]
    covered = material(0, *((">>>", f" {it}", f" end{n}") for n, it in enumerate(same)))
    kept = explained_by_words(dict(enumerate([covered, *others])))
    assert kept[0].rule.kind == "words", "words that leave nothing out stay"
