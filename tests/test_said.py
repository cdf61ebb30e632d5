"""What is said of a latent: order, credit, and the explanations of autointerp's runs."""

import math
from pathlib import Path

from core.autointerp.explanations import explanations_of, runs_key
from core.autointerp.record import list_run, save_record
from core.descriptions.said import BALANCED, Said, best_first
from core.store import Store


def test_best_first_and_equal_texts_once() -> None:
    said = [
        Said("an axis", "Made offline"),
        Said("Axis words.", "Autointerp: a", 0.7, BALANCED),
        Said("in its own measure", "From Neuronpedia", 0.99),
        Said("axis  words", "Autointerp: b", 0.9, BALANCED),
        Said("mine", "Written by users", own=True),
    ]
    texts = [(one.text, one.author) for one in best_first(said)]
    assert texts == [
        ("mine", "Written by users"),
        ("axis  words", "Autointerp: b"),
        ("in its own measure", "From Neuronpedia"),
        ("an axis", "Made offline"),
    ]


def test_credit_names_author_score_interval_and_chance() -> None:
    one = Said("x", "Autointerp: explained by y", 0.85, BALANCED, 0.7, 0.95, 12)
    assert one.credit() == (
        "Autointerp: explained by y; balanced accuracy 0.85 (0.70–0.95) on 12 examples, "
        "chance is 0.5."
    )
    assert Said("x", "Made offline").credit() == "Made offline; not scored."
    assert Said("x", "From Neuronpedia", 0.5).credit() == "From Neuronpedia; score 0.50."


def test_explanations_of_all_runs_on_the_same_weights(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = runs_key(store, "weights")
    numbers = {"balanced_accuracy": 0.8, "balanced_low": 0.6, "balanced_high": 0.9, "n": 12}
    for run, weights, who, score in (
        ("a", "weights", "words", numbers),
        ("b", "weights", "a chat model", None),
        ("c", "others", "nobody", numbers),
    ):
        results = {
            "7": {"explanation": f" said by\n{who} ", "status": "scored", "numbers": score},
            "8": {"explanation": "", "status": "failed", "numbers": None},
            "9": {"explanation": "no pattern here", "status": "no pattern", "numbers": None},
        }
        record = {
            "id": run,
            "title": f"2 latents, explained by {who}, judged by words",
            "fingerprint": weights,
            "service": "",
            "results": results,
        }
        save_record(store, record)
        list_run(store, record)
    found = explanations_of(store, "weights")
    assert list(found) == [7]
    assert [one.text for one in found[7]] == ["said by a chat model", "said by words"]
    scored = found[7][1]
    assert (scored.score, scored.low, scored.high, scored.n) == (0.8, 0.6, 0.9, 12)
    assert scored.author == "Autointerp: explained by words, judged by words"
    assert math.isnan(found[7][0].score)
    assert runs_key(store, "weights") != before
