"""The map and the tree as figures: what is drawn on top, what travels, what is said about it."""

import base64
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from core.autointerp.figure import score_figure
from core.export import SEE_THROUGH, figure_html
from core.splitting.colors import DARK, LIGHT
from core.splitting.figure import MapDrawing, map_figure, narrowest_first
from core.splitting.hover import PYTHON_STRING, hover_texts
from core.splitting.tree import SplittingTree
from core.splitting.tree_figure import tree_figure
from core.splitting.visible import labels_without_overlap, view_around


def make_points(
    widths: tuple[int, ...] = (8, 32, 128), *, texts: bool = True, seed: int = 0
) -> pd.DataFrame:
    """A shuffled table with texts of the usual lengths: 60 characters, 10 tokens of 8."""
    rng = np.random.default_rng(seed)
    n = sum(widths)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    table = pd.DataFrame(
        {
            "sae": np.repeat([str(width) for width in widths], widths),
            "sae_width": np.repeat(widths, widths),
            "latent_idx": np.concatenate([np.arange(width) for width in widths]),
            "umap_x": rng.normal(size=n).astype(np.float32) * 5,
            "umap_y": rng.normal(size=n).astype(np.float32) * 5,
            "cluster": rng.integers(-1, 30, n),
        }
    )
    if texts:
        described = ["x" + "".join(row) + "x" for row in rng.choice(letters, (1009, 58))]
        table["description"] = [described[i % 1009] for i in range(n)]
        words = ["".join(row) for row in rng.choice(letters[:-1], (997, 7))]
        picked = rng.integers(0, 997, (1013, 10))
        tokens = [", ".join(repr(" " + words[i]) for i in row) for row in picked]
        table["top_token_strs"] = [tokens[i % 1013] for i in range(n)]
    return table.sample(frac=1, random_state=seed)


def sent(figure: go.Figure) -> dict[str, Any]:
    """What the browser gets."""
    return json.loads(figure.to_json())


def numbers(array: dict[str, str]) -> np.ndarray:
    """An array that travelled as base64."""
    return np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"])


def with_points(drawing: MapDrawing) -> list[go.Scattergl]:
    return [trace for trace in drawing.figure.data if trace.hovertemplate is not None]


NODE_COLUMNS = ("sae", "sae_width", "latent_idx", "level", "parent", "weight", "chosen", "n_more")


class TestMap:
    @pytest.mark.parametrize("colour", ["width", "cluster", "similarity", "frequency"])
    def test_one_trace_for_each_sae_widest_at_the_back(self, colour: str) -> None:
        points = make_points()
        values = np.random.default_rng(0).random(len(points))
        traces = with_points(map_figure(points, colour=colour, values=values))
        assert [len(trace.x) for trace in traces] == [128, 32, 8]
        sizes = [trace.marker.size for trace in traces]
        assert sizes == sorted(sizes)
        assert len(set(sizes)) == 3
        assert all(isinstance(trace, go.Scattergl) for trace in traces)

    @pytest.mark.parametrize("colour", ["width", "cluster", "frequency"])
    def test_customdata_is_the_row_whatever_the_order(self, colour: str) -> None:
        points = make_points()
        values = np.random.default_rng(0).random(len(points))
        seen = []
        for trace in with_points(map_figure(points, colour=colour, values=values)):
            rows = points.iloc[trace.customdata]
            np.testing.assert_array_equal(trace.x, rows["umap_x"].to_numpy())
            np.testing.assert_array_equal(trace.y, rows["umap_y"].to_numpy())
            assert rows["sae"].nunique() == 1
            for heading, row in zip(trace.hovertext, rows.itertuples(), strict=True):
                assert heading.startswith(f"{row.latent_idx}: x")
            seen += list(trace.customdata)
        assert sorted(seen) == list(range(len(points)))

    def test_width_colours(self) -> None:
        for dark, colors in ((False, LIGHT), (True, DARK)):
            traces = with_points(map_figure(make_points(), dark=dark))
            assert traces[-1].marker.color == colors.narrowest
            for trace in traces[:-1]:
                red, green, blue = map(float, trace.marker.color[4:-1].split(","))
                assert green > red
                assert green > blue
            assert len({trace.marker.color for trace in traces}) == 3

    def test_high_values_are_drawn_last(self) -> None:
        points = make_points()
        values = np.random.default_rng(0).normal(size=len(points))
        values[:20] = np.nan
        drawing = map_figure(points, colour="similarity", values=values)
        for trace in with_points(drawing):
            given = values[trace.customdata]
            known = given[~np.isnan(given)]
            assert np.isnan(given[: len(given) - len(known)]).all()
            assert (np.diff(known) >= 0).all()
            # The band for unknown values lies below every known one.
            assert (trace.marker.color[: len(given) - len(known)] < np.nanmin(values)).all()
        assert any("20 of 168" in note for note in drawing.notes)

    def test_frequency_is_on_a_log_scale(self) -> None:
        points = make_points()
        values = np.full(len(points), 1e-3)
        values[0], values[1], values[2] = 1e-5, 0.1, 0
        drawing = map_figure(points, colour="frequency", values=values)
        shown = np.empty(len(points))
        for trace in with_points(drawing):
            shown[trace.customdata] = trace.marker.color
        assert shown[[0, 1, 3]] == pytest.approx([-5, -1, -3])
        assert shown[2] < -5
        bar = drawing.figure.layout.coloraxis.colorbar
        assert dict(zip(bar.ticktext, bar.tickvals, strict=True))["0.001"] == -3
        assert bar.ticktext[0] == "never"

    def test_each_cluster_has_one_colour_and_noise_the_grey(self) -> None:
        points = make_points()
        drawing = map_figure(points, colour="cluster")
        axis = drawing.figure.layout.coloraxis
        color_of: dict[int, set[str]] = {}
        for trace in with_points(drawing):
            for row, value in zip(trace.customdata, trace.marker.color, strict=True):
                share = (value - axis.cmin) / (axis.cmax - axis.cmin)
                name = next(c for at, c in reversed(axis.colorscale) if at <= share)
                color_of.setdefault(int(points["cluster"].iloc[row]), set()).add(name)
        assert all(len(names) == 1 for names in color_of.values())
        assert color_of[-1] == {LIGHT.missing}
        assert not any(LIGHT.missing in color_of[i] for i in range(30))
        assert color_of[3] != color_of[4]
        noise = np.mean(points["cluster"] == -1)
        assert any(f"{noise:.0%}" in note for note in drawing.notes)

    def test_rings_and_the_chosen_point_lie_on_top(self) -> None:
        points = make_points()
        drawing = map_figure(points, highlight={"children": [3, 5, 3], "hits": [7]}, selected=9)
        rings = drawing.figure.data[3:]
        assert [list(ring.customdata) for ring in rings] == [[3, 5], [7], [9]]
        assert [ring.hoverinfo for ring in rings] == ["skip"] * 3
        assert rings[0].marker.color != rings[1].marker.color
        np.testing.assert_array_equal(rings[2].x, points["umap_x"].iloc[[9]])

    def test_zoom_survives_redrawing_until_another_view_is_asked_for(self) -> None:
        points = make_points()
        view = (-1.0, 1.0, -2.0, 2.0)
        plain, again = map_figure(points), map_figure(points, colour="cluster")
        zoomed = map_figure(points, view=view)
        assert plain.figure.layout.uirevision == again.figure.layout.uirevision
        assert zoomed.figure.layout.uirevision != plain.figure.layout.uirevision
        assert zoomed.figure.layout.xaxis.range == view[:2]
        assert zoomed.figure.layout.yaxis.range == view[2:]
        assert zoomed.figure.layout.yaxis.scaleanchor is None  # else Plotly shows more than asked

    def test_texts_are_shown_as_they_are(self) -> None:
        points = make_points((2,))
        points["description"] = "<b>a</b> & \n b"
        points["top_token_strs"] = [r"'<a>', '\n', '\'', "] * 2
        points["sae"] = "a<br>b"
        (trace,) = with_points(map_figure(points))
        assert trace.hovertext[0][3:] == "&lt;b&gt;a&lt;/b&gt; &amp; b"
        assert trace.text[0] == "&lt;a&gt;|\\n|\\'"

    def test_two_saes_of_one_width_are_told_apart_by_label(self) -> None:
        points = make_points((4, 4))
        points["sae"] = ["a", "b"] * 4
        assert set(narrowest_first(points).values()) == {"a", "b"}
        assert set(narrowest_first(make_points((4, 1000))).values()) == {
            "4 latents",
            "1,000 latents",
        }

    def test_no_texts_and_missing_ones(self) -> None:
        (trace,) = with_points(map_figure(make_points((3,), texts=False)))
        assert sorted(trace.hovertext) == ["0", "1", "2"]
        points = make_points((3,))
        points["description"] = [None, np.nan, "text"]
        (trace,) = with_points(map_figure(points))
        assert sum(": text" in heading for heading in trace.hovertext) == 1

    def test_errors_name_the_remedy(self) -> None:
        points = make_points()
        with pytest.raises(ValueError, match="a value for each"):
            map_figure(points, colour="similarity")
        with pytest.raises(ValueError, match="no column 'umap_x'"):
            map_figure(points.drop(columns="umap_x"))
        with pytest.raises(ValueError, match="rows 0 to 167"):
            map_figure(points, selected=168)
        with pytest.raises(ValueError, match="empty"):
            map_figure(points, view=(1, 1, 0, 2))
        with pytest.raises(ValueError, match="one for each"):
            map_figure(points, descriptions=["a"])

    def test_standalone_page_needs_no_network(self) -> None:
        page = figure_html(map_figure(make_points(), dark=True).figure, title="<map>")
        assert "<title>&lt;map&gt;</title>" in page
        assert DARK.paper in page
        assert 'src="http' not in page
        assert len(page) > 1_000_000  # plotly.js itself

    @pytest.mark.parametrize(("dark", "paper"), [(True, "rgb(17,17,17)"), (False, "white")])
    def test_a_figure_that_is_see_through_on_its_page_is_readable_in_a_file(
        self, dark: bool, paper: str
    ) -> None:
        figure = score_figure({"latents": [0.5, 0.9]}, dark=dark)
        assert figure.layout.paper_bgcolor == SEE_THROUGH
        page = figure_html(figure, title="scores")
        assert f"background:{paper}" in page
        assert figure.layout.paper_bgcolor == SEE_THROUGH  # the page's own is left as it is


class TestWeight:
    def test_arrays_travel_as_binary(self) -> None:
        points = make_points((100, 40_000), texts=False)
        trace = sent(map_figure(points, colour="cluster").figure)["data"][1]
        assert [trace[key]["dtype"] for key in ("x", "y", "customdata")] == ["f4", "f4", "i4"]
        assert trace["marker"]["color"]["dtype"] == "f4"
        rows = numbers(trace["customdata"])
        np.testing.assert_array_equal(numbers(trace["x"]), points["umap_x"].to_numpy()[rows])

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("widths", "megabytes"),
        [((256, 1024, 4096, 10_752), 3), (tuple(768 * 2**i for i in range(7)), 8)],
    )
    def test_page_data_stays_under_its_limit(self, widths: tuple[int, ...], megabytes: int) -> None:
        points = make_points(widths)
        hits = range(0, len(points), 97)
        for colour in ("width", "cluster"):
            drawing = map_figure(points, colour=colour, highlight=hits, selected=5)
            size = len(drawing.figure.to_json())
            # Under the limit, and what there is used: nothing is cut without need.
            assert 0.85 * megabytes * 1e6 < size <= megabytes * 1e6
        whole = with_points(drawing)[-1].text[0].count("|") == 9
        assert whole == (len(points) < 20_000)
        assert whole == (not any("Under the mouse" in note for note in drawing.notes))

    def test_budget_is_kept_whatever_the_texts(self) -> None:
        n = 300
        for text in ("é<>&\n", "漢字", "word " * 100, "\\\"'"):
            for budget in (6_000, 20_000, 100_000):
                texts = hover_texts(range(n), [text * 3] * n, [repr(text)] * n, budget=budget)
                figure = go.Figure(go.Scattergl(hovertext=texts.headings, text=texts.tokens or []))
                assert len(figure.to_json()) - len(go.Figure(go.Scattergl()).to_json()) < (
                    budget + 100
                )

    def test_what_is_cut_is_said(self) -> None:
        n = 500
        descriptions, tokens = ["d" * 90] * n, [", ".join(["' t'"] * 10)] * n
        whole = hover_texts(range(n), descriptions, tokens, budget=10**6)
        assert (whole.description_length, whole.n_tokens) == (None, None)
        cut = hover_texts(range(n), descriptions, tokens, budget=30_000)
        assert cut.description_length is not None
        assert cut.n_tokens is not None
        assert cut.tokens is not None
        assert cut.tokens[0].count("|") + 1 == cut.n_tokens
        assert len(cut.headings[7].split(": ")[1]) == cut.description_length

    def test_tokens_are_read_as_repr_writes_them(self) -> None:
        tokens = [" a", "', '", '"', "'", "\\", "\n", "'\"", "", "é\u200b", '", "']
        found = PYTHON_STRING.findall(", ".join(map(repr, tokens)))
        assert found == [repr(token) for token in tokens]


class TestVisible:
    def test_view_around(self) -> None:
        points = make_points()
        x0, x1, y0, y1 = view_around(points, [3, 8])
        for row in (3, 8):
            assert x0 < points["umap_x"].iloc[row] < x1
            assert y0 < points["umap_y"].iloc[row] < y1
        with pytest.raises(ValueError, match="at least one"):
            view_around(points, [])

    def test_names_do_not_cover_each_other(self) -> None:
        labels = pd.DataFrame(
            {"x": [0, 0.01, 5, 90], "y": [0, 0.01, 5, 0], "text": ["first", "second", "far", "out"]}
        )
        assert labels_without_overlap(labels, (-10, 10, -10, 10))["text"].tolist() == [
            "first",
            "far",
        ]
        kept = labels_without_overlap(labels, (-10, 10, -10, 10), clear=[(5.01, 5)])
        assert kept["text"].tolist() == ["first"]
        # Zoomed in, there is room for both.
        assert labels_without_overlap(labels, (-0.02, 0.03, -0.02, 0.03))["text"].tolist() == [
            "first",
            "second",
        ]
        points = make_points()
        drawing = map_figure(points, labels=labels, view=(-10, 10, -10, 10))
        assert [it.text for it in drawing.figure.layout.annotations] == ["first", "far"]
        assert any("2 of 4" in note for note in drawing.notes)


class TestTree:
    @pytest.fixture
    def tree(self) -> SplittingTree:
        rows = [
            ("8", 8, 2, 0, -1, np.nan, False, 0),
            ("32", 32, 7, 1, 0, 0.9, True, 3),
            ("128", 128, 1, 2, 1, 0.8, False, 0),
            ("128", 128, 5, 2, 1, 0.5, False, 0),
        ]
        return SplittingTree(pd.DataFrame(rows, columns=NODE_COLUMNS), "cosine")

    def test_nodes_can_be_clicked_and_links_join_them(self, tree: SplittingTree) -> None:
        descriptions = {"32": ["<i>none</i>"] * 32}
        figure = tree_figure(tree, descriptions=descriptions, tokens={"8": ["' a'"] * 8})
        nodes = figure.data[-1]
        assert list(nodes.customdata) == [0, 1, 2, 3]
        assert isinstance(nodes, go.Scatter)
        assert nodes.y[1] == pytest.approx((nodes.y[2] + nodes.y[3]) / 2)
        assert len(set(nodes.x)) == 3
        links = figure.data[:-1]
        ends = {
            (round(float(y), 3))
            for link in links
            for y, after in zip(link.y, [*link.y[1:], 0], strict=True)
            if np.isnan(after)
        }
        assert ends == {round(float(nodes.y[row]), 3) for row in (1, 2, 3)}
        assert [it.line.width for it in links] == sorted(it.line.width for it in links)
        texts = [it.text for it in figure.layout.annotations]
        assert "&lt;i&gt;none&lt;/i&gt;" in texts[1]
        assert "+3 not shown" in texts[1]
        assert "' a'" in texts[0]

    def test_room_for_every_row(self) -> None:
        rows = [("8", 8, 0, 0, -1, np.nan, True, 0)]
        rows += [("32", 32, i, 1, 0, 0.5, False, 0) for i in range(24)]
        figure = tree_figure(
            SplittingTree(pd.DataFrame(rows, columns=NODE_COLUMNS), "cosine"), dark=True
        )
        assert figure.layout.height > 24 * 40
        assert figure.layout.paper_bgcolor == DARK.paper
        boxes = sorted((it.y0, it.y1) for it in figure.layout.shapes if it.x0 == 1)
        assert all(a[1] < b[0] for a, b in pairwise(boxes))

    def test_a_latent_alone(self) -> None:
        rows = [("8", 8, 3, 0, -1, np.nan, True, 0)]
        table = pd.DataFrame(rows, columns=NODE_COLUMNS)
        assert len(tree_figure(SplittingTree(table, "cosine")).data) == 1
        with pytest.raises(ValueError, match="no nodes"):
            tree_figure(SplittingTree(table.head(0), "cosine"))
