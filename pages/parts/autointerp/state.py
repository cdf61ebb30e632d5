"""The view of the page in this session, and which run a click has asked for."""

from core.view.autointerp.view import LINK, AutointerpView, parse_view
from pages.parts.page_state import PageState

_state = PageState("autointerp", LINK)
current, problems, change = _state.current, _state.problems, _state.change


def begin() -> AutointerpView:
    """The view to show; a link that this session did not write is followed first."""
    return _state.begin(parse_view)
