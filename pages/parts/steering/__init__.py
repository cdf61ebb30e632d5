"""The widgets of the page of steering, and its view in this session."""

from core.steering.view import LINK
from pages.parts.page_state import PageState

VIEW = PageState(
    "steer",
    LINK,
    forgets={
        "shown": ("latents", "together", "mode", "unit", "strengths", "randoms"),
        "concept": ("latents", "together"),
    },
)
"""What of the page, besides the selection, a link carries."""
