"""Plots that keep their size: on a narrow screen they are moved sideways instead of squeezed."""

from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

if TYPE_CHECKING:
    import plotly.graph_objects as go


_COLUMN, _SQUEEZED = 936, 1.2


def container(name: str) -> DeltaGenerator:
    """Room for a plot with a width of its own, unique on the page; `look` has its style."""
    return st.container(key=f"wide_{name}")


def width_of(figure: "go.Figure") -> int:
    """The width that the figure was drawn for, in pixels; one that is a little wider than a page of
    1440 pixels leaves room for is squeezed to that, so that its colour scale is seen."""
    width = int(figure.layout.width)
    return _COLUMN if _COLUMN < width <= _SQUEEZED * _COLUMN else width
