"""Parts of the newcomer's walk: links, effects, descriptions, who waits for whom, estimates."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.activations.index_figures import recall_alive, remember_index
from core.descriptions.saved import (
    forget_user_description,
    load_user_descriptions,
    recall_offline,
    remember_offline,
    save_user_descriptions,
)
from core.descriptions.sources import DescribedSae, best_descriptions
from core.descriptions.table import OFFLINE, YOURS, Descriptions
from core.engine.fair_lock import FairLock
from core.engine.locks import waiting_words
from core.jobs import JOB_THREAD, JobManager, Progress
from core.latent.examples import ExampleRow, effects_html
from core.link import read_ranges, write_ranges
from core.splitting.colors import palette, point_colors
from core.splitting.view import DEFAULT, parse_view, to_parameters, with_picked
from core.store import Store
from core.view.markup import n_of
from pages.parts import jobs_panel

FINGERPRINT = "f" * 64


def test_ranges_are_read_as_written() -> None:
    for numbers in ((), (3,), (3, 4, 5, 9), (0, 2, 4)):
        if numbers:
            assert read_ranges(write_ranges(numbers), 0, 9) == numbers
    for wrong in ("", "5-3", "3-", "12", "a", "-1"):
        with pytest.raises(ValueError, match="whole number"):
            read_ranges(wrong, 0, 9)
    with pytest.raises(ValueError, match="more than"):
        read_ranges("0-9", 0, 9, most=5)


def test_a_lasso_is_its_latents_in_the_link() -> None:
    view = with_picked(replace(DEFAULT, saes=("a", "b,c")), {"a": [5, 3, 4], "b,c": [9]})
    assert view.picked == (("a", (3, 4, 5)), ("b,c", (9,)))
    link = to_parameters(view)
    parsed = parse_view(link, widths={"a": 6, "b,c": 10})
    assert parsed.view == view
    assert not parsed.problems
    assert len(parse_view(link, widths={"a": 5, "b,c": 10}).problems) == 1  # there is no 5
    with pytest.raises(ValueError, match="more latents than a link"):
        with_picked(view, {"a": range(0, 20_000, 2)})


def test_effects_below_the_bound_are_not_shaded_and_signs_differ() -> None:
    row = ExampleRow(["a", "b", "c", "d"], [1e-6, 0.5, -0.5, float("nan")])
    pieces = effects_html(row, least=1e-3).split("<span")
    shaded = ["background" in piece for piece in pieces[1:]]
    assert shaded == [False, True, True, False]
    colours = [piece.split("light-dark(")[1].split(")")[0] for piece in pieces[2:4]]
    assert colours[0] != colours[1]


def test_one_description_goes_and_the_others_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    forget_user_description(store, FINGERPRINT, 3, 1)  # there is none
    mine = Descriptions.from_texts(["x", "y", ""], source=YOURS, scores=[0.5, 0.7, np.nan])
    save_user_descriptions(store, FINGERPRINT, mine)
    forget_user_description(store, FINGERPRINT, 3, 1)
    left = load_user_descriptions(store, FINGERPRINT, 3)
    assert left is not None
    assert left.texts.tolist() == ["x", "", ""]
    assert left.scores[0] == pytest.approx(0.5)


def test_what_one_page_described_others_know(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert recall_offline(store, FINGERPRINT, 2) is None
    remember_offline(store, FINGERPRINT, Descriptions.from_texts(["fires", ""], source=OFFLINE))
    assert recall_offline(store, "g" * 64, 2) is None  # another SAE
    sae = DescribedSae(FINGERPRINT, 2)
    found = best_descriptions(store, {"it": sae}, published={}, offline={})["it"]
    assert found.texts.tolist() == ["fires", ""]
    assert found.sources.tolist() == [OFFLINE, ""]


def test_alive_latents_are_remembered(tmp_path: Path) -> None:
    store, key = Store(tmp_path), ("m", "r", "s", "1")
    assert recall_alive(store, key) == []
    counts = np.array([0, 3, 0, 0, 0, 0, 0, 0, 1, 0, 5])
    remember_index(store, key, pd.DataFrame({"count": counts}), 10, "text")
    assert recall_alive(store, key) == [1, 8, 10]


def test_colours_of_similarity_end_where_the_others_do() -> None:
    points = pd.DataFrame({"sae_width": [4] * 4})
    cosines = np.array([1.0, 0.3, 0.1, -0.2])
    found = point_colors(points, "similarity", cosines, palette(dark=False))
    assert found.axis is not None
    assert found.axis["cmax"] == pytest.approx(0.3)


def test_who_has_a_model_is_named() -> None:
    lock, held, go = FairLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go.wait(10)

    thread = threading.Thread(target=hold, name=f"{JOB_THREAD}Reading a text")
    thread.start()
    held.wait(10)
    assert waiting_words("gpt2", lock.owner) == "waiting for gpt2, which “Reading a text” is using"
    go.set()
    thread.join()
    assert lock.owner is None
    assert "a page is using" in waiting_words("gpt2", "ScriptRunner")


def test_a_waiting_task_says_its_place_and_what_is_in_front() -> None:
    manager, go = JobManager(max_workers=1), threading.Event()
    running = manager.submit("a", "First", lambda _: go.wait(10))
    manager.submit("b", "Second", lambda _: None)
    last = manager.submit("c", "Third", lambda _: None)
    everybody = manager.jobs()
    view = last.view()
    assert [it.title for it in jobs_panel.in_front(view, everybody)] == ["First"]
    assert "number 2 in the queue" in jobs_panel.progress_text(manager.view(last))
    told = replace(running.view(), id=99, message="waiting for m, which “First” is using")
    assert [it.title for it in jobs_panel.in_front(told, everybody)] == ["First"]
    unrelated = replace(told, message="Reading")
    assert jobs_panel.in_front(unrelated, everybody) == []
    go.set()
    assert manager.shutdown(timeout=10)


def test_the_time_left_is_that_of_all_parts() -> None:
    now = [0.0]
    progress = Progress(clock=lambda: now[0])
    progress.plan(10, 30)
    progress.update(0, 100, unit="tokens")
    now[0] = 5.0
    progress.update(50, 100, unit="tokens")
    view = progress.view()
    assert view.fraction == pytest.approx(5 / 40)
    assert view.eta_seconds == pytest.approx(35.0)
    progress.next_part()
    now[0] = 25.0
    progress.update(1, 2, unit="SAEs")
    assert progress.view().fraction == pytest.approx(25 / 40)
    assert progress.view().eta_seconds == pytest.approx(15.0)


def test_numbers_of_things() -> None:
    assert n_of(1, "latent") == "1 latent"
    assert n_of(0, "latent") == "0 latents"
    assert n_of(1000, "text") == "1,000 texts"
