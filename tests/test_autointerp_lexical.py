"""The offline explainer and judge: planted patterns are found, and a run needs no service."""

import numpy as np
import pytest
import torch
from sae_lens import SAE

from core.autointerp import AutoInterp, AutoInterpConfig, Example, LexicalExplainer, LexicalJudge
from core.autointerp.lexical import lexical_explanations
from core.autointerp.rules import matches, words_of
from core.corpus import TokenSet
from core.descriptions.patterns import Pattern
from core.models import Model


def example(model: Model, text: str, firing: str = "") -> Example:
    """A text in which every token of `firing`, a part of it, is active."""
    ids = model.to_tokens(text, prepend_bos=False)[0].tolist()
    strings = model.to_str_tokens(torch.tensor(ids))
    begin = text.index(firing) if firing else len(text)
    ends = np.cumsum([len(string) for string in strings])
    acts = [float(begin < end <= begin + len(firing)) if firing else 0.0 for end in ends.tolist()]
    return Example(ids, acts, 0.5, model)


def test_planted_words_are_found_and_told_apart(tiny_model: Model) -> None:
    places = ("Rome", "Oslo", "Kyiv", "Bern", "Lima")
    planted = {
        1: [example(tiny_model, f"the river in {place} is long", "river") for place in places],
        2: [
            example(tiny_model, f"I saw {n} trees in {place}", n)
            for n, place in zip(("205", "37", "482", "951", "618"), places, strict=True)
        ],
    }
    found = lexical_explanations({**planted, 3: []})
    assert found.keys() == {1, 2}
    assert "river" in found[1].text
    assert "numbers" in found[2].text
    for text, river, number in (
        ("A River runs", True, False),
        ("rivers run", False, False),
        ("in 1998 it was", False, True),
        ("nothing here", False, False),
    ):
        shown = example(tiny_model, text)
        assert matches(found[1].rule, shown) == river
        assert matches(found[2].rule, shown) == number


@pytest.mark.parametrize(
    ("pattern", "fits", "not_"),
    [
        (Pattern("word", "cat", words=("cat",)), "The CAT sat", "concat it"),
        (Pattern("words", "cat", words=("cat", "dogs")), "dogs sat", "dog sat"),
        (Pattern("beginning", "con"), "they convert", "second"),
        (Pattern("ending", "ing"), "running fast", "ingots"),
        (Pattern("inside", "ver"), "the River", "riser"),
        (Pattern("class", "numbers"), "of 12 men", "of men"),
        (Pattern("after", "np."), "call np.array(x)", "np array"),
        (Pattern("before", "of"), "some of us", "often"),
        (Pattern("topic", "sea", topic=("sea", "ship")), "a ship sails", "a shop sells"),
    ],
)
def test_each_kind_of_pattern_matches(
    pattern: Pattern, fits: str, not_: str, tiny_model: Model
) -> None:
    assert matches(pattern, example(tiny_model, fits))
    assert not matches(pattern, example(tiny_model, not_))


def test_what_has_no_pattern_fits_nothing(tiny_model: Model) -> None:
    for kind in ("mixed", "none"):
        assert not matches(Pattern(kind, "the", words=("the",)), example(tiny_model, "the"))


def test_words_are_put_together() -> None:
    assert words_of([" ri", "ver", ".", " x", "_1", "\n", "a"]) == ["river", ".", "x_1", "\n", "a"]
    assert words_of([]) == []


def test_a_whole_run_needs_no_service(
    tiny_model: Model, tiny_sae: SAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    rows = torch.randint(4, 290, (48, 33), generator=torch.Generator().manual_seed(3))
    cfg = AutoInterpConfig(
        list(range(12)), buffer=4, total_tokens=rows.numel(), scoring=True, act_threshold_frac=0.65
    )
    token_set = TokenSet.from_rows(rows)
    data = AutoInterp(cfg, tiny_model, tiny_sae, token_set).gather_data()
    offline = AutoInterp(
        cfg,
        tiny_model,
        tiny_sae,
        token_set,
        explainer=LexicalExplainer(data[0]),
        judge=LexicalJudge(),
    )
    assert offline.estimate(data).calls == 0
    results = offline.run(data=data)
    assert {result["status"] for result in results.values()} == {"scored"}
    assert offline.session.spending.calls == 0
    own = offline.run(data=data, explanations={0: 'the word "of"', 1: "some words"})
    assert own[0]["status"] == "scored"
    assert own[1]["status"] == "failed"
    assert "names no word" in own[1]["error"]
