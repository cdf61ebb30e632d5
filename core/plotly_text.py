"""Text of models and users in Plotly's labels, which read a few HTML tags."""

import html


def escaped(text: str) -> str:
    """`text` as it is: tokens such as `<b>` are to be shown, not obeyed."""
    return html.escape(text, quote=False)
