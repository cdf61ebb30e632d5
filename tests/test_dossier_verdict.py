"""The verdict and the conclusion on planted numbers: each rule fires where it should, and only."""

import math

import pytest

from core.descriptions.patterns import Pattern
from core.dossier.batch import batch_table
from core.dossier.conclude import conclude
from core.dossier.measure import Measure, share, wilson
from core.dossier.result import Dossier
from core.dossier.verdict import RULES, lines_of
from core.patch_scoping.null_distribution import NullComparison
from tests.dossier_planted import (
    LOW,
    REQUEST,
    acc,
    dossier,
    hides,
    reads,
    said,
    says,
    spoken,
    works,
    writes,
)


def stands(found: Dossier) -> dict[str, str]:
    return {line.name: line.stand for line in lines_of(found)}


def test_every_rule_has_a_line_and_an_honest_latent_has_all_of_them() -> None:
    found = stands(dossier())
    assert list(found) == list(RULES)
    assert set(found.values()) == {"agrees"}
    end = conclude(dossier())
    assert (end.kind, end.count("agrees"), end.disagreement) == ("clear", 14, 0)
    assert end.misleads == ()
    assert end.sorts[0].startswith("one word: “cat”")


LIES = {
    "a pattern of its examples alone": ("examples", {"reads": reads(purity=1, kind="mixed")}),
    "a high detection score, a wrong explanation": (
        "held_out",
        {"says": says(said(precision=share("precision", "p", 3, 50, "words")))},
    ),
    "an explanation too narrow": (
        "misses",
        {"says": says(said(recall=share("recall", "r", 3, 50, "words")))},
    ),
    "an explanation no better than none": (
        "detection",
        {"says": says(said(detection=acc("detection", 0.5, 0.05)))},
    ),
    "the right text, the wrong token": (
        "tokens",
        {"says": says(said(fuzzing=acc("fuzzing", 0.48)))},
    ),
    "a neighbour's explanation": (
        "neighbours",
        {"says": says(said(neighbours=acc("neighbours", 0.45)))},
    ),
    "weak activations of another kind": ("weak", {"reads": reads(weak=0)}),
    "a logit lens unlike its examples": ("lens", {"writes": writes(on_peak=0, on_next=0)}),
    "a clear text about a neighbour": (
        "model",
        {
            "says": says(
                said(),
                said("model", "a colour", output=Measure("output", "o", 0.0, latents=(0.0,) * 40)),
                own=spoken(reading=0.0, others={"w1": 0.9, "w2": 0.1}),
            )
        },
    ),
    "descriptions that share no word": (
        "sources",
        {"says": says(said(), said("model"), said("yours"), own=spoken(), agreement=0.0)},
    ),
    "exceptions to its best kind": ("exceptions", {"hides": hides(fires=20)}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_latent_that_lies_by_one_line_is_flagged(lie: str) -> None:
    name, changed = LIES[lie]
    found = dossier(**changed)
    assert stands(found)[name] == "disagrees"
    end = conclude(found)
    assert end.count("disagrees") == 1, [line for line in end.lines if line.stand == "disagrees"]
    assert end.kind == ("contradictory" if name == "held_out" else "mostly clear")
    assert next(line.title for line in end.lines if line.name == name).lower() in end.sentence
    assert end.misleads
    assert end.change[0].startswith(next(it.title for it in end.lines if it.name == name))


SILENCES = {
    "few examples": ("examples", {"reads": reads(measures=(share("purity", "p", 4, 5, "e"),))}),
    "no better than directions": (
        "detection",
        {"says": says(said(detection=acc("detection", 0.7, directions=(0.8,) * 19)))},
    ),
    "too few words": ("held_out", {"says": says(said(precision=share("p", "p", 1, 2, "words")))}),
    "a text that words cannot judge": ("tokens", {"says": says(said(names_something=False))}),
    "a lens like any other's": ("lens", {"writes": writes(on_peak=0, kurtosis=0.1)}),
    "an output score that chance reaches": ("steering", {"writes": writes(score=0.1)}),
    "a model that says as much of anything": (
        "model",
        {
            "says": says(
                said(),
                said("model"),
                own=spoken(
                    against_null=NullComparison(
                        0.6, "unexplainable", 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
                    )
                ),
            )
        },
    ),
    "one description": ("sources", {"says": says(said(), agreement=math.nan)}),
    "no kind that fits": ("exceptions", {"hides": hides(fires=5, fit=0.15)}),
    "gradients that ablation denies": ("circuit", {"works": works(check=0.2)}),
}


@pytest.mark.parametrize("case", SILENCES)
def test_what_proves_nothing_is_silent(case: str) -> None:
    name, changed = SILENCES[case]
    assert stands(dossier(**changed))[name] == "silent"


def test_missing_parts_are_silent_and_say_why() -> None:
    nothing = Dossier(REQUEST, not_run={"works": "There is no earlier SAE."})
    lines = {line.name: line for line in lines_of(nothing)}
    assert {line.stand for line in lines.values()} == {"silent"}
    assert lines["circuit"].why == "Not run: There is no earlier SAE."
    assert lines["lens"].why == "Not computed yet."
    end = conclude(nothing)
    assert (end.kind, end.sure, end.name) == ("open", "unsure", "")
    assert nothing.missing == ("reads", "writes", "says", "belongs", "hides")


def test_dead_dense_and_random_units_are_called_what_they_are() -> None:
    dead = conclude(dossier(reads=reads(count=0)))
    assert (dead.kind, dead.sure) == ("silent", "fairly sure")
    assert "0.0003" in dead.why_sure, "the rule of three: 3 / 10,000"
    assert any("dead" in it for it in dead.warnings)
    dense = conclude(dossier(reads=reads(count=4000)))
    assert dense.kind == "dense"
    assert "40%" in dense.sentence
    chance = dossier(
        reads=reads(purity=5, kind="mixed"),
        writes=writes(on_peak=0, kurtosis=0.1, score=0.1, removed=0.05),
        says=says(said(names_something=False), agreement=math.nan),
        hides=hides(fit=0.1),
        works=works(check=0.1),
    )
    assert conclude(chance).kind == "like chance"


def test_too_few_firings_are_no_evidence() -> None:
    few = conclude(dossier(reads=reads(count=3)))
    assert (few.kind, few.sure, few.name) == ("too few", "unsure", "")
    assert "only 3 positions" in few.sentence


def test_disagreement_with_nothing_is_no_contradiction() -> None:
    nothing = dossier(
        reads=reads(purity=0, weak=6, kind="mixed"),
        writes=writes(on_peak=0, kurtosis=0.1, score=0.1, removed=0.05),
        says=says(said(names_something=False), agreement=math.nan),
        hides=hides(fit=0.1),
        works=works(check=0.1),
    )
    end = conclude(nothing)
    assert (end.kind, end.name) == ("like chance", "")
    assert stands(nothing)["examples"] == "disagrees"


def test_names_say_no_more_than_is_known() -> None:
    assert conclude(dossier(reads=reads(count=4000))).name == "", "dense"
    beside = Pattern("after", "\n>>>", 0.95, 20, ("ser", "x"), after="\n>>>")
    end = conclude(dossier(reads=reads(pattern=beside)))
    assert end.name == "after “↵>>>”"
    assert end.sorts[0] == "a neighbour: after “↵>>>”, 95% of its peaks"
    first = Pattern("after", "<|endoftext|>", 1.0, 20, ("a",))
    assert (
        conclude(dossier(reads=reads(pattern=first))).sorts[0].startswith("the first token: 100%")
    )


def test_a_batch_begins_with_those_whose_lines_disagree_most() -> None:
    lie = dossier(reads=reads(weak=0), writes=writes(on_peak=0))
    table = batch_table([dossier(), lie])
    assert table["disagree"].tolist() == [2, 0]
    assert table.loc[0, ["Logit lens", "Weak activations", "Detection"]].tolist() == ["✗", "✗", "✓"]
    assert table["disagreement"].tolist() == [pytest.approx(4 * 12 * 2 / 14**2, abs=1e-3), 0]
    assert len(table.columns) == 7 + len(RULES)


def test_sorts_have_figures() -> None:
    rows = reads().measures
    early = [share("early", "e", 90, 100, "firings") if it.name == "early" else it for it in rows]
    again = [
        share("repeats", "r", 95, 100, "firings", directions=LOW) if it.name == "repeats" else it
        for it in rows
    ]
    assert "positional: 90%" in " ".join(
        conclude(dossier(reads=reads(measures=tuple(early)))).sorts
    )
    assert "repetition: 95%" in " ".join(
        conclude(dossier(reads=reads(measures=tuple(again)))).sorts
    )
    position = conclude(dossier(reads=reads(measures=tuple(early))))
    assert position.sentence.endswith(
        "Words do not say it: positional: 90% of its firings at the start of a text."
    )
    assert "absorbed: at 30%" in " ".join(conclude(dossier(hides=hides(fires=20))).sorts)


def test_measures_know_chance() -> None:
    low, high = wilson(8, 10)
    # Newcombe 1998: 0.4902 to 0.9433.
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    it = share("a", "a", 8, 10, "x", directions=(0.1, 0.8, 0.9))
    assert it.p() == 3 / 4
    assert it.p(above=False) == 3 / 4
    assert math.isnan(it.p("latents"))
    assert math.isnan(share("a", "a", 0, 0, "x").value)
