"""Buttons that do something at once and say below them how it went."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from core.view.markup import escape_markdown
from pages.parts import errors


def button(label: str, act: Callable[[], str | None], *, key: str, **options: Any) -> None:
    """A button whose click does `act` before the page is drawn again.

    What `act` returns is shown as a success, what it raises as an error in words.
    """
    st.button(label, key=key, on_click=_done, args=(act, key), **options)
    said = st.session_state.pop(f"{key}_said", None)
    if said is None:
        return
    went_well, sentence = said
    if went_well:
        st.success(escape_markdown(sentence), icon=":material/check:")
    else:
        st.error(escape_markdown(sentence), icon=":material/error:")


def _done(act: Callable[[], str | None], key: str) -> None:
    try:
        sentence = act()
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        st.session_state[f"{key}_said"] = False, errors.sentence_for(error)
        return
    if sentence:
        st.session_state[f"{key}_said"] = True, sentence
