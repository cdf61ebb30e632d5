"""Parts of the page about a whole SAE."""

from core.sae_quality.view import LINK
from pages.parts.page_state import PageState

VIEW = PageState("sae_page", LINK)
"""What the page's link carries."""
