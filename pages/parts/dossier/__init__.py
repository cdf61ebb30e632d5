"""Parts of the page that brings everything on one latent together."""

from core.dossier.view import LINK
from pages.parts.page_state import PageState

VIEW = PageState("dossier", LINK)
"""What the page's link carries."""
