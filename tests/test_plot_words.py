"""Plots in words: what is said is what is drawn."""

import numpy as np
import plotly.graph_objects as go

from core.plot_words import plot_words


def test_bars_say_where_the_most_is() -> None:
    figure = go.Figure(go.Bar(x=[1, 2, 3], y=[4, 9, 2]))
    figure.update_xaxes(title_text="activation", tickvals=[1, 3], ticktext=["one", "three"])
    figure.update_yaxes(title_text="tokens")
    assert plot_words(figure) == (
        "Bars, 3 of them, of tokens by activation: the largest is 9 at about one."
    )
    across = go.Figure(go.Bar(x=[4, -9], y=["a", "b"], orientation="h"))
    assert "the largest is -9 at “b”" in plot_words(across)


def test_a_heatmap_names_its_strongest_cell() -> None:
    values = np.array([[0.1, None, -0.7], [0.2, 0.3, 0.0]], dtype=object)
    figure = go.Figure(go.Heatmap(z=values, colorbar={"title": {"text": "gradient"}}))
    figure.update_layout(
        xaxis={"title": {"text": "To <b>B</b>"}, "tickvals": [2], "ticktext": ["&lt;s&gt;"]},
        yaxis={"title": {"text": "From A"}, "tickvals": [0], "ticktext": ["first"]},
    )
    said = plot_words(figure)
    assert "gradient, 2 rows (From A) by 3 columns (To B) from -0.7 to 0.3" in said
    assert "the strongest is -0.7, in row “first”, column “<s>”" in said


def test_lines_points_and_empty_plots() -> None:
    figure = go.Figure(
        [
            go.Scatter(x=[0, 1], y=[2, 5], mode="lines", name="loss"),
            go.Scatter(x=[0], y=[None], mode="markers"),
            go.Scatter(x=[0], y=[1], mode="lines", hoverinfo="skip"),
        ]
    )
    figure.update_layout(title="<b>Curve</b>", xaxis_title="strength", yaxis_title="nats")
    assert plot_words(figure) == (
        "Curve. Line “loss”, 2 places: strength from 0 to 1, nats from 2 to 5."
    )
    assert plot_words(go.Figure()) == ""
    assert plot_words(go.Figure(go.Bar(x=[], y=[]))) == ""
    many = go.Figure([go.Bar(x=[1], y=[i]) for i in range(9)])
    assert plot_words(many).endswith("And 3 more.")
