"""Text that others wrote, shown as it is: escaped for Streamlit's Markdown, shaded by activation.

Nothing here is HTML. Streamlit's Markdown turns `:smile:` into an emoji, `->` into an arrow and
`$x$` into a formula even behind backslashes; in tokens, punctuation is therefore also kept apart by
invisible word joiners.
"""

import re
import string
from collections.abc import Sequence

from core.tokens import join_parts
from core.view.contrast import token_shade

_JOINER = "\u2060"
_BREAK_HERE = "\u200b"
_SIGNS = {"\n": "↵", "\r": "␍", "\t": "⇥"}
_MARKUP = re.compile(r"[\\`*\[\]!<>#|~${}&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def n_of(number: int, thing: str) -> str:
    """A number of things in words: "1 latent", "1,000 latents"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def escape_markdown(text: str) -> str:
    """`text` for a Markdown element, without links, pictures, formulas or emphasis of its own."""
    return _MARKUP.sub(lambda match: f"\\{match.group()}", " ".join(text.split()))


def exact_markdown(text: str) -> str:
    """`text` for a Markdown element, in which it will look exactly as it is."""
    marks = string.punctuation
    return "".join(f"\\{char}{_JOINER}" if char in marks else char for char in text)


def visible_token(token: str) -> str:
    """A token with its spaces and line breaks visible, for tables."""
    return "".join("␣" if char == " " else visible_character(char) for char in token)


def visible_character(character: str) -> str:
    """A character, or a sign or escape for one that would not be seen or that moves others."""
    if character in _SIGNS:
        return _SIGNS[character]
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def shaded_tokens(
    tokens: Sequence[str], activations: Sequence[float], *, dark: bool = False
) -> str:
    """Markdown of a text in which the background of each token shows its activation.

    The strongest activation has the strongest shade; tokens at which it is 0 have none. Tokens that
    make up a character together (`RowTexts.parts`) are one piece. `dark` is the theme of the page.
    """
    strongest = max((*activations, 0.0))
    pieces = join_parts(tokens, activations)
    return "".join(
        _shaded(token, activation / strongest if strongest > 0 else 0.0, dark)
        for token, activation in zip(pieces.texts, pieces.activations, strict=True)
    )


def _shaded(token: str, strength: float, dark: bool) -> str:
    # A space at the edge of a shaded piece would vanish in Markdown; a fixed one stays.
    shown = "".join("\u00a0" if char == " " else visible_character(char) for char in token)
    text = exact_markdown(shown)
    may_break = _BREAK_HERE if token[:1].isspace() else ""
    if strength > 0:
        shade = token_shade(strength, dark=dark)
        text = f':color[{text}]{{foreground="{shade.ink}" background="{shade.background}"}}'
    after = "  \n" if token.endswith("\n") else ""
    return f"{may_break}{text}{after}"
