"""Colours that text is read on: relative luminance, contrast, and shades of tokens in either theme.

Contrast is that of WCAG 2.2 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio), from 1 to 21; text
of usual size needs 4.5.
"""

from dataclasses import dataclass
from functools import lru_cache

LEAST_CONTRAST = 4.5
"""What text of usual size needs (WCAG 2.2, level AA)."""

Rgb = tuple[int, int, int]
ORANGE, BLUE = "#ff8c00", "#1e78e6"
"""What shades stand for: an activation or an effect above 0, and one below."""

_PAGES = {False: "#ffffff", True: "#171614"}
"""By whether the theme is dark; as the browser shows Streamlit's themes."""
INKS = {False: "#2f2d2b", True: "#edebe8"}
CAPTION_INKS = {False: "#605e5b", True: "#b3b0ac"}
"""Of small print, which is read on the page, on fields and on the sidebar."""
_SPARE = 0.1
"""Beyond what is needed, because browsers round."""
_STEPS = 256
_FAINTEST, _STRONGEST = 0.12, 0.88


@dataclass(frozen=True)
class Shade:
    """Background and text colour of a token."""

    background: str
    """As #rrggbb, without transparency, so that what lies below does not matter."""
    ink: str
    """As #rrggbb."""


def rgb(colour: str) -> Rgb:
    """Red, green and blue of `#rrggbb`, from 0 to 255. Raises ValueError for anything else."""
    digits = colour.removeprefix("#")
    if len(digits) != 6 or digits == colour:
        raise ValueError(f"{colour!r} is not a colour; write it as #rrggbb.")
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`: 0 is black, 1 is white."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (number / 255 for number in rgb(colour))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 (the same) to 21 (black on white)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def blend(over: str, below: str, share: float) -> str:
    """`over` with the opacity `share` on top of `below`."""
    mixed = (round(share * a + (1 - share) * b) for a, b in zip(rgb(over), rgb(below), strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def readable_ink(background: str, *, ink: str) -> str:
    """`ink` where it can be read on the background, else black or white, whichever is read better.

    One of the two has a contrast of 4.58 or more on any colour.
    """
    if contrast(ink, background) >= LEAST_CONTRAST + _SPARE:
        return ink
    return max("#000000", "#ffffff", key=lambda colour: contrast(colour, background))


def token_shade(strength: float, *, dark: bool, colour: str = ORANGE) -> Shade:
    """Shade of a token whose activation is the share `strength` of the strongest, above 0 to 1."""
    return _shade(round(min(1.0, max(0.0, strength)) * _STEPS), dark, colour)


def token_css(strength: float, *, colour: str = ORANGE) -> str:
    """The same for a `style` attribute; it follows the theme of the page by itself."""
    light, dark = (token_shade(strength, dark=it, colour=colour) for it in (False, True))
    return (
        f"background:light-dark({light.background},{dark.background});"
        f"color:light-dark({light.ink},{dark.ink})"
    )


@lru_cache(maxsize=4 * (_STEPS + 1))
def _shade(step: int, dark: bool, colour: str) -> Shade:
    share = _FAINTEST + (_STRONGEST - _FAINTEST) * step / _STEPS
    background = blend(colour, _PAGES[dark], share)
    return Shade(background, readable_ink(background, ink=INKS[dark]))
