"""One latent on a text that somebody has just typed, ready to be shown."""

from core.engine import Engine
from core.view.latent.example_html import ExampleRow
from core.view.latent.pieces import join_pieces, partial_bytes
from core.view.latent_view import TextActivations, text_activations
from core.view.selection import Selection


def live_row(engine: Engine, selection: Selection, text: str) -> tuple[TextActivations, ExampleRow]:
    """The latent's activations on `text`, and the row that shows them.

    Raises ValueError as `text_activations`.
    """
    found = text_activations(engine, selection, text)
    with engine.use(selection.model) as (model, _):
        partial = partial_bytes(model.tokenizer, found.tokens, found.token_ids)
    pieces = join_pieces(found.token_ids, found.tokens, found.activations, partial)
    row = ExampleRow(pieces.texts, pieces.activations, pieces.n_tokens)
    return found, row
