"""The view of one page in this session: read from a link, changed by widgets, written to the link.

The session leads and the link follows it; only a link that this session did not write (a new tab,
an edited address, the Back button) is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

import streamlit as st

from core.link import Link

V = TypeVar("V")


class PageState(Generic[V]):
    """What of a page, besides the selection, its link carries."""

    def __init__(self, name: str, link: Link[V]) -> None:
        """`name` keeps the pages of a session apart."""
        self.link = link
        self._view, self._written = f"{name}_view", f"{name}_written"
        self._problems, self._changed = f"{name}_problems", f"{name}_changed"

    def begin(
        self, parse: Callable[[Mapping[str, str]], tuple[V, tuple[str, ...]]] | None = None
    ) -> V:
        """The view to show, to be called once a run; a foreign link is followed first."""
        state, link = st.session_state, self._read_link()
        if link and link != state.get(self._written) and not state.get(self._changed):
            state[self._view], state[self._problems] = (parse or self.link.parse)(link)
        state.pop(self._changed, None)
        self._write_link(self.current())
        return self.current()

    def current(self) -> V:
        """The view of this session, for callbacks."""
        return st.session_state.get(self._view, self.link.default)

    def problems(self) -> tuple[str, ...]:
        """What of the link could not be followed."""
        return st.session_state.get(self._problems, ())

    def change(self, **fields: Any) -> None:
        """Another view from the next run on; for callbacks of widgets."""
        current: Any = self.current()
        self.show(replace(current, **fields))

    def show(self, view: V) -> None:
        """`view` from the next run on; for callbacks of widgets."""
        state = st.session_state
        state[self._view], state[self._problems], state[self._changed] = view, (), True

    def note(self, view: V) -> None:
        """`view` is what the browser shows already: only the link has to follow."""
        st.session_state[self._view] = view
        self._write_link(view)

    def _read_link(self) -> dict[str, str]:
        return {it: st.query_params[it] for it in self.link.parameters if it in st.query_params}

    def _write_link(self, view: V) -> None:
        wanted, there = self.link.to_parameters(view), self._read_link()
        for name in set(there) - set(wanted):
            del st.query_params[name]
        changed = {name: text for name, text in wanted.items() if there.get(name) != text}
        if changed:
            st.query_params.update(changed)
        st.session_state[self._written] = wanted
