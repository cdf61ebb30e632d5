"""What the autointerp page shows, without Streamlit: links, requests, tables, services."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.autointerp.detection_statistics import detection_statistics
from core.autointerp.request import RunRequest, relevant, request_of_record
from core.autointerp.service import Typed, endpoint_of
from core.autointerp.tables import (
    comparison_table,
    distribution_table,
    examples_table,
    paired_difference,
)
from core.autointerp.view import (
    DEFAULT,
    LINK,
    AutointerpView,
    parse_view,
    read_latents,
    write_latents,
)
from core.corpus.documents import pasted_text


def request(**fields: object) -> RunRequest:
    view = relevant(AutointerpView(**fields))  # type: ignore[arg-type]
    corpus = pasted_text("some text")
    return RunRequest("m", ("r", "s"), "1", 7, view, corpus)


@given(st.lists(st.integers(0, 5000), unique=True, max_size=60))
def test_lists_of_latents_survive_the_link(latents: list[int]) -> None:
    assert list(read_latents(write_latents(latents))) == latents


def test_lists_are_read_as_people_type_them() -> None:
    assert read_latents("3, 7; 10-12 9") == (3, 7, 10, 11, 12, 9)
    assert write_latents([3, 7, 10, 11, 12, 9]) == "3,7,10-12,9"
    assert read_latents("") == ()
    for wrong in ("x", "3-", "-3", "9-3", "1.5", "0-5000", "1_0"):
        with pytest.raises(ValueError, match=r"latent|range"):
            read_latents(wrong)


def test_views_survive_the_link() -> None:
    view = AutointerpView(
        choose="list",
        latents=(4, 5, 6, 9),
        explainer="chat",
        judge="chat",
        chat_model="some/model",
        switches=("boosted", "thoughts"),
        scores=("fuzzing",),
        controls=False,
        act_threshold_frac=0.25,
        run="0123456789abcdef",
    )
    assert parse_view(LINK.to_parameters(view)) == (view, ())
    assert LINK.to_parameters(DEFAULT) == {}
    assert parse_view({"latents": "1-3"})[0].choose == "list"


def test_names_of_runs_depend_on_what_matters_alone() -> None:
    one = request()
    assert one.id == request(run="0123456789abcdef", chat_model="x", latents=(1, 2)).id
    assert one.id != request(seed=1).id
    assert one.id != request(explainer="chat").id
    both = request(explainer="chat", judge="chat")
    assert both.id != request(explainer="chat", judge="chat", chat_model="x").id
    assert request(scores=("generation", "simulation")).view.scores == ()
    record = {"model": "m", "release": "r", "sae": "s", "latents": [7], "service": ""}
    record["settings"] = {**vars(one.view), "switches": [], "scores": []}  # type: ignore[assignment]
    assert request_of_record(record, version="1", corpus=pasted_text("some text")).id == one.id


def test_links_to_runs_and_runs_on_disk_stay_good() -> None:
    """Another name, or another key, would have a reader run, and pay for, the same again."""
    assert request().id == "637a9b06b43c1351"
    assert request(choose="this", scores=("fuzzing",), controls=False).id == "3b9165be94d98c7b"


def test_random_latents_are_the_same_each_time() -> None:
    chosen, n = request(n_random=5, draw=3).candidates(64)
    assert n == 5
    assert len(set(chosen)) == len(chosen) == 30
    assert request(n_random=5, draw=3).candidates(64)[0] == chosen
    assert request(n_random=5, draw=4).candidates(64)[0] != chosen
    assert request(choose="this").candidates(64) == ([7], 1)
    with pytest.raises(ValueError, match="no latent 70"):
        request(choose="list", latents=(70,)).candidates(64)
    with pytest.raises(ValueError, match="no latent"):
        request(choose="list").candidates(64)


def test_a_typed_address_gets_no_key_that_was_not_typed() -> None:
    own = {"OPENAI_API_KEY": "sk-server"}
    secret = {"OPENAI_API_KEY": "sk-secret", "OPENAI_BASE_URL": "http://inside/v1"}
    typed = endpoint_of(Typed(url="http://x/v1"), "", environment=own, secrets=secret)
    assert typed is not None
    assert typed.sent_key == "none"
    kept = endpoint_of(Typed(), "big", environment=own, secrets=secret)
    assert kept is not None
    assert (kept.sent_key, kept.url, kept.model) == ("sk-secret", "http://inside/v1", "big")
    plain = endpoint_of(Typed(), "", environment=own, secrets={})
    assert plain is not None
    assert plain.sent_key == "sk-server"
    assert endpoint_of(Typed(), "", environment={}, secrets={}) is None
    with pytest.raises(ValueError, match="https://"):
        endpoint_of(Typed(url="file:///etc"), "", environment={}, secrets={})
    assert "sk-mine" not in repr(Typed(key="sk-mine"))
    assert Typed().budget.dollars is None
    assert Typed(prompt_price=1.0, dollars=2.0).budget.dollars == 2.0


def _record(scores: list[float | None]) -> dict[str, object]:
    results = {
        str(i): {
            "explanation": f"thing {i}",
            "status": "failed" if score is None else "scored",
            "error": "",
            "numbers": None if score is None else {"balanced_accuracy": score, "accuracy": score},
            "predictions": [],
            "correct seqs": [1],
        }
        for i, score in enumerate(scores)
    }
    return {
        "latents": list(range(len(scores))),
        "results": results,
        "controls": {},
        "settings": {"scores": []},
    }


def test_means_and_differences_are_those_of_the_scores() -> None:
    first, second = _record([0.5, 1.0, None, 0.75]), _record([0.5, 0.5, 0.5, 1.0])
    (row,) = distribution_table(first).to_dict("records")
    assert (row["number"], row["scored"]) == (4, 3)
    assert row["balanced_accuracy"] == pytest.approx(0.75)
    half = 1.96 * np.std([0.5, 1.0, 0.75], ddof=1) / math.sqrt(3)
    assert row["high"] - row["balanced_accuracy"] == pytest.approx(half)
    mean, low, high, n = paired_difference(comparison_table(first, second))
    assert (mean, n) == (pytest.approx(0.25 / 3), 3)
    assert low <= mean <= high


def test_the_interval_of_f1_is_that_of_drawing_examples_again() -> None:
    active = np.array([True] * 6 + [False] * 10)
    guess = np.array([True] * 4 + [False] * 2 + [False] * 9 + [True])
    found = detection_statistics(active, guess)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(4000):
        some = rng.choice(np.flatnonzero(active), 6), rng.choice(np.flatnonzero(~active), 10)
        hits, false = guess[some[0]].sum(), guess[some[1]].sum()
        drawn.append(2 * hits / (6 + hits + false))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.f1_low == pytest.approx(low, abs=0.05)
    assert found.f1_high == pytest.approx(high, abs=0.05)
    assert found.f1_low <= found.f1 <= found.f1_high


def test_marks_of_a_table_are_not_those_of_doctests() -> None:
    example = {
        "tokens": ["a", " >>>", " x", "\n", " <<"],
        "acts": [0.0, 2.0, 1.0, 0.0, 0.2],
        "threshold": 0.3,
        "active": True,
        "source": "strong",
        "marked": "a<< >>> x>>↵ <<",
    }
    table = examples_table({"scoring": [example], "predictions": [1]})
    assert table["text"].tolist() == ["a⟦ >>> x⟧↵ <<"]
