"""A text that was typed on one page is the text of the next one that takes a text.

Each page goes on with the text typed last in this session, unless the reader has typed another
there since, or came by a link that says which text.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from pages.parts.page_state import PageState

V = TypeVar("V")
_LAST, _SEEN = "following_last", "following_seen"


def note(page: str, text: str) -> None:
    """`text` was typed on `page`; for callbacks of widgets."""
    if not text.strip():
        return
    number = _last()[0] + 1
    st.session_state[_LAST] = number, text
    _seen()[page] = number


def noting(page: str, read: Callable[[str], str] = str) -> Callable[[str], str]:
    """`read` for a box's text (see `PageState.widget`), which also notes what was typed."""

    def noted(text: str) -> str:
        note(page, text)
        return read(text)

    return noted


def newer(page: str, *, most: int) -> str | None:
    """The text typed last, if `page` has not seen it and it has at most so many characters."""
    number, text = _last()
    if number <= _seen().get(page, 0):
        return None
    _seen()[page] = number
    return text if len(text) <= most else None


def follow(page: str, state: PageState[V], view: V, field: str, *, most: int) -> V:
    """The view of a page with the text typed last in its `field`, if that is newer."""
    text = newer(page, most=most)
    given = getattr(view, field)
    if state.came_by_link() and given != getattr(state.link.default, field):
        return view
    if text is None or text == given:
        return view
    followed: Any = state.with_fields(**{field: text})
    state.note(followed)
    return followed


def _last() -> tuple[int, str]:
    last: tuple[int, str] = st.session_state.get(_LAST, (0, ""))
    return last


def _seen() -> dict[str, int]:
    seen: dict[str, int] = st.session_state.setdefault(_SEEN, {})
    return seen
