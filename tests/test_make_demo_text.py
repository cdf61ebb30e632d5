"""The demo's corpus: harvest, near-duplicates, split, tokenizer, and the trigram baseline."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.docs_corpus import Docstring, drop_near_duplicates, harvest, package_folder
from make_demo.recipe import SPECIAL_TOKENS, CorpusRecipe
from make_demo.text import build_text, encode, read_train_docstrings, train_tokenizer
from make_demo.trigram import KneserNeyTrigram

pytestmark = pytest.mark.slow


def _docs(*texts: str) -> list[Docstring]:
    return [Docstring("package", f"f{number}", text) for number, text in enumerate(texts)]


def test_harvest_reads_docstrings_without_importing(tmp_path, monkeypatch):
    package = tmp_path / "explosive"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text(
        '"""Module text that is long enough to be kept."""\nraise RuntimeError("imported")\n'
    )
    (package / "broken.py").write_text("def (:\n")
    (package / "tests" / "test_x.py").write_text('"""Text of a test, long enough as well."""\n')
    (package / "code.py").write_text(
        "class Thing:\n"
        '    """A thing that has a docstring of its own."""\n'
        "    async def run(self):\n"
        '        """Run the thing until it stops by itself."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = harvest(["explosive"], min_chars=20)
    assert [(doc.name, doc.text.split()[0]) for doc in found] == [
        ("__init__", "Module"),
        ("Thing", "A"),
        ("run", "Run"),
    ]


def test_harvest_of_an_unknown_package_names_the_remedy():
    with pytest.raises(ValueError, match="pip install no_such_package_here"):
        package_folder("no_such_package_here")


def test_harvest_order_does_not_change():
    assert harvest(["diskcache"]) == harvest(["diskcache"])


def test_near_duplicates_are_dropped_and_the_order_is_seeded():
    text = " ".join(f"word{n}" for n in range(40))
    other = " ".join(f"other{n}" for n in range(40))
    docs = _docs(text, text + " and a little more", other)
    kept = drop_near_duplicates(docs, seed=1)
    assert len(kept) == 2
    assert other in [doc.text for doc in kept]
    assert drop_near_duplicates(docs, seed=1) == kept
    assert drop_near_duplicates(docs[:1], against=docs[1:]) == []


@given(st.lists(st.text("ab ", min_size=1, max_size=40), max_size=8), st.integers(0, 3))
@settings(max_examples=50)
def test_kept_docstrings_overlap_little_with_those_before(texts, seed):
    """A second implementation, with sets of word tuples instead of hashes."""

    def shingles(text: str) -> list[tuple[str, ...]]:
        words = text.split()
        return [tuple(words[i : i + 6]) for i in range(max(1, len(words) - 5))]

    kept = drop_near_duplicates(_docs(*texts), seed=seed)
    seen: set[tuple[str, ...]] = set()
    for doc in kept:
        own = shingles(doc.text)
        assert sum(shingle in seen for shingle in own) <= 0.4 * len(own)
        seen.update(own)


@pytest.fixture(scope="module")
def tiny_corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    recipe = CorpusRecipe(
        packages=("networkx",),
        held_out_packages=("diskcache",),
        vocab_size=500,
        max_docstrings=120,
        held_out_fraction=0.1,
    )
    return folder, recipe, build_text(recipe, folder)


def test_token_files_hold_what_the_counts_say(tiny_corpus):
    folder, _, counts = tiny_corpus
    train = np.load(folder / "train.npy", allow_pickle=False)
    assert len(train) == counts["train_tokens"]
    # Every docstring starts with one BOS, which occurs nowhere else.
    assert (train == 0).sum() == counts["train_docstrings"] == len(read_train_docstrings(folder))
    assert counts["held_out_packages_tokens"] > 0


def test_tokenizer_is_reversible_and_keeps_special_tokens_whole(tiny_corpus):
    folder, recipe, _ = tiny_corpus
    docs = read_train_docstrings(folder)
    tokenizer = train_tokenizer(docs, recipe)
    ids = encode(tokenizer, docs[:1])
    assert tokenizer.decode(ids[1:].tolist(), skip_special_tokens=False) == docs[0].text
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert tokenizer.encode("a<unk>b").ids.count(1) == 1


def _slow_kneser_ney(train: list[int], vocab: int, u: int, v: int, w: int) -> float:
    """The formula of the module's docstring, word for word over sets and lists."""
    grams = list(zip(train, train[1:], train[2:], strict=False))
    types = set(grams)
    bigram_types = {(b, c) for _, b, c in types}
    left = {gram: len({a for a, b, c in types if (b, c) == gram}) for gram in bigram_types}
    unigram_counts = [sum(1 for _, c in bigram_types if c == word) for word in range(vocab)]
    p1 = 0.999 * unigram_counts[w] / len(bigram_types) + 0.001 / vocab
    total_v = sum(count for (b, _), count in left.items() if b == v)
    p2 = p1
    if total_v:
        kinds = sum(1 for b, _ in bigram_types if b == v)
        p2 = max(left.get((v, w), 0) - 0.75, 0) / total_v + 0.75 * kinds / total_v * p1
    total_uv = sum(1 for a, b, _ in grams if (a, b) == (u, v))
    if not total_uv:
        return p2
    kinds = len({c for a, b, c in types if (a, b) == (u, v)})
    return max(grams.count((u, v, w)) - 0.75, 0) / total_uv + 0.75 * kinds / total_uv * p2


def test_trigram_agrees_with_the_formula_and_sums_to_one():
    rng = np.random.default_rng(0)
    vocab = 6
    train = rng.integers(0, vocab, 60)
    model = KneserNeyTrigram(train, vocab)
    for u, v in product(range(vocab), repeat=2):
        row = np.array([model.probabilities(np.array([u, v, w]))[0] for w in range(vocab)])
        slow = [_slow_kneser_ney(train.tolist(), vocab, u, v, w) for w in range(vocab)]
        np.testing.assert_allclose(row, slow, rtol=1e-12)
        assert row.sum() == pytest.approx(1.0)


def test_trigram_prefers_text_like_its_training_text():
    train = np.array([1, 2, 3, 4, 5] * 40)
    model = KneserNeyTrigram(train, 8)
    assert model.loss(train) < 0.1
    shuffled = np.array([5, 3, 1, 4, 2] * 10)
    assert model.loss(shuffled) > np.log(5)  # worse than guessing among the five words
