"""Text is read on every shade, in both themes: contrast by the formula of WCAG 2.2."""

import numpy as np
import pytest

from core.view.contrast import (
    BLUE,
    CAPTION_INKS,
    LEAST_CONTRAST,
    ORANGE,
    contrast,
    luminance,
    readable_ink,
    token_css,
    token_shade,
)
from core.view.markup import shaded_tokens

STRENGTHS = [*np.linspace(0.0, 1.0, 401), 1e-9, 1.5]


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    assert contrast("#ff0000", "#ffffff") == pytest.approx(3.998, abs=1e-3)
    assert luminance("#808080") == pytest.approx(0.2159, abs=1e-4)
    for wrong in ("fff", "#fff", "rgb(0,0,0)"):
        with pytest.raises(ValueError, match="write it as #rrggbb"):
            luminance(wrong)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("colour", [ORANGE, BLUE])
def test_tokens_are_read_at_every_activation(dark: bool, colour: str) -> None:
    page = "#171614" if dark else "#ffffff"
    seen = []
    for strength in STRENGTHS:
        shade = token_shade(float(strength), dark=dark, colour=colour)
        assert contrast(shade.ink, shade.background) >= LEAST_CONTRAST, (strength, shade)
        css = token_css(float(strength), colour=colour)
        assert shade.ink in css
        assert shade.background in css
        seen.append(contrast(shade.background, page))
    assert np.all(np.diff(seen[:401]) > -0.01), "up to rounding"
    assert seen[400] > 1.8 * seen[0], "strong and weak are told apart"


def test_some_ink_is_read_on_any_colour() -> None:
    generator = np.random.default_rng(0)
    for red, green, blue in generator.integers(0, 256, (2000, 3)):
        background = f"#{red:02x}{green:02x}{blue:02x}"
        assert contrast(readable_ink(background, ink="#2f2d2b"), background) >= LEAST_CONTRAST


@pytest.mark.parametrize("dark", [False, True])
def test_small_print_is_read_on_page_sidebar_and_fields(dark: bool) -> None:
    grounds = ("#171614", "#21201d", "#2d2b29") if dark else ("#ffffff", "#f8f8f6", "#f0efed")
    for ground in grounds:
        assert contrast(CAPTION_INKS[dark], ground) >= LEAST_CONTRAST, ground


def test_markdown_has_the_ink_of_the_theme() -> None:
    light, dark = (shaded_tokens(["a"], [1.0], dark=it) for it in (False, True))
    assert light != dark
    for text, theme in ((light, False), (dark, True)):
        shade = token_shade(1.0, dark=theme)
        assert f'foreground="{shade.ink}" background="{shade.background}"' in text
