"""The view of patch scoping in this session."""

from core.view.patch_scoping.scope_view import LINK
from pages.parts.page_state import PageState

_state = PageState("scope", LINK)
begin, current, problems = _state.begin, _state.current, _state.problems
change = _state.change
to_parameters = LINK.to_parameters
