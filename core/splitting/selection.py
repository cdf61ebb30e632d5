"""What is in a selection of the map: its rows, typical tokens, clusters and SAEs; and downloads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from scipy.stats import false_discovery_control, hypergeom

from core.splitting.hover import PYTHON_STRING
from core.splitting.visible import checked_rows
from core.syntax_trees import parse_literal


@dataclass(frozen=True)
class SelectionSummary:
    """A selection in tables."""

    rows: pd.DataFrame
    """The selected rows of the points, with their `row` in front."""
    tokens: pd.DataFrame
    """What `enriched_terms` says about their boosted tokens."""
    saes: pd.DataFrame
    """For each SAE `n_selected`, `n_all` and `share` (of the SAE's points), narrowest first."""
    clusters: pd.DataFrame
    """The same for each cluster (-1: noise), most selected first; empty without clusters."""


def selected_rows(points: Iterable[Mapping[str, Any]], n: int) -> Int[np.ndarray, " k"]:
    """Rows of the map in a chart's selection event, each once, sorted.

    `points` are the event's points. Those without `customdata`, or with a row that the map of `n`
    rows does not have (an event of an earlier map), are passed over.
    """
    rows = []
    for point in points:
        data = point.get("customdata")
        if isinstance(data, Sequence) and not isinstance(data, str) and len(data) == 1:
            data = data[0]
        if isinstance(data, int | float) and data == int(data) and 0 <= data < n:
            rows.append(int(data))
    return checked_rows(rows, n)


def rows_inside(
    points: pd.DataFrame, corners: Sequence[tuple[float, float]]
) -> Int[np.ndarray, " k"]:
    """Rows of the map inside a lasso, by the even-odd rule (two corners: inside that rectangle)."""
    if len(corners) == 2:
        (x0, y0), (x1, y1) = corners
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    x = points["umap_x"].to_numpy(dtype=np.float64)
    y = points["umap_y"].to_numpy(dtype=np.float64)
    inside = np.zeros(len(points), dtype=bool)
    # A ray to the right from a point inside crosses an odd number of sides.
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], *corners[:1]], strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return np.flatnonzero(inside)


def summarise(
    points: pd.DataFrame, rows: Iterable[int], *, terms: np.ndarray | None = None
) -> SelectionSummary:
    """Tables about the selected rows.

    Args:
        points: the table of the map.
        rows: row numbers in it.
        terms: boosted tokens of each point, `[n, k]` ids or strings; by default read from the
            column `top_token_strs` where there is one.

    Raises:
        ValueError: rows that do not exist, or terms that do not fit.
    """
    chosen = checked_rows(rows, len(points))
    if terms is None and "top_token_strs" in points:
        terms = token_lists(points["top_token_strs"])
    selected = np.zeros(len(points), dtype=bool)
    selected[chosen] = True
    table = points.iloc[chosen].reset_index(drop=True)
    table.insert(0, "row", chosen)
    saes = _composition(points, selected, ["sae", "sae_width"]).sort_values("sae_width")
    clusters = pd.DataFrame(columns=["cluster", "n_selected", "n_all", "share"])
    if "cluster" in points:
        clusters = _composition(points, selected, ["cluster"])
        clusters = clusters[clusters["n_selected"] > 0].sort_values("n_selected", ascending=False)
    return SelectionSummary(
        rows=table,
        tokens=enriched_terms(terms if terms is not None else np.empty((len(points), 0)), selected),
        saes=saes.reset_index(drop=True),
        clusters=clusters.reset_index(drop=True),
    )


def enriched_terms(
    terms: np.ndarray, selected: Bool[np.ndarray, " n"], *, min_selected: int = 2
) -> pd.DataFrame:
    """Terms that selected points have more often than the others, beyond what chance would give.

    Args:
        terms: `[n, k]` token ids (-1: none) or strings ("": none) of each point.
        selected: which points are selected.
        min_selected: leave out terms of fewer selected points.

    Returns:
        Least likely first: `term`; `n_selected` and `n_all`, points that have it; `share_selected`
        and `share_rest`; `log2_odds`, the log odds ratio with 0.5 added to each count; `p_value` of
        at least so many by a random selection of this size (hypergeometric, one-sided); `q_value`,
        the false discovery rate (Benjamini and Hochberg, 1995) over all terms of selected points.

    Raises:
        ValueError: not one row of terms for each point.
    """
    if terms.ndim != 2 or len(terms) != len(selected):
        raise ValueError(
            f"The terms have shape {terms.shape} for {len(selected)} points; give a row for each."
        )
    absent = "" if terms.dtype.kind in "OUT" else -1
    point = np.repeat(np.arange(len(terms)), terms.shape[1])
    codes, names = pd.factorize(terms.ravel())
    present = terms.ravel() != absent
    # A term that a latent has twice counts once.
    pairs = pd.DataFrame({"code": codes[present], "point": point[present]}).drop_duplicates()
    n_all = np.bincount(pairs["code"], minlength=len(names))
    mine = pairs["code"][selected[pairs["point"]]]
    n_selected = np.bincount(mine, minlength=len(names))
    seen = np.flatnonzero(n_selected)
    n, size = len(selected), int(selected.sum())
    inside, overall = n_selected[seen], n_all[seen]
    outside = overall - inside
    p_values = hypergeom.sf(inside - 1, n, overall, size) if len(seen) else np.empty(0)
    odds = (inside + 0.5) * (n - size - outside + 0.5) / ((size - inside + 0.5) * (outside + 0.5))
    table = pd.DataFrame(
        {
            "term": np.asarray(names)[seen],
            "n_selected": inside,
            "n_all": overall,
            "share_selected": inside / max(size, 1),
            "share_rest": outside / max(n - size, 1),
            "log2_odds": np.log2(odds),
            "p_value": p_values,
            "q_value": false_discovery_control(np.clip(p_values, 0, 1)) if len(seen) else p_values,
        }
    )
    return (
        table[table["n_selected"] >= min_selected]
        .sort_values(["p_value", "log2_odds"], ascending=[True, False], kind="stable")
        .reset_index(drop=True)
    )


def token_lists(texts: Iterable[str]) -> np.ndarray:
    """Tokens `[n, k]` of texts like `"' a', ' b'"`; "" where a latent has fewer than the most."""
    found = [PYTHON_STRING.findall(text) if isinstance(text, str) else [] for text in texts]
    literals, names = pd.factorize(
        np.array([token for row in found for token in row], dtype=object)
    )
    tokens = np.array([_read(literal) for literal in names], dtype=object)
    lengths = np.array([len(row) for row in found], dtype=np.int64)
    lists = np.full((len(found), int(lengths.max(initial=0))), "", dtype=object)
    if len(literals):
        lists[np.arange(lists.shape[1]) < lengths[:, None]] = tokens[literals]
    return lists


def _composition(
    points: pd.DataFrame, selected: Bool[np.ndarray, " n"], by: list[str]
) -> pd.DataFrame:
    counts = (
        points[by]
        .assign(is_selected=selected)
        .groupby(by, as_index=False)["is_selected"]
        .agg(n_selected="sum", n_all="count")
    )
    return counts.assign(share=counts["n_selected"] / counts["n_all"])


def _read(literal: str) -> str:
    try:
        return str(parse_literal(literal))
    except (ValueError, SyntaxError):  # an escape that Python does not know, cut or typed by hand
        return literal[1:-1]
