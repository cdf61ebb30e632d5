"""What of a stitched pair a link carries."""

from dataclasses import dataclass

from core.link import Link, LinkField, one_of, real, short_text, write_number

MEASURES = ("error", "l0", "loss")
"""What can be drawn along the curve."""


@dataclass(frozen=True)
class StitchView:
    """Settings of the stitching section."""

    partner: str = ""
    """Label of the SAE that the selected one is stitched with; empty for the next narrower one, or
    the next wider one where there is none."""
    threshold: float = 0.7
    """Cosine below which a latent is called novel."""
    measure: str = "error"
    """One of `MEASURES`."""


LINK = Link(
    StitchView(),
    (
        LinkField("partner", "with", short_text(300)),
        LinkField("threshold", "below", real(-1.0, 1.0), write_number),
        LinkField("measure", "along", one_of(MEASURES)),
    ),
)
"""How a view is written to the link and read from it."""
