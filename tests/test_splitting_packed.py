"""What a browser is sent of a large map means what the table of points says."""

import json

import numpy as np
import pandas as pd
import pytest

from core.splitting.colors import DARK, LIGHT, point_colors
from core.splitting.figure import narrowest_first
from core.splitting.packed import PointTokens, _numbered, packed_points, row_bits, spread_step


def points_of(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    narrow = n // 4
    return pd.DataFrame(
        {
            "sae": pd.Categorical(["narrow"] * narrow + ["wide"] * (n - narrow)),
            "sae_width": [narrow] * narrow + [n] * (n - narrow),
            # Latent 5 of the wide SAE has no place.
            "latent_idx": [*range(narrow), *range(5), *range(6, n - narrow + 1)],
            "umap_x": rng.normal(size=n) * 9,
            "umap_y": rng.normal(size=n) + 4,
            "cluster": rng.integers(-1, 30, n),
        }
    )


def unpacked(packed: bytes):
    length = int(np.frombuffer(packed[:4], "<u4")[0])
    head = json.loads(packed[4 : 4 + length])
    n, start = head["n"], 4 + length
    assert start % 4 == 0
    row = np.arange(n) * head["step"] % n
    places, shades = np.empty((n, 2)), np.empty(n, dtype=np.int64)
    places[row] = np.frombuffer(packed[start : start + 4 * n], "<u2").reshape(n, 2)
    shades[row] = np.frombuffer(packed[start + (4 + 2 * head["per_point"]) * n :], "u1")
    xy = np.array(head["from"]) + places / 65_535 * np.array(head["extent"])
    return head, xy, np.array(head["palette"])[shades]


@pytest.mark.parametrize("colour", ["width", "cluster", "frequency"])
def test_places_and_colours_come_back(colour):
    points = points_of(999)
    values = np.where(np.arange(999) % 7 == 0, 0, np.linspace(1e-5, 0.1, 999))
    coloring = point_colors(points, colour, values, LIGHT)
    packed = packed_points(points, coloring, LIGHT, narrowest_first(points))
    head, xy, rgb = unpacked(packed)
    finest = np.ptp(points[["umap_x", "umap_y"]].to_numpy(), axis=0) / 65_535
    assert (np.abs(xy - points[["umap_x", "umap_y"]].to_numpy()) <= finest).all()
    assert len(packed) < 5 * 999 + 12_000
    missing = tuple(int(LIGHT.missing[i : i + 2], 16) for i in (1, 3, 5))
    grey = (rgb == missing).all(axis=1)
    if colour == "width":
        assert len({tuple(color) for color in rgb[points["sae"] == "narrow"]}) == 1
        assert [entry["text"] for entry in head["legend"]] == ["249 latents", "999 latents"]
    elif colour == "cluster":
        np.testing.assert_array_equal(grey, points["cluster"] < 0)
        first = (points["cluster"] == 0).to_numpy()
        blue = tuple(int(LIGHT.clusters[0][i : i + 2], 16) for i in (1, 3, 5))
        assert (rgb[first] == blue).all()
    else:
        np.testing.assert_array_equal(grey, values == 0)
        assert "never" in [entry["text"] for entry in head["legend"]]


def test_names_under_the_mouse_skip_latents_without_a_place():
    points = points_of(40)
    packed = packed_points(
        points, point_colors(points, "width", None, DARK), DARK, narrowest_first(points)
    )
    head = unpacked(packed)[0]
    assert head["runs"] == [[0, "10 latents", 0], [10, "40 latents", 0], [15, "40 latents", 6]]
    for row, latent in enumerate(points["latent_idx"]):
        run = [one for one in head["runs"] if one[0] <= row][-1]
        assert run[2] + row - run[0] == latent


def test_tokens_under_the_mouse_are_those_of_the_points():
    points, rng = points_of(41), np.random.default_rng(1)
    texts = [f" token{number}" * (1 + number) for number in range(30)]
    tokens = PointTokens(rng.integers(0, 30, (41, 10)), texts)
    coloring = point_colors(points, "width", None, DARK)
    packed = packed_points(points, coloring, DARK, narrowest_first(points), tokens=tokens)
    head, xy, _ = unpacked(packed)
    start = 4 + int(np.frombuffer(packed[:4], "<u4")[0]) + 4 * 41
    numbers = np.frombuffer(packed[start : start + 6 * 41], "<u2").reshape(41, 3)
    for place, one in enumerate(numbers):
        row = place * head["step"] % 41
        assert [head["tokens"][it] for it in one] == [texts[it][:24] for it in tokens.ids[row, :3]]
    np.testing.assert_allclose(xy[:, 0], points["umap_x"], atol=1e-3)


def test_too_many_different_tokens_are_fewer_a_point():
    n = 40_000
    ids = np.stack([np.arange(n), np.arange(n) + n, np.arange(n)], axis=1)
    numbers, texts = _numbered(PointTokens(ids, [str(it) for it in range(2 * n)]))
    assert numbers.shape == (n, 1)
    assert [texts[it] for it in numbers[:3, 0]] == ["0", "1", "2"]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 4096, 1_048_576, 1_000_003])
def test_the_order_visits_every_row_once_and_spreads(n):
    step = spread_step(n)
    rows = np.arange(n, dtype=np.int64) * step % n
    assert len(np.unique(rows)) == n
    if n > 4000:
        first = np.histogram(rows[: n // 16], bins=16, range=(0, n))[0]
        assert first.min() > 0.9 * first.mean()


def test_bits_are_those_of_the_rows():
    bits = np.unpackbits(np.frombuffer(row_bits([0, 9, 20], 21), np.uint8), bitorder="little")
    np.testing.assert_array_equal(np.flatnonzero(bits), [0, 9, 20])


def test_a_million_points_are_five_megabytes_and_twelve_with_tokens():
    n = 1_048_576
    points = pd.DataFrame(
        {
            "sae": pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), ["wide"]),
            "sae_width": n,
            "latent_idx": np.arange(n),
            "umap_x": np.linspace(0, 1, n),
            "umap_y": np.linspace(0, 1, n),
        }
    )
    coloring = point_colors(points, "width", None, LIGHT)
    names = narrowest_first(points)
    assert len(packed_points(points, coloring, LIGHT, names)) < 5.3e6
    texts = [f" token{number}" for number in range(50_257)]
    tokens = PointTokens(np.arange(3 * n).reshape(n, 3) % len(texts), texts)
    assert len(packed_points(points, coloring, LIGHT, names, tokens=tokens)) < 12.5e6
