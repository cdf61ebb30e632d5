"""The widgets of the page of autointerp, and its view in this session."""

from core.autointerp.view import LINK
from pages.parts.page_state import PageState

VIEW = PageState("autointerp", LINK)
"""What of the page, besides the selection, a link carries."""
