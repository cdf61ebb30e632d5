"""A matrix of gradients with names on both axes: chosen from, put in order, written out."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from torch import Tensor

from core.descriptions.search import UnsupportedPattern, search_texts
from core.gradients.route import Kind, Route
from core.models.hooks import Model
from core.tokens import row_texts

Order = Literal["position", "strength", "clustered"]
Pairs = Literal["all", "same token", "across tokens"]

_MOST_CLUSTERED = 400


@dataclass(frozen=True)
class GradientMatrix:
    """Gradients (or attributions) with what their rows and columns are."""

    values: Float[np.ndarray, "n_to n_from"]
    """A row a target, a column a source."""
    targets: pd.DataFrame
    """A row a target: number (in the route), batch, position, index (latent or token id), token
    (text at that position), value, label."""
    sources: pd.DataFrame
    """The same of the sources."""
    target_name: str
    """Layer of the targets, such as "F3", or "logit"."""
    source_name: str
    """Layer of the sources, or "token"."""
    kind: Kind = "gradient"
    """What the values are."""

    def take(self, rows: np.ndarray, columns: np.ndarray) -> "GradientMatrix":
        """These rows and columns (numbers or masks), in this order."""
        return replace(
            self,
            values=self.values[rows][:, columns],
            targets=self.targets.iloc[_numbers(rows)].reset_index(drop=True),
            sources=self.sources.iloc[_numbers(columns)].reset_index(drop=True),
        )

    def frame(self) -> pd.DataFrame:
        """Non-zero entries, strongest first, a row each, with everything known of both ends."""
        to, source = np.nonzero(self.values)
        ends = {
            "from": self.sources.iloc[source].reset_index(drop=True),
            "to": self.targets.iloc[to].reset_index(drop=True),
        }
        columns = ("position", "index", "token", "value", "label")
        table = pd.DataFrame({"batch": ends["to"]["batch"]})
        for end, part in ends.items():
            for column in columns:
                table[f"{end}_{column}"] = part[column]
        table[self.kind] = self.values[to, source]
        order = np.argsort(-np.abs(self.values[to, source]), kind="stable")
        return table.iloc[order].reset_index(drop=True)

    def to_npz(self) -> bytes:
        """Contents of an .npz file that numpy reads without unpickling."""
        arrays: dict[str, Any] = {
            "values": self.values,
            "kind": self.kind,
            "source_name": self.source_name,
            "target_name": self.target_name,
        }
        for end, part in (("source", self.sources), ("target", self.targets)):
            for name, column in part.items():
                is_text = name in ("token", "label")
                arrays[f"{end}_{name}"] = (
                    np.array(column.tolist(), dtype=np.str_) if is_text else column.to_numpy()
                )
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()


def gradient_matrix(
    route: Route,
    gradients: Float[Tensor, "n_to n_from"],
    token_strings: Sequence[Sequence[str]],
    *,
    vocabulary: Mapping[int, str] | None = None,
    kind: Kind = "gradient",
) -> GradientMatrix:
    """Name the axes of what `route.gradients` gave.

    `token_strings` are the texts of each prompt's tokens (`token_texts`), `vocabulary` those of
    the tokens whose logits are targets.

    Raises:
        ValueError: gradients that do not belong to the route.
    """
    if tuple(gradients.shape) != (len(route.targets), len(route.sources)):
        raise ValueError(
            f"Gradients of shape {list(gradients.shape)} do not belong to a route with "
            f"{len(route.targets)} targets and {len(route.sources)} sources."
        )
    return GradientMatrix(
        values=gradients.detach().float().cpu().numpy(),
        targets=_axis(
            route.target_indices, route.target_values, route.target_name, token_strings, vocabulary
        ),
        sources=_axis(
            route.source_indices, route.source_values, route.source_name, token_strings, None
        ),
        target_name=route.target_name,
        source_name=route.source_name,
        kind=kind,
    )


def token_texts(model: Model, tokens: Int[Tensor, "batch pos"]) -> list[list[str]]:
    """Text of each token of each prompt, in a cell of its own (`RowTexts.cells`); ids without a
    tokenizer."""
    prompts = (tokens[None] if tokens.dim() == 1 else tokens).tolist()
    return [list(row_texts(model.tokenizer, prompt).cells) for prompt in prompts]


def filter_matrix(
    matrix: GradientMatrix,
    *,
    from_positions: Sequence[int] | None = None,
    to_positions: Sequence[int] | None = None,
    min_size: float = 0.0,
    pairs: Pairs = "all",
    pattern: str | None = None,
    top_from: int | None = None,
    top_to: int | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> GradientMatrix:
    """What is left of a matrix; rows and columns that hold nothing any more are dropped.

    Kept are entries of at least `min_size`, between or within tokens (`pairs`), and rows and
    columns at these positions; rows or columns whose label (or description, by label) contains
    `pattern`, a regular expression or else plain text, with what they connect to; and the
    `top_from` columns and `top_to` rows that hold the largest sums of absolute values.

    Raises:
        ValueError: a negative size, an unknown choice of pairs, or a pattern that needs what
            `core.descriptions.search` has not (look-around) or takes too long.
    """
    if min_size < 0:
        raise ValueError(f"The smallest size is {min_size}; use 0 or more.")
    if pairs not in ("all", "same token", "across tokens"):
        raise ValueError(f"Unknown pairs {pairs!r}; use 'all', 'same token' or 'across tokens'.")
    values, to, source = matrix.values.copy(), matrix.targets, matrix.sources
    values[np.abs(values) < min_size] = 0
    if pairs != "all":
        same = to["position"].to_numpy()[:, None] == source["position"].to_numpy()[None]
        values[~same if pairs == "same token" else same] = 0
    if from_positions is not None:
        values[:, ~source["position"].isin(list(from_positions)).to_numpy()] = 0
    if to_positions is not None:
        values[~to["position"].isin(list(to_positions)).to_numpy()] = 0
    if pattern:
        found_to, found_from = (
            _matches(part, pattern, descriptions or {}) for part in (to, source)
        )
        values[~(found_to[:, None] | found_from[None])] = 0
    for axis, most in ((1, top_to), (0, top_from)):
        size = np.abs(values).sum(axis)
        if most is not None and most < len(size):
            weakest = np.argsort(-size, kind="stable")[most:]
            values[(weakest, slice(None)) if axis == 1 else (slice(None), weakest)] = 0
    alive = values != 0
    return replace(matrix, values=values).take(alive.any(1), alive.any(0))


def order_matrix(matrix: GradientMatrix, by: Order = "position") -> GradientMatrix:
    """Rows and columns by position in the prompt, by strength, or similar ones side by side.

    Strength is the sum of absolute values, largest first. Clustering is hierarchical (average
    linkage of cosine distances); beyond 400 rows or columns that axis goes by strength instead.

    Raises:
        ValueError: an unknown order.
    """
    if by not in ("position", "strength", "clustered"):
        raise ValueError(f"Unknown order {by!r}; use 'position', 'strength' or 'clustered'.")
    if by == "position":
        rows, columns = (
            part.reset_index().sort_values(["batch", "position", "index"], kind="stable").index
            for part in (matrix.targets, matrix.sources)
        )
        return matrix.take(rows.to_numpy(), columns.to_numpy())
    find = _by_strength if by == "strength" else _by_similarity
    return matrix.take(find(matrix.values), find(matrix.values.T))


def _by_strength(values: np.ndarray) -> Int[np.ndarray, " n"]:
    return np.argsort(-np.abs(values).sum(1), kind="stable")


def _by_similarity(values: np.ndarray) -> Int[np.ndarray, " n"]:
    # Cosine distance of a row without direction is undefined: those go last.
    live = np.flatnonzero(np.abs(values).sum(1) > 0)
    if not 2 < len(live) <= _MOST_CLUSTERED:
        return _by_strength(values)
    directions = values[live] / np.linalg.norm(values[live], axis=1, keepdims=True)
    tree = linkage(directions, method="average")
    leaves = live[leaves_list(optimal_leaf_ordering(tree, directions))]
    return np.concatenate([leaves, np.setdiff1d(np.arange(len(values)), live)])


def _axis(
    indices: Tensor,
    values: Tensor,
    name: str,
    token_strings: Sequence[Sequence[str]],
    vocabulary: Mapping[int, str] | None,
) -> pd.DataFrame:
    places: list[tuple[int, int, int]] = [(b, p, i) for b, p, i in indices.tolist()]
    several = len(token_strings) > 1
    texts, labels = [], []
    for batch, position, index in places:
        text = token_strings[batch][position]
        prompt = f", prompt {batch + 1}" if several else ""
        if name == "logit":
            text = (vocabulary or {}).get(index, str(index))
            labels.append(f"logit {text!r}{prompt}")
        elif name == "token":
            labels.append(f"{text!r} ({position}{prompt})")
        else:
            labels.append(f"{name}.{index}, {text!r} ({position}{prompt})")
        texts.append(text)
    axis = pd.DataFrame(indices.cpu().numpy(), columns=["batch", "position", "index"])
    axis.insert(0, "number", np.arange(len(axis)))
    axis["token"] = pd.Series(texts, dtype=object)
    axis["value"] = values.detach().float().cpu().numpy()
    axis["label"] = pd.Series(labels, dtype=object)
    return axis


def _matches(part: pd.DataFrame, pattern: str, descriptions: Mapping[str, str]) -> np.ndarray:
    texts = [f"{label} {descriptions.get(label, '')}" for label in part["label"]]
    try:
        return search_texts(texts, pattern, regex=True)
    except UnsupportedPattern:
        raise
    except ValueError:  # half a bracket: the text itself is looked for
        return search_texts(texts, pattern)


def _numbers(chosen: np.ndarray) -> np.ndarray:
    return np.flatnonzero(chosen) if chosen.dtype == bool else chosen
