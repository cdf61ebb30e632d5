"""Points as a small picture (PNG): a file that is taken away holds it whole."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

WIDTH, HEIGHT = 560, 360
_SCALE, _MARGIN = 2, 10
_GREY, _ORANGE, _BLUE = (128, 128, 128, 90), (255, 140, 0, 255), (31, 119, 180, 255)


def dot_picture(xy: Float[np.ndarray, "n 2"], chosen: int, near: Sequence[int]) -> bytes:
    """All points in grey, some in blue, one in orange, on nothing, for pages of any colour."""
    from PIL import Image, ImageDraw

    size = np.array([WIDTH, HEIGHT]) * _SCALE
    low, high = xy.min(0), xy.max(0)
    span = np.maximum(high - low, 1e-9)
    place = (xy - low) / span * (size - 2 * _MARGIN * _SCALE) + _MARGIN * _SCALE
    place[:, 1] = size[1] - place[:, 1]
    image = Image.new("RGBA", (int(size[0]), int(size[1])), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)

    def dot(row: int, radius: float, colour: tuple[int, int, int, int]) -> None:
        x, y = place[row]
        r = radius * _SCALE
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    for row in range(len(xy)):
        dot(row, 1.0, _GREY)
    for row in near:
        dot(row, 3.5, _BLUE)
    dot(chosen, 5.5, _ORANGE)
    written = io.BytesIO()
    image.quantize(64, method=Image.Quantize.FASTOCTREE).save(written, "PNG", optimize=True)
    return written.getvalue()
