"""The view of the latent page in this session."""

from core.view.latent.page_view import LINK, LatentPageView
from pages.parts.page_state import PageState

__all__ = ["LINK", "begin", "change", "current", "note", "problems"]

_state: PageState[LatentPageView] = PageState("latent", LINK)
begin, current, problems = _state.begin, _state.current, _state.problems
change, note = _state.change, _state.note
