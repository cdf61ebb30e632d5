"""What of a matrix the page shows, how it is put into words, and what is said of its latents."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from core.catalog.entries import SaeEntry
from core.descriptions.table import Descriptions
from core.gradients.gradient_request import GradientResult
from core.gradients.matrix import GradientMatrix, filter_matrix, order_matrix
from core.gradients.page_view import GradientView
from core.gradients.reconstruction import POOR_RELATIVE_ERROR
from core.gradients.sae_choices import name_of
from core.gradients.verify import strongest_cells
from core.splitting.members import Member

Cell = tuple[int, int, int, int]
"""Position and index of a source, then of a target."""


def matrix_to_show(
    result: GradientResult,
    view: GradientView,
    descriptions: Mapping[str, str],
    *,
    only_from: int | None = None,
    only_to: int | None = None,
) -> GradientMatrix:
    """The part of the matrix that the filters leave, in the order asked for.

    `only_from` and `only_to` leave the columns, or rows, of one latent at all its positions.
    """
    matrix = result.matrix
    rows = _of_latent(matrix.targets, only_to)
    columns = _of_latent(matrix.sources, only_from)
    if not (rows.all() and columns.all()):
        matrix = matrix.take(rows, columns)
    if view.kind == "attribution":
        values = matrix.values * matrix.sources["value"].to_numpy(np.float32)[None]
        matrix = replace(matrix, values=values, kind="attribution")
    first = 0 if view.first_token else result.n_leading
    everywhere = range(first, len(result.tokens))
    order: Any = view.order
    pairs: Any = view.pairs
    left = filter_matrix(
        matrix,
        from_positions=view.from_positions or everywhere,
        to_positions=None if result.request.tab == "logits" else view.to_positions or everywhere,
        min_size=view.min_size,
        pairs="all" if result.request.tab == "logits" else pairs,
        pattern=view.pattern or None,
        top_from=view.top_from,
        top_to=view.top_to,
        descriptions=descriptions,
    )
    found = order_matrix(left, order)
    if result.request.tab == "logits" and view.order == "position":
        # All are at the last position: the likeliest first, rather than by token id.
        found = found.take(
            np.argsort(found.targets["number"].to_numpy()), np.arange(len(found.sources))
        )
    return found


def _of_latent(axis: "pd.DataFrame", latent: int | None) -> np.ndarray:
    if latent is None:
        return np.ones(len(axis), dtype=bool)
    return axis["index"].to_numpy() == latent


def cell_of(matrix: GradientMatrix, target: int, source: int) -> Cell:
    """The cell of a row and a column, as a link names it."""
    to, start = matrix.targets.iloc[target], matrix.sources.iloc[source]
    return int(start["position"]), int(start["index"]), int(to["position"]), int(to["index"])


def place_of(matrix: GradientMatrix, cell: Sequence[int]) -> tuple[int, int] | None:
    """Row and column of a cell; None where the matrix does not hold it."""
    if len(cell) != 4:
        return None
    found = []
    for part, (position, index) in ((matrix.targets, cell[2:]), (matrix.sources, cell[:2])):
        rows = np.flatnonzero(
            (part["position"].to_numpy() == position) & (part["index"].to_numpy() == index)
        )
        if not len(rows):
            return None
        found.append(int(rows[0]))
    return found[0], found[1]


def list_strongest_cells(matrix: GradientMatrix, n: int = 20) -> list[Cell]:
    """The strongest cells, strongest first, zeros left out."""
    return [cell_of(matrix, *place) for place in strongest_cells(matrix.values, n)]


def counts_sentence(result: GradientResult) -> str:
    """How many latents there are, and how well the SAE stands in for the model here."""
    error = _error(result.fit.relative_error)
    if result.report is not None:
        report = result.report
        return (
            f"{result.n_sources:,} earlier latents are active. Of the later ones "
            f"{report.n_true:,} are active in the model, {report.n_reconstructed:,} with the "
            f"earlier SAE's reconstruction in place, and {report.n_mismatched:,} in only one of "
            f"the two. The earlier SAE misses {error} of its activations."
        )
    if result.next_tokens is not None:
        first = result.next_tokens.iloc[0]
        rank = int(first["rank_recon"])
        place = "stays the likeliest" if rank == 0 else f"falls to place {rank + 1}"
        return (
            f"{result.n_sources:,} latents are active. With the SAE's reconstruction in place the "
            f"model's likeliest next token {place}. The SAE misses {error} of its activations."
        )
    return (
        f"{result.n_targets:,} latents are active, fed by {result.n_sources:,} tokens. No "
        f"reconstruction stands in between here. The SAE misses {error} of its activations."
    )


def warning_sentence(result: GradientResult) -> str | None:
    """Why conclusions need care; None where they do not."""
    if result.report is not None:
        return result.report.warning
    if result.next_tokens is not None and result.fit.relative_error > POOR_RELATIVE_ERROR:
        return (
            f"The SAE misses {result.fit.relative_error:.0%} of its activations' norm on this "
            "prompt: the gradients describe its reconstruction rather than the model."
        )
    return None


def colour_limit(matrix: GradientMatrix) -> float:
    """Value at which colours end: a few outliers must not make all else pale."""
    size = np.abs(matrix.values[matrix.values != 0])
    if not size.size:
        return 1.0
    usual = float(np.quantile(size, 0.995))
    return usual if float(size.max()) > 1.5 * usual else float(size.max())


def nothing_sentence(result: GradientResult, matrix: GradientMatrix) -> str | None:
    """Why there is nothing to draw; None where there is something."""
    if not result.n_sources:
        return (
            "No latent of the earlier SAE is active on this prompt, so there is nothing to follow."
        )
    if not result.n_targets:
        return (
            "No latent of the later SAE is active on this prompt, so there is nothing to explain."
        )
    if not np.any(result.matrix.values):
        return "All gradients are zero: nothing flows between these two places of the model."
    if not matrix.values.size:
        return "No entry passes the filters; widen them to see something."
    return None


def _error(relative: float) -> str:
    return "an unknown part" if math.isnan(relative) else f"{relative:.0%} of the norm"


def members(entries: Sequence[SaeEntry]) -> tuple[Member, ...]:
    """The SAEs as those functions take them that read a sample of text or ask Neuronpedia."""
    return tuple(Member(name_of(entry), entry) for entry in dict.fromkeys(entries))


def descriptions_by_label(
    axes: Sequence[tuple[pd.DataFrame, SaeEntry | None]], descriptions: Mapping[str, Descriptions]
) -> dict[str, str]:
    """Description of each label on the axes of a matrix; tokens and logits have none."""
    found: dict[str, str] = {}
    for axis, entry in axes:
        known = descriptions.get(name_of(entry)) if entry is not None else None
        if known is not None:
            texts = known.texts[axis["index"].to_numpy()]
            found |= dict(zip(axis["label"], texts, strict=True))
    return found
