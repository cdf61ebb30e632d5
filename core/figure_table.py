"""The values of a figure as a table, for whoever reads numbers better than a drawing."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MARKUP = re.compile(r"<[^>]*>")


def figure_table(figure: "go.Figure") -> pd.DataFrame:
    """One line a value: series, x, y, and for heatmaps the value, the largest sizes first.

    Points have the text that a reader sees who points at them. What has no value is left out.
    """
    found = [part for trace in figure.data if (part := _trace(trace)) is not None]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _trace(trace: Any) -> pd.DataFrame | None:
    if trace.type == "heatmap":
        return _heatmap(trace)
    x, y = (None if it is None else list(it) for it in (trace.x, trace.y))
    if not x and not y:
        return None
    n = len(x or y or ())
    columns: dict[str, Any] = {"series": [_plain(trace.name)] * n}
    columns |= {name: it for name, it in (("x", x), ("y", y)) if it and len(it) == n}
    texts = next((it for it in (trace.hovertext, trace.text) if _is_list(it, n)), None)
    if texts is not None:
        columns["text"] = [_plain(text) for text in texts]
    return pd.DataFrame(columns)


def _heatmap(trace: Any) -> pd.DataFrame | None:
    if trace.z is None:
        return None
    values = np.asarray([[np.nan if it is None else it for it in row] for row in trace.z], float)
    x = list(range(values.shape[1])) if trace.x is None else list(trace.x)
    y = list(range(values.shape[0])) if trace.y is None else list(trace.y)
    table = pd.DataFrame(
        {
            "series": _plain(trace.name),
            "x": np.tile(np.array(x, dtype=object), len(y)),
            "y": np.repeat(np.array(y, dtype=object), len(x)),
            "value": values.ravel(),
        }
    ).dropna(subset="value")
    return table.sort_values("value", key=np.abs, ascending=False, kind="stable")


def _is_list(value: Any, n: int) -> bool:
    return value is not None and not isinstance(value, str) and len(value) == n


def _plain(text: Any) -> str:
    return _MARKUP.sub(" ", str(text or "")).strip()
