"""From places in the text that was read to rows that can be shown."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from core.activations import Examples, row_activations
from core.activations.text_index import OpenIndex
from core.engine import Engine
from core.jobs.progress import Progress
from core.tokens import texts_of_row
from core.view.latent.dashboard import Dashboard
from core.view.latent.example_html import ExampleRow
from core.view.selection import Selection

RowActivations = Mapping[int, Float[np.ndarray, " context"]]
"""Activations of one latent at all places of some rows."""
_ROWS_AT_ONCE = 16


def example_rows(
    examples: Examples, index: OpenIndex, *, around: int, read: RowActivations | None = None
) -> list[ExampleRow]:
    """One row an example, with `around` tokens on either side.

    Beyond what the index keeps, activations are those in `read`, else unknown (NaN).
    """
    found, token_set = [], index.token_set
    kept = (examples.activations.shape[1] - 1) // 2 if len(examples.places) else 0
    for number, place in enumerate(examples.places.tolist()):
        row, position = divmod(place, token_set.context)
        ids, length = token_set.tokens[row], int(token_set.lengths[row])
        begin = token_set.leading(row) if position > 0 else 0
        low, high = max(begin, position - around), min(length, position + around + 1)
        values = np.full(token_set.context, np.nan, dtype=np.float32)
        if read is not None and row in read:
            values[:] = read[row]
        else:
            columns = np.arange(position - kept, position + kept + 1)
            inside = (columns >= 0) & (columns < token_set.context)
            values[columns[inside]] = examples.activations[number][inside]
        document = int(examples.documents[number])
        found.append(
            ExampleRow.from_parts(
                texts_of_row(index.vocabulary, ids[low:high].tolist()).parts,
                values[low:high].tolist(),
                peak=position - low,
                value=f"{examples.values[number]:.3g}",
                source=token_set.names[document] if 0 <= document < len(token_set.names) else "",
                starts_inside=low > begin,
                ends_inside=high < length,
            )
        )
    return found


def rows_of(dashboard: Dashboard, context: int) -> list[int]:
    """Rows of the text that hold one of the dashboard's examples, ascending."""
    groups = [dashboard.examples.top, *(band.examples for band in dashboard.examples.bands)]
    return sorted({int(place) // context for group in groups for place in group.places})


def read_rows(
    engine: Engine,
    selection: Selection,
    index: OpenIndex,
    rows: Sequence[int],
    progress: Progress,
) -> dict[int, Float[np.ndarray, " context"]]:
    """The latent's activations at all places of these rows, run now, some rows a lease."""
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        progress.update(start, len(rows), unit="texts", message="Reading more of the texts")
        part = np.array(rows[start : start + _ROWS_AT_ONCE], dtype=np.int64)
        with engine.use(selection.model, [selection.sae], progress=lambda *_: progress.check()) as (
            model,
            (sae,),
        ):
            values = row_activations(model, sae, index.token_set, part, selection.latent)
        found.update(zip(part.tolist(), values, strict=True))
    return found
