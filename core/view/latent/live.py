"""One latent on a text that somebody has just typed, ready to be shown."""

from core.engine import Engine
from core.view.latent.example_html import ExampleRow
from core.view.latent_view import TextActivations, text_activations
from core.view.selection import Selection


def live_row(engine: Engine, selection: Selection, text: str) -> tuple[TextActivations, ExampleRow]:
    """The latent's activations on `text`, and the row that shows them.

    Raises ValueError as `text_activations`.
    """
    found = text_activations(engine, selection, text)
    return found, ExampleRow.from_parts(found.parts, found.activations)
