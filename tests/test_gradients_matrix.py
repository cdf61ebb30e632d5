"""Choosing from a gradient matrix, ordering it, drawing it and writing it out."""

import io

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from torch import Tensor

from core.gradients.heatmap import MOST_DRAWN, gradient_heatmap
from core.gradients.matrix import (
    GradientMatrix,
    filter_matrix,
    gradient_matrix,
    order_matrix,
    token_texts,
)
from core.gradients.to_latents import latent_route, token_route
from core.gradients.to_logits import logit_route
from core.models import Model
from tests.builders import make_sae


def matrix_of(values: np.ndarray, *, batch: int = 1) -> GradientMatrix:
    def axis(n: int, name: str) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "number": range(n),
                "batch": [i * batch // n for i in range(n)],
                "position": [i % 4 for i in range(n)],
                "index": [100 - i for i in range(n)],
                "token": [f" t{i % 4}" for i in range(n)],
                "value": np.linspace(1, 2, n),
                "label": [f"{name}.{100 - i}, ' t{i % 4}' ({i % 4})" for i in range(n)],
            }
        )

    n_to, n_from = values.shape
    return GradientMatrix(values, axis(n_to, "F3"), axis(n_from, "F0"), "F3", "F0")


@pytest.fixture
def matrix() -> GradientMatrix:
    return matrix_of(np.random.default_rng(0).normal(size=(8, 6)))


def test_labels(tiny_model: Model, tiny_tokens: Tensor) -> None:
    first, second = (
        make_sae("standard", d_in=32, d_sae=48, hook_name=f"blocks.{i}.{site}", seed=i)
        for i, site in enumerate(["hook_resid_pre", "attn.hook_z"])
    )
    texts = token_texts(tiny_model, tiny_tokens)
    assert [len(it) for it in texts] == [9, 9]
    route = latent_route(tiny_tokens[:1], first, second, tiny_model).route
    found = gradient_matrix(route, route.gradients(), texts[:1])
    _, position, latent = route.target_indices[3].tolist()
    assert found.targets["label"][3] == f"A1.{latent}, {texts[0][position]!r} ({position})"
    assert found.sources["label"][0].startswith("F0.")
    assert found.values.shape == (len(found.targets), len(found.sources))
    route = latent_route(tiny_tokens, first, second, tiny_model).route
    both = gradient_matrix(route, route.gradients(), texts)
    assert both.targets["label"].is_unique
    assert both.targets["label"].iloc[-1].endswith("prompt 2)")
    route = token_route(tiny_tokens[:1], first, tiny_model).route
    tokens = gradient_matrix(route, route.gradients(), texts[:1])
    assert tokens.sources["label"].tolist() == [f"{t!r} ({i})" for i, t in enumerate(texts[0])]
    route = logit_route(tiny_tokens[:1], first, tiny_model, 3).route
    names = {int(it): "word" for it in route.target_indices[:, 2]}
    logits = gradient_matrix(route, route.gradients(), texts[:1], vocabulary=names)
    assert logits.targets["label"].tolist() == ["logit 'word'"] * 3
    with pytest.raises(ValueError, match="do not belong"):
        gradient_matrix(route, torch.zeros(1, 1), texts[:1])


def test_filters(matrix: GradientMatrix) -> None:
    strong = filter_matrix(matrix, min_size=0.8)
    entries = np.abs(matrix.values[np.abs(matrix.values) >= 0.8])
    assert sorted(np.abs(strong.values[strong.values != 0])) == sorted(entries)
    assert (strong.values != 0).any(0).all()
    same, across = (filter_matrix(matrix, pairs=it) for it in ("same token", "across tokens"))
    for part, is_same in ((same, True), (across, False)):
        table = part.frame()
        assert len(table)
        assert ((table["from_position"] == table["to_position"]) == is_same).all()
    assert len(same.frame()) + len(across.frame()) == matrix.values.size
    placed = filter_matrix(matrix, from_positions=[1], to_positions=[2, 3]).frame()
    assert set(placed["from_position"]) == {1}
    assert set(placed["to_position"]) == {2, 3}
    assert not filter_matrix(matrix, min_size=99).values.size
    with pytest.raises(ValueError, match="Unknown pairs"):
        filter_matrix(matrix, pairs="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 or more"):
        filter_matrix(matrix, min_size=-1)


def test_filter_by_name(matrix: GradientMatrix) -> None:
    found = filter_matrix(matrix, pattern=r"F3\.98").frame()
    assert set(found["to_index"]) == {98}
    assert len(found) == 6
    either = filter_matrix(matrix, pattern="t2").frame()
    assert (either["from_token"].eq(" t2") | either["to_token"].eq(" t2")).all()
    label = matrix.sources["label"][4]
    described = filter_matrix(matrix, pattern="rivers", descriptions={label: "Names of Rivers"})
    assert described.sources["label"].tolist() == [label]
    assert not filter_matrix(matrix, pattern="F3[").values.size
    with pytest.raises(ValueError, match="look-around and back-references are not supported"):
        filter_matrix(matrix, pattern=r"(?!F3)")


@pytest.mark.parametrize("pattern", ["(.|.)*~", "(a+)+$", "(x+x+)+y", "([^,]|.)*(,|.)*~"])
def test_no_pattern_of_a_link_hangs(matrix: GradientMatrix, pattern: str) -> None:
    long = dict.fromkeys(matrix.sources["label"], "x, a" * 2000)
    filter_matrix(matrix, pattern=pattern, descriptions=long)


def test_strongest_of_each_axis(matrix: GradientMatrix) -> None:
    part = filter_matrix(matrix, top_to=3, top_from=2)
    assert part.values.shape == (3, 2)
    size = np.abs(matrix.values).sum(1)
    assert set(part.targets["number"]) == set(np.argsort(-size)[:3])


def test_orders(matrix: GradientMatrix) -> None:
    for by in ("position", "strength", "clustered"):
        part = order_matrix(matrix, by)
        again = matrix.values[part.targets["number"]][:, part.sources["number"]]
        assert np.array_equal(part.values, again)
        assert sorted(part.targets["number"]) == list(range(8))
    by_position = order_matrix(matrix, "position")
    assert by_position.targets["position"].is_monotonic_increasing
    strength = np.abs(order_matrix(matrix, "strength").values).sum(1)
    assert (np.diff(strength) <= 0).all()
    with pytest.raises(ValueError, match="Unknown order"):
        order_matrix(matrix, "colour")  # type: ignore[arg-type]


def test_clusters_are_put_together() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.permutation(np.repeat([0, 1, 2], 4))
    values = np.eye(3)[kinds] @ rng.normal(size=(3, 9)) + 0.01 * rng.normal(size=(12, 9))
    part = order_matrix(matrix_of(values), "clustered")
    found = kinds[part.targets["number"]]
    assert (np.diff(found) != 0).sum() == 2
    values[5] = 0
    assert order_matrix(matrix_of(values), "clustered").targets["number"].iloc[-1] == 5


def test_table_and_npz(matrix: GradientMatrix) -> None:
    matrix.values[2, 3] = 0
    table = matrix.frame()
    assert len(table) == matrix.values.size - 1
    sizes = table["gradient"].abs().to_numpy()
    assert (np.diff(sizes) <= 0).all()
    first = table.iloc[0]
    row = matrix.targets.index[matrix.targets["label"] == first["to_label"]][0]
    column = matrix.sources.index[matrix.sources["label"] == first["from_label"]][0]
    assert matrix.values[row, column] == first["gradient"]
    with np.load(io.BytesIO(matrix.to_npz()), allow_pickle=False) as read:
        assert np.array_equal(read["values"], matrix.values)
        assert read["target_label"].tolist() == matrix.targets["label"].tolist()
        assert read["source_index"].tolist() == matrix.sources["index"].tolist()
        assert str(read["kind"]) == "gradient"


@pytest.mark.parametrize("dark", [False, True])
def test_figure(matrix: GradientMatrix, dark: bool) -> None:
    label = matrix.sources["label"][0]
    figure = gradient_heatmap(
        matrix, title="Title", descriptions={label: "<b>bold</b> claims " * 9}, dark=dark
    )
    heatmap = figure.data[0]
    assert isinstance(heatmap, go.Heatmap)
    assert heatmap.zmin == -heatmap.zmax == -np.abs(matrix.values).max()
    assert heatmap.zmid == 0
    # Sources run down and targets across.
    assert np.array_equal(np.array(heatmap.z), matrix.values.T)
    cell = heatmap.customdata[3][5]
    assert list(cell[:2]) == [5, 3]
    assert cell[2] == matrix.sources["label"][3]
    told = heatmap.customdata[0][0][4]
    assert "&lt;b&gt;" in told
    assert told.endswith("…</i>")
    assert figure.layout.xaxis.ticktext[1] == matrix.targets["label"][1]
    assert figure.layout.xaxis.automargin
    assert figure.layout.yaxis.range == (5.5, -0.5)


def test_figure_to_click_on(matrix: GradientMatrix) -> None:
    matrix.values[2, 1] = 0
    figure = gradient_heatmap(matrix, clickable=True, chosen=(4, 3))
    heatmap, markers = figure.data
    assert heatmap.hoverinfo == "skip"
    assert len(markers.x) == matrix.values.size - 1
    for x, y, data in zip(markers.x, markers.y, markers.customdata, strict=True):
        assert (data[0], data[1]) == (x, y)
        assert data[6] == pytest.approx(matrix.values[x, y])
    (frame,) = figure.layout.shapes
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (3.5, 4.5, 2.5, 3.5)
    assert not gradient_heatmap(matrix, chosen=(99, 0)).layout.shapes


def test_figure_of_many() -> None:
    forty = gradient_heatmap(matrix_of(np.ones((40, 40))))
    assert len(forty.layout.xaxis.ticktext) == 40
    assert forty.layout.width > 40 * 16 + 7 * 15
    big = matrix_of(np.random.default_rng(0).normal(size=(MOST_DRAWN + 50, 20)))
    figure = gradient_heatmap(big, title="Big")
    assert np.array(figure.data[0].z).shape == (20, MOST_DRAWN)
    assert f"{MOST_DRAWN} of {MOST_DRAWN + 50} targets" in figure.layout.title.text
    assert len(figure.layout.xaxis.ticktext) < MOST_DRAWN
    numbers = [cell[0] for cell in figure.data[0].customdata[0]]
    assert numbers == sorted(numbers)
    with pytest.raises(ValueError, match="nothing to draw"):
        gradient_heatmap(matrix_of(np.zeros((0, 3))))


def test_boxes_frame_their_positions() -> None:
    matrix = order_matrix(matrix_of(np.ones((8, 8))))
    figure = gradient_heatmap(matrix, boxes=[(1, 2), (0, 99)])
    (shape,) = figure.layout.shapes
    rows = matrix.sources.index[matrix.sources["position"] == 1]
    columns = matrix.targets.index[matrix.targets["position"] == 2]
    assert (shape.y0, shape.y1) == (rows.min() - 0.5, rows.max() + 0.5)
    assert (shape.x0, shape.x1) == (columns.min() - 0.5, columns.max() + 0.5)
