"""The widgets of the page of patch scoping, and its view in this session."""

from core.patch_scoping.view import LINK
from pages.parts.page_state import PageState

VIEW = PageState("scope", LINK)
"""What of the page, besides the selection, a link carries."""
