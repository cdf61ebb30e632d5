"""Every plot of the pages, with its words for those who do not see it."""

import html
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.view.contrast import CAPTION_INKS
from core.view.markup import escape_markdown, visible_character
from pages.parts import look, programs

if TYPE_CHECKING:
    import plotly.graph_objects as go

_BAR_ACTIVE = "#b35900"
"""Colour of the button that is chosen: that of the theme (.streamlit/config.toml)."""
_BAR_ROOM = 44
"""Pixels above a plot with a colour scale, so that the plot's buttons do not lie on the scale."""
_LARGE = 20_000
"""Characters of a plot of which a program gets the values alone, as a table."""


def draw(
    figure: "go.Figure",
    *,
    key: str,
    said: str = "",
    config: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """As `st.plotly_chart`, with words for screen readers: `said`, and what the figure shows.

    All pages draw their plots here, so that none is without words.
    """
    import plotly.graph_objects as go

    from core.plot_words import plot_words

    if options.get("theme", "streamlit") is not None:
        # Streamlit's theme is too faint; on a copy, because files are made of the figure itself.
        ink = {"color": CAPTION_INKS[look.is_dark()]}
        figure = go.Figure(figure)
        figure.update_xaxes(tickfont=ink, title_font=ink)
        figure.update_yaxes(tickfont=ink, title_font=ink)
    # Plotly would lay a half transparent black behind the buttons of plots without a background.
    bar_ink = CAPTION_INKS[look.is_dark()]
    figure.update_layout(
        modebar_bgcolor="rgba(0,0,0,0)", modebar_color=bar_ink, modebar_activecolor=_BAR_ACTIVE
    )
    config = {"displaylogo": False, **(config or {})}
    if config.get("displayModeBar") is not False and _has_scale(figure):
        figure.update_layout(modebar_orientation="h")
        if (figure.layout.margin.t or 0) < _BAR_ROOM:
            figure.update_layout(margin_t=_BAR_ROOM)
    words = " ".join(filter(None, [said, plot_words(figure)]))
    shown = html.escape("".join(map(visible_character, words)))
    if programs.is_one():
        st.caption(escape_markdown(f"Plot: {words}"))
        if len(figure.to_json()) > _LARGE:
            from core.figure_table import figure_table

            st.dataframe(figure_table(figure), hide_index=True)
            return
    else:
        st.html(f'<p class="sx-said">Plot: {shown}</p>')
    st.plotly_chart(figure, key=key, config=config, **options)


def _has_scale(figure: "go.Figure") -> bool:
    """Whether a colour scale stands at the right of the plot."""
    axis = figure.layout.coloraxis
    if axis.colorscale is not None or axis.cmin is not None:
        return axis.showscale is not False
    return any(
        trace.showscale is not False
        if trace.type == "heatmap"
        else bool("marker" in trace and trace.marker.showscale)
        for trace in figure.data
    )
