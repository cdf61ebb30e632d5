"""Selections of the map and the links that carry them."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from core.export import csv_bytes, parquet_bytes
from core.splitting.selection import (
    enriched_terms,
    rows_inside,
    selected_rows,
    summarise,
    token_lists,
)
from core.splitting.view import (
    COLOURS,
    DEFAULT,
    PANELS,
    PARAMETERS,
    RELATIONS,
    SEARCHES,
    WAYS,
    MapView,
    parse_view,
    to_parameters,
    with_lasso,
    with_zoom,
)


@pytest.fixture
def points() -> pd.DataFrame:
    """Two SAEs on a line, of which the left half has ` cat` among its tokens."""
    n = 40
    left = np.arange(n) < n // 2
    return pd.DataFrame(
        {
            "sae": np.where(np.arange(n) % 4 == 0, "10", "30"),
            "sae_width": np.where(np.arange(n) % 4 == 0, 10, 30),
            "latent_idx": np.arange(n),
            "umap_x": np.arange(n, dtype=np.float32),
            "umap_y": np.zeros(n, dtype=np.float32),
            "cluster": np.where(left, 0, np.where(np.arange(n) < 30, 1, -1)),
            "description": ['a, "b"\n; é'] * n,
            "top_token_strs": [
                ", ".join(map(repr, [" cat" if it else " dog", " the", f"x{i % 5}"]))
                for i, it in enumerate(left)
            ],
        },
        index=np.arange(n)[::-1],  # row numbers are positions, not index labels
    )


class TestSummary:
    def test_tables(self, points: pd.DataFrame) -> None:
        summary = summarise(points, [3, 1, 25, 1])
        assert summary.rows["row"].tolist() == [1, 3, 25]
        assert summary.rows["latent_idx"].tolist() == [1, 3, 25]
        assert summary.saes["sae"].tolist() == ["10", "30"]
        assert summary.saes["n_selected"].tolist() == [0, 3]
        assert summary.saes["n_all"].tolist() == [10, 30]
        assert summary.clusters["cluster"].tolist() == [0, 1]
        assert summary.clusters["share"].tolist() == [2 / 20, 1 / 10]

    def test_enriched_tokens_lead(self, points: pd.DataFrame) -> None:
        tokens = summarise(points, range(12)).tokens
        assert tokens["term"][0] == " cat"
        assert tokens["p_value"].is_monotonic_increasing
        assert " dog" not in set(tokens["term"])
        the = tokens.set_index("term").loc[" the"]
        assert (the["p_value"], the["n_selected"], the["n_all"]) == (1, 12, 40)

    def test_empty_selection_and_no_texts(self, points: pd.DataFrame) -> None:
        empty = summarise(points, [])
        assert empty.rows.empty
        assert empty.tokens.empty
        assert empty.clusters.empty
        bare = points[["sae", "sae_width", "latent_idx", "umap_x", "umap_y"]]
        assert summarise(bare, [0]).tokens.empty
        with pytest.raises(ValueError, match="rows 0 to 39"):
            summarise(points, [40])

    @given(seed=st.integers(0, 1000), n_selected=st.integers(1, 29))
    @settings(max_examples=40)
    def test_enrichment_equals_fishers_exact_test(self, seed: int, n_selected: int) -> None:
        rng = np.random.default_rng(seed)
        terms = rng.integers(-1, 6, (30, 4))
        selected = np.zeros(30, dtype=bool)
        selected[rng.permutation(30)[:n_selected]] = True
        table = enriched_terms(terms, selected, min_selected=1).set_index("term")
        has = {term: (terms == term).any(axis=1) for term in range(6)}
        assert set(table.index) == {term for term, it in has.items() if it[selected].any()}
        for term, row in table.iterrows():
            inside, outside = has[term][selected], has[term][~selected]
            counts = [
                [inside.sum(), (~inside).sum()],
                [outside.sum(), (~outside).sum()],
            ]
            assert row["p_value"] == pytest.approx(fisher_exact(counts, "greater").pvalue)
            assert row["share_selected"] == inside.mean()
            (a, b), (c, d) = np.array(counts) + 0.5
            assert row["log2_odds"] == pytest.approx(math.log2(a * d / (b * c)))
            assert row["q_value"] >= row["p_value"] - 1e-12

    def test_ids_and_strings_agree(self) -> None:
        rng = np.random.default_rng(0)
        ids = rng.integers(0, 9, (50, 3))
        names = np.array([f"t{i}" for i in range(9)], dtype=object)
        selected = rng.random(50) < 0.4
        by_id, by_name = enriched_terms(ids, selected), enriched_terms(names[ids], selected)
        assert [f"t{i}" for i in by_id["term"]] == by_name["term"].tolist()
        assert by_id["p_value"].tolist() == by_name["p_value"].tolist()
        with pytest.raises(ValueError, match="a row for each"):
            enriched_terms(ids, selected[:-1])

    @given(st.lists(st.lists(st.text(max_size=4), max_size=4), max_size=6))
    def test_token_texts_are_read_back(self, tokens: list[list[str]]) -> None:
        lists = token_lists([", ".join(map(repr, row)) for row in tokens])
        for given_row, row in zip(tokens, lists, strict=True):
            assert list(row[: len(given_row)]) == given_row
            assert set(row[len(given_row) :]) <= {""}

    def test_unreadable_token_texts(self) -> None:
        lists = token_lists(["", float("nan"), r"'\x', 'a'"])  # type: ignore[list-item]
        assert lists.tolist() == [["", ""], ["", ""], ["\\x", "a"]]


class TestEvents:
    def test_each_point_once_and_none_of_another_map(self) -> None:
        event = [
            *({"customdata": 5}, {"customdata": [3]}, {"customdata": 5}, {"customdata": 99}),
            *({"customdata": None}, {}, {"customdata": "7"}, {"customdata": -1}),
            {"customdata": 4.0},
        ]
        assert selected_rows(event, 10).tolist() == [3, 4, 5]
        assert selected_rows([], 10).tolist() == []

    def test_rows_inside_a_concave_lasso(self) -> None:
        # A U: the notch between its arms is outside.
        corners = [(0, 0), (6, 0), (6, 6), (4, 6), (4, 2), (2, 2), (2, 6), (0, 6)]
        grid = np.stack(np.meshgrid(np.arange(-1, 8) + 0.5, np.arange(-1, 8) + 0.5), -1)
        table = pd.DataFrame(grid.reshape(-1, 2), columns=["umap_x", "umap_y"])
        x, y = table["umap_x"], table["umap_y"]
        box = (x > 0) & (x < 6) & (y > 0) & (y < 6)
        notch = (x > 2) & (x < 4) & (y > 2)
        assert rows_inside(table, corners).tolist() == np.flatnonzero(box & ~notch).tolist()
        assert rows_inside(table, corners[::-1]).tolist() == rows_inside(table, corners).tolist()
        assert rows_inside(table, [(0, 6), (6, 0)]).tolist() == np.flatnonzero(box).tolist()
        assert rows_inside(table, []).tolist() == []


class TestDownloads:
    def test_csv_and_parquet_read_back(self, points: pd.DataFrame) -> None:
        table = points.reset_index(drop=True)
        from_csv = pd.read_csv(
            io.BytesIO(csv_bytes(table)), dtype={"sae": str}, float_precision="round_trip"
        )
        from_parquet = pd.read_parquet(io.BytesIO(parquet_bytes(table)))
        pd.testing.assert_frame_equal(from_parquet, table, check_column_type=False)
        for column in table:
            assert from_csv[column].tolist() == table[column].tolist()


labels = st.text(min_size=1, max_size=12)
coordinates = st.floats(-1000, 1000).map(lambda value: round(value, 3) + 0.0)


@st.composite
def views(draw: st.DrawFn) -> MapView:
    saes = tuple(dict.fromkeys(draw(st.lists(labels, max_size=4))))
    chosen_label = draw(st.sampled_from(saes) if saes else labels)
    colour = draw(st.sampled_from(COLOURS))
    low = sorted(draw(st.lists(coordinates, min_size=2, max_size=2, unique=True)))
    high = sorted(draw(st.lists(coordinates, min_size=2, max_size=2, unique=True)))
    corners = draw(st.lists(st.tuples(coordinates, coordinates), max_size=64))
    return MapView(
        saes=saes,
        n_neighbors=draw(st.integers(2, 1000)),
        min_dist=draw(st.floats(0, 1)),
        clusters=draw(st.booleans()) or colour == "cluster",
        n_neighbors_cluster=draw(st.integers(2, 1000)),
        min_dist_cluster=draw(st.floats(0, 1)),
        min_cluster_size=draw(st.integers(2, 100_000)),
        seed=draw(st.integers(0, 2**31 - 1)),
        hide_dead=draw(st.booleans()),
        colour=colour,
        chosen=draw(st.none() | st.tuples(st.just(chosen_label), st.integers(0, 2**31 - 1))),
        zoom=draw(st.none() | st.just((low[0], low[1], high[0], high[1]))),
        lasso=tuple(corners) if len(corners) > 1 else (),
        search=draw(st.text(max_size=500)),
        search_by=draw(st.sampled_from(SEARCHES)),
        panel=draw(st.sampled_from(PANELS)),
        related_by=draw(st.sampled_from(RELATIONS)),
        found_through=draw(st.sampled_from(WAYS)),
    )


class TestLinks:
    @pytest.mark.slow
    @given(view=views())
    @settings(max_examples=200)
    def test_round_trip(self, view: MapView) -> None:
        parameters = to_parameters(view)
        assert set(parameters) <= set(PARAMETERS)
        assert all(isinstance(text, str) and text for text in parameters.values())
        parsed = parse_view(parameters)
        assert parsed.problems == ()
        assert parsed.view == view

    def test_default_needs_no_parameter(self) -> None:
        assert to_parameters(DEFAULT) == {}
        assert parse_view({}).view == DEFAULT
        assert parse_view({"model": "x", "latent": "3"}).view == DEFAULT

    def test_usual_links_are_short_and_readable(self) -> None:
        view = MapView(saes=("256", "4096"), chosen=("256", 17), colour="cluster", clusters=True)
        assert to_parameters(view) == {
            "saes": "256,4096",
            "clusters": "1",
            "colour": "cluster",
            "point": "256,17",
        }
        x = np.cos(np.linspace(0, 6, 500)) * 12.3456789
        lasso = to_parameters(with_lasso(DEFAULT, x, x))["lasso"]
        assert len(lasso) < 1000

    @pytest.mark.slow
    @given(
        parameters=st.dictionaries(
            st.sampled_from(PARAMETERS),
            st.text(max_size=30)
            | st.sampled_from(["nan", "inf", "-1", "1e400", "1_0", "٣", "1,2", ",,,", "%", "a,1"]),
        )
    )
    @settings(max_examples=300)
    def test_garbage_is_replaced_and_said(self, parameters: dict[str, str]) -> None:
        parsed = parse_view(parameters, widths={"a": 4})
        # Whatever came out is a view that a link can carry.
        again = parse_view(to_parameters(parsed.view), widths={"a": 4})
        assert again.view == parsed.view
        assert again.problems == ()
        assert all(problem.endswith(".") for problem in parsed.problems)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("saes", "a,gone"),
            ("neighbors", "1"),
            ("neighbors", "1_5"),
            ("dist", "nan"),
            ("dist", "1.5"),
            ("clusters", "yes"),
            ("cluster_size", "-3"),
            ("seed", "9" * 11),
            ("colour", "red"),
            ("point", "a,4"),
            ("point", "gone,1"),
            ("zoom", "1,0,0,1"),
            ("zoom", "0,inf,0,1"),
            ("lasso", "1,2,3"),
            ("lasso", ",".join(["1"] * 130)),
            ("search", "x" * 501),
            ("search_by", "smell"),
            ("panel", "kitchen"),
            ("related", "blood"),
            ("through", "gossip"),
        ],
    )
    def test_each_unusable_part_costs_a_sentence(self, name: str, text: str) -> None:
        parsed = parse_view({name: text, "hide_dead": "1"}, widths={"a": 4})
        assert parsed.view == MapView(hide_dead=True)
        assert len(parsed.problems) == 1
        assert name in parsed.problems[0]

    def test_chosen_point_must_be_on_the_map(self) -> None:
        parsed = parse_view({"saes": "a", "point": "b,1"}, widths={"a": 4, "b": 4})
        assert parsed.view.chosen is None
        assert "not on its map" in parsed.problems[0]

    def test_lasso_and_zoom_are_rounded_before_they_are_used(self) -> None:
        view = with_lasso(DEFAULT, [0.12345, 1, 1], [0, 0, 1.00001])
        assert view.lasso == ((0.123, 0.0), (1.0, 0.0), (1.0, 1.0))
        assert len(with_lasso(DEFAULT, range(1000), range(1000)).lasso) == 64
        assert with_lasso(view, [1], [1]).lasso == ()
        assert with_zoom(DEFAULT, (0.00049, 1, 0, 1.9996)).zoom == (0.0, 1.0, 0.0, 2.0)
        assert with_zoom(view, None).zoom is None
        with pytest.raises(ValueError, match="x from"):
            with_zoom(DEFAULT, (1, 1, 0, 1))
        with pytest.raises(ValueError, match="numbers"):
            with_lasso(DEFAULT, [0, math.nan], [0, 1])
