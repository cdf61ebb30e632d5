"""Boxes to type in. What is pasted beyond the limit is cut, and said.

The browser's own limit (`max_chars`) drops such a paste without a word: the box stays as it was.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st

CUT = "_cut_from"
"""Behind the key of a box: how long the text was that was cut."""


def area(
    label: str, value: str = "", *, most: int, key: str, place: Any = st, **options: Any
) -> str:
    """A box of several lines for at most `most` characters; its text."""
    return _box(place.text_area, label, value, most=most, key=key, place=place, **options)


def line(
    label: str, value: str = "", *, most: int, key: str, place: Any = st, **options: Any
) -> str:
    """A box of one line for at most `most` characters; its text."""
    return _box(place.text_input, label, value, most=most, key=key, place=place, **options)


def _box(
    widget: Callable[..., Any],
    label: str,
    value: str,
    *,
    most: int,
    key: str,
    place: Any,
    on_change: Callable[[], None] | None = None,
    **options: Any,
) -> str:
    def changed() -> None:
        text = st.session_state[key] or ""
        st.session_state.pop(key + CUT, None)
        if len(text) > most:
            st.session_state[key] = text[:most]
            st.session_state[key + CUT] = len(text)
        if on_change is not None:
            on_change()

    if key not in st.session_state:
        st.session_state[key] = value
    shown = st.session_state[key]  # also what a browser takes that has not drawn the box yet
    text = str(widget(label, shown, key=key, on_change=changed, **options) or "")
    cut_from = st.session_state.get(key + CUT)
    if cut_from:
        place.warning(
            f"The text had {cut_from:,} characters; the first {most:,} of them are kept, which is "
            "as many as fit here.",
            icon=":material/content_cut:",
        )
    return text
