"""Text of models and users in Plotly's labels, which read a few HTML tags."""

import html
import re

_RIGHT_TO_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+"
_RUN = re.compile(rf"{_RIGHT_TO_LEFT}(?:\s+{_RIGHT_TO_LEFT})*")
_LEFT_TO_RIGHT = "\u200e"


def escaped(text: str) -> str:
    """`text` as it is: tokens such as `<b>` are to be shown, not obeyed.

    Words written from right to left do not turn around what stands behind them, such as a number.
    """
    marked = _RUN.sub(lambda run: f"{run[0]}{_LEFT_TO_RIGHT}", text)
    return html.escape(marked, quote=False)
