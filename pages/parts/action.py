"""Buttons that act on what the widgets hold at the click.

Streamlit calls the callback that the run before made, so whatever a callback took from the widgets
of that run is old when a field is left by clicking the button: the browser sends both at once.
A callback therefore reads `st.session_state`, or only notes that it was clicked (`clicked`), and
the run that follows acts with the values of that run. No button waits, disabled, for a field to be
filled: it would not be there for the click that leaves the field.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st

from core.view.markup import escape_markdown
from pages.parts import errors

_CLICKED, _REFUSED = "clicked_buttons", "clicks_refused"


def clicked(label: str, *, key: str, **options: Any) -> bool:
    """A button; True once in the run after its click, in which all widgets hold what they show.

    Unlike Streamlit's own answer it survives that the run is cut short by another one.
    """
    st.button(label, key=key, on_click=_note, args=(key,), **options)
    waiting: set[str] = st.session_state.get(_CLICKED, set())
    if key not in waiting:
        return False
    waiting.discard(key)
    return not st.session_state.get(_REFUSED, False)


def refuse() -> None:
    """What was typed cannot be used: no click of this moment may act on what stood there before."""
    st.session_state[_REFUSED] = True


def forget_clicks() -> None:
    """Clicks that a whole run of a page did not come to act on are void; not to be acted on later,
    when the page shows something else."""
    st.session_state.pop(_CLICKED, None)
    st.session_state.pop(_REFUSED, None)


def button(label: str, act: Callable[[], str | None], *, key: str, **options: Any) -> None:
    """A button whose click does `act` before the page is drawn again.

    `act` must take what it needs of widgets from `st.session_state` (see above). What it returns
    is shown as a success, what it raises as an error in words.
    """
    st.button(label, key=key, on_click=_done, args=(act, key), **options)
    shown(key)


def shown(key: str) -> None:
    """How the last click of a button went; for one that is gone once it has done its work.

    It stays for some seconds, however often the page is drawn meanwhile: a run may come at once.
    """
    said = errors.outcome(f"{key}_said")
    if said is None:
        return
    went_well, sentence = said
    if went_well:
        st.success(escape_markdown(sentence), icon=":material/check:")
    else:
        st.error(escape_markdown(sentence), icon=":material/error:")


def _note(key: str) -> None:
    st.session_state.setdefault(_CLICKED, set()).add(key)


def _done(act: Callable[[], str | None], key: str) -> None:
    try:
        sentence = act()
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        errors.note_outcome(f"{key}_said", (False, errors.sentence_for(error)))
        return
    if sentence:
        errors.note_outcome(f"{key}_said", (True, sentence))
    else:
        errors.forget_outcome(f"{key}_said")
