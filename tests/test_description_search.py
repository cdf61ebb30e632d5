"""The search of all descriptions: what is found in the store, by words, patterns and meaning."""

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from core.autointerp.record import list_run, save_record
from core.catalog.entries import SaeEntry
from core.description_search.describe import groups_alike
from core.description_search.find import (
    LEAST_CLOSER,
    by_pattern,
    by_similarity,
    by_words,
    table_of,
    target,
)
from core.description_search.gather import Gathered, gather
from core.description_search.meaning import MeaningSpace, meaning_space, question, words_of
from core.description_search.view import LINK, FindView
from core.descriptions import Descriptions, save_user_descriptions
from core.descriptions.saved import remember_offline
from core.jobs.progress import Progress
from core.known_weights import KnownWeights, recall_weights, remember_weights
from core.lease import PlainLease
from core.neuronpedia.addresses import Source, datasets_url
from core.neuronpedia.memory import Known, Memory
from core.store import FRAME, Store
from tests.builders import train_tiny_tokenizer

LOCAL = SaeEntry("mine", "layer-1", "m", "user", layer=1, width=6, version="v1")
OTHER = SaeEntry("mine", "layer-2", "m", "user", layer=2, width=4)
HUB = SaeEntry("pub", "layer-3", "m", "hub", layer=3, width=5, neuronpedia_id="m/3-res")


def _texts(store: Store) -> None:
    """What people, a run, Neuronpedia and the offline describer say of three SAEs."""
    remember_weights(store, ("m", *LOCAL.key, "v1"), "weights", 6)
    offline = Descriptions.from_texts(
        ["the word array", "", "dates", "x", "", ""], source="offline"
    )
    remember_offline(store, "weights", offline)
    own = Descriptions.from_texts(["", "", "dates", "calendar", "", ""], source="yours")
    save_user_descriptions(store, "weights", own)
    results = {
        "0": {"explanation": "arrays of numbers", "numbers": {"balanced_accuracy": 0.8, "n": 4}},
        "9": {"explanation": "of another SAE", "numbers": None},
    }
    record = {"id": "a", "title": "1 latent, explained by words", "fingerprint": "weights"}
    save_record(store, record | {"service": "", "results": results})
    list_run(store, record)
    memory = Memory(store, Source.parse("m/3-res"), base=datasets_url())
    memory.remember(Known("digest"))
    frame = pd.DataFrame({"index": [1, 4, 7], "description": ["years", "array axes", "beyond"]})
    store.put(memory._result_key("explanations", Known("digest")), frame, FRAME)


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    store = Store(tmp_path_factory.mktemp("said"))
    _texts(store)
    return gather(store, ["base", "m"], [LOCAL, OTHER, HUB], progress=Progress())


def test_everything_that_was_said_is_gathered_by_name_and_equal_texts_once(
    gathered: Gathered,
) -> None:
    rows = {
        (int(sae), int(latent), text, who)
        for sae, latent, text, who in zip(
            gathered.sae, gathered.latent, gathered.texts, gathered.said_by, strict=True
        )
    }
    assert rows == {
        (0, 2, "dates", "users here"),  # and not again for the offline text, which is the same
        (0, 3, "calendar", "users here"),
        (0, 0, "arrays of numbers", "Autointerp: explained by words"),
        (0, 0, "the word array", "made offline"),
        (0, 3, "x", "made offline"),
        (2, 1, "years", "Neuronpedia"),
        (2, 4, "array axes", "Neuronpedia"),
    }
    assert [one.n_described for one in gathered.covered] == [3, 0, 2]
    assert (gathered.n_described, gathered.n_silent) == (5, 3 + 4 + 3)
    (scored,) = np.flatnonzero(~np.isnan(gathered.scores))
    assert gathered.texts[scored] == "arrays of numbers"
    assert gathered.scores[scored] == pytest.approx(0.8)


def test_nothing_is_gathered_of_saes_that_were_never_loaded(tmp_path: Path) -> None:
    found = gather(Store(tmp_path), ["m"], [LOCAL, HUB])
    assert (len(found.texts), found.n_described, found.n_silent) == (0, 0, 11)


def test_words_in_any_order_whole_words_first(gathered: Gathered) -> None:
    texts = gathered.texts.tolist()
    found = [texts[row] for row in by_words(texts, "ARRAY").rows]
    assert set(found) == {"the word array", "array axes", "arrays of numbers"}
    assert found[-1] == "arrays of numbers"
    assert [texts[row] for row in by_words(texts, "axes array").rows] == ["array axes"]
    assert len(by_words(texts, "array nothing").rows) == 0
    with pytest.raises(ValueError, match="The search is empty; type a word"):
        by_words(texts, "  ")


def test_patterns_run_in_re2_and_bad_ones_get_a_sentence(gathered: Gathered) -> None:
    texts = gathered.texts.tolist()
    assert {texts[row] for row in by_pattern(texts, r"^(dates|years)$").rows} == {"dates", "years"}
    with pytest.raises(ValueError, match="not a regular expression that can be searched for"):
        by_pattern(texts, "(")
    with pytest.raises(ValueError, match="look-around and back-references are not supported"):
        by_pattern(texts, "(?=a)b")


def test_a_line_leads_to_its_latent(gathered: Gathered) -> None:
    found = by_words(gathered.texts.tolist(), "array")
    table = table_of(gathered, found)
    assert list(table) == ["latent", "description", "layer", "SAE", "said by", "score", "release"]
    for line in range(len(table)):
        entry, latent = target(gathered, found, line)
        row = table.iloc[line]
        assert (entry.release, entry.sae_id, latent) == (row["release"], row["SAE"], row["latent"])
    by_meaning = by_similarity(np.linspace(-1, 1, len(gathered.texts)), np.linspace(-1, 0.5, 100))
    assert {"similarity", "closer than"} <= set(table_of(gathered, by_meaning))


def test_only_what_is_closer_than_random_pairs_is_similar() -> None:
    generator = np.random.default_rng(1)
    random = np.sort(generator.normal(0, 0.1, 10_000)).astype(np.float32)
    similarities = generator.normal(0, 0.1, 5_000).astype(np.float32)
    similarities[[7, 8]] = 0.9, 0.6
    similarities[9] = -1.0  # a text without a word
    found = by_similarity(similarities, random)
    assert found.rows[:2].tolist() == [7, 8]
    assert found.similarity is not None
    assert found.closer is not None
    assert (found.closer >= LEAST_CLOSER).all()
    for row, share in zip(found.rows, found.closer, strict=True):
        assert share == pytest.approx((random < similarities[row]).mean())
    assert found.random == pytest.approx((np.median(random), np.quantile(random, 0.95)))
    assert found.typical is not None
    assert found.typical[0] == pytest.approx(np.median(np.delete(similarities, 9)))
    unlike = by_similarity(np.full(10, -0.5), random)
    assert len(unlike.rows) == 0


TEXTS = ["cat dog", "cat cat the", "the store", "river bridges the", "dog", "", "?!", "the river"]


def _lease() -> tuple[PlainLease, Any]:
    """A model whose embeddings of the tokens of "cat" and "dog" are alike, others random."""
    tokenizer = train_tiny_tokenizer(300)
    table = torch.randn(300, 24, generator=torch.Generator().manual_seed(0))
    animals = [tokenizer.encode(f" {word}", add_special_tokens=False) for word in ("cat", "dog")]
    direction = 30 * torch.randn(24, generator=torch.Generator().manual_seed(1))
    for token in {*animals[0], *animals[1]}:
        table[token] += direction
    model: Any = SimpleNamespace(W_E=table, tokenizer=tokenizer)
    return PlainLease(model), model


def _dense(model: Any, text: str, texts: list[str]) -> np.ndarray:
    """The vector of a text before what is common is taken off, as its definition says."""
    counts = Counter(word for other in texts for word in {*words_of(other)})
    rarest = math.log(max(2, len(texts)))
    total = np.zeros(24)
    for word in {*words_of(text)}:
        ways = [model.tokenizer.encode(way, add_special_tokens=False) for way in (f" {word}", word)]
        rows = model.W_E[min(ways, key=len)] - model.W_E.mean(0)
        vector = (rows / rows.norm(dim=1, keepdim=True)).mean(0)
        weight = math.log(len(texts) / counts[word]) if word in counts else rarest
        total += weight * (vector / vector.norm()).numpy()
    length = np.linalg.norm(total)
    return total / length if length else total


@pytest.mark.parametrize("query", ["cat", "a dog by the river", "unheard"])
def test_similarities_are_the_cosines_that_their_definition_says(query: str) -> None:
    lease, model = _lease()
    space = meaning_space(lease, TEXTS)
    assert isinstance(space, MeaningSpace)
    rows = np.stack([_dense(model, text, TEXTS) for text in TEXTS])
    has_words = rows.any(axis=1)
    common = rows.sum(0) / has_words.sum()
    wanted = _dense(model, query, TEXTS) - common
    centred = rows - common
    expected = centred @ wanted / np.linalg.norm(centred, axis=1) / np.linalg.norm(wanted)
    found = space.similarities(question(lease, space, query))
    np.testing.assert_allclose(found[has_words], expected[has_words], atol=1e-5)
    assert (found[~has_words] == -1).all()


def test_alike_words_are_found_without_being_shared_and_the_null_is_of_random_pairs() -> None:
    lease, _ = _lease()
    space = meaning_space(lease, TEXTS)
    found = space.similarities(question(lease, space, "dog"))
    assert found[TEXTS.index("cat cat the")] > found[TEXTS.index("the store")] + 0.2
    assert len(space.random_pairs) == 20_000
    assert (np.diff(space.random_pairs) >= 0).all()
    usable = [row for row, text in enumerate(TEXTS) if words_of(text)]
    vectors = space.rows(usable)
    cosines = vectors @ vectors.T
    every = cosines[~np.eye(len(usable), dtype=bool)]
    assert np.mean(space.random_pairs) == pytest.approx(every.mean(), abs=0.02)
    assert len(meaning_space(lease, ["one"]).random_pairs) == 0
    with pytest.raises(ValueError, match="There is no word in the search"):
        question(lease, space, " ")


def test_weights_are_known_by_the_name_under_which_they_were_loaded(tmp_path: Path) -> None:
    store, name = Store(tmp_path), ("m", "mine", "layer-1", "v1")
    assert recall_weights(store, name) is None
    remember_weights(store, name, "first", 6)
    remember_weights(store, name, "second", 8)
    assert recall_weights(store, name) == KnownWeights("second", 8)
    assert recall_weights(store, (*name[:3], "v2")) is None


def test_saes_that_read_alike_are_described_together() -> None:
    without = SaeEntry("mine", "no-bos", "m", "user", prepend_bos=False)
    assert groups_alike([LOCAL, without, OTHER]) == [[LOCAL, OTHER], [without]]


def test_a_search_is_in_the_link() -> None:
    view = FindView("np.array, or lists", "meaning")
    assert LINK.parse(LINK.to_parameters(view)) == (view, ())
    _, problems = LINK.parse({"find": "x", "find_by": "magic"})
    assert "'magic' is none of words, pattern, meaning" in problems[0]
