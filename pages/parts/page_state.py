"""What this session looks at: read from a link, changed by widgets, written to the link.

The session leads and the link follows it. Only a link that the session did not write itself (a new
tab, an edited address, the Back button) is read. `SessionLink` tells which are which, for the
selection that all pages share (view_state.py) as for the view of one page (`PageState`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import streamlit as st

from core.link import Link

V = TypeVar("V")
_STALE_SECONDS = 1.0


class SessionLink:
    """Some query parameters of the address, and which values of them this session wrote."""

    def __init__(self, name: str, parameters: Sequence[str]) -> None:
        """`name` keeps several of these apart in one session."""
        self.parameters = tuple(parameters)
        self._own, self._before = f"{name}_link", f"{name}_link_before"
        self._written_at, self._changed = f"{name}_link_written_at", f"{name}_changed"

    def read(self) -> dict[str, str]:
        """What the address says."""
        return {name: st.query_params[name] for name in self.parameters if name in st.query_params}

    def foreign(self) -> dict[str, str] | None:
        """What the address says if this session did not write it, else None."""
        state, link = st.session_state, self.read()
        just_changed = state.pop(self._changed, False)
        if just_changed or not link or link == state.get(self._own):
            return None
        # A click may have been sent before the browser heard of the link that the last run wrote.
        is_recent = time.monotonic() - state.get(self._written_at, 0.0) < _STALE_SECONDS
        return None if is_recent and link == state.get(self._before) else link

    def write(self, wanted: dict[str, str]) -> None:
        """Make the address say `wanted`."""
        state, before = st.session_state, self.read()
        if before != wanted:
            for name in set(before) - set(wanted):
                del st.query_params[name]
            st.query_params.update(wanted)
            state[self._before], state[self._written_at] = before, time.monotonic()
        state[self._own] = wanted

    def lead(self) -> None:
        """What a widget's callback changed comes before whatever the address still says."""
        st.session_state[self._changed] = True

    def forget(self) -> None:
        """The address counts as written by someone else, until it is written again."""
        st.session_state.pop(self._own, None)


def show(key: str, value: Any) -> None:
    """Have the widget of this key show `value`, and leave it alone where it does already.

    A value that is set goes to the browser, over whatever is being typed there. The widget needs it
    as its default too (`value`, `default` or `index`): a browser first takes the default of a
    widget that it has not drawn yet, and where something is sent at that moment, that default comes
    back as if it had been chosen.
    """
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def options_of(options: Sequence[Any], shown: Any) -> dict[str, Any]:
    """The options of a menu and which of them is its default: the one that is shown."""
    options = list(options)
    return {"options": options, "index": options.index(shown) if shown in options else 0}


class PageState(Generic[V]):
    """What of a page, besides the selection, its link carries."""

    def __init__(
        self, name: str, link: Link[V], *, forgets: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """`name` keeps the pages of a session apart.

        `forgets` names, for a field, those whose change makes its value meaningless (a cell of
        a matrix, when the prompt is another): it goes back to its default then.
        """
        self.link = link
        self._forgets = dict(forgets or {})
        self._view, self._problems = f"{name}_view", f"{name}_problems"
        self._by_link = f"{name}_by_link"
        self._address = SessionLink(name, link.parameters)

    def begin(
        self,
        parse: Callable[[Mapping[str, str]], tuple[V, tuple[str, ...]]] | None = None,
        *,
        first: V | None = None,
    ) -> V:
        """The view to show, to be called once a run; a foreign link is followed first.

        A session that begins without a link begins with `first`, or else the link's default.
        """
        link = self._address.foreign()
        st.session_state[self._by_link] = link is not None
        if link is not None:
            view, problems = (parse or self.link.parse)(link)
            st.session_state[self._view], st.session_state[self._problems] = view, problems
        elif first is not None and self._view not in st.session_state:
            st.session_state[self._view] = first
        self._address.write(self.link.to_parameters(self.current()))
        return self.current()

    def current(self) -> V:
        """The view of this session, for callbacks."""
        return st.session_state.get(self._view, self.link.default)

    def came_by_link(self) -> bool:
        """Whether this run has followed a link that the session did not write."""
        return bool(st.session_state.get(self._by_link, False))

    def problems(self) -> tuple[str, ...]:
        """What of the link could not be followed."""
        return st.session_state.get(self._problems, ())

    def change(self, **fields: Any) -> None:
        """Another view from the next run on; for callbacks of widgets."""
        self.show(self.with_fields(**fields))

    def with_fields(self, **fields: Any) -> V:
        """The view with other fields, and without what these make meaningless."""
        for name, causes in self._forgets.items():
            if name not in fields and not fields.keys().isdisjoint(causes):
                fields[name] = getattr(self.link.default, name)
        current: Any = self.current()
        changed: V = replace(current, **fields)
        return changed

    def show(self, view: V) -> None:
        """`view` from the next run on; for callbacks of widgets."""
        st.session_state[self._view], st.session_state[self._problems] = view, ()
        self._address.lead()

    def note(self, view: V) -> None:
        """`view` is what the browser shows already: only the link has to follow."""
        st.session_state[self._view] = view
        self._address.write(self.link.to_parameters(view))

    def widget(
        self,
        key: str,
        field: str,
        *,
        value: Any = None,
        read: Callable[[Any], Any] | None = None,
        **others: Any,
    ) -> dict[str, Any]:
        """What makes a box, a slider or a switch show and change one field of the view.

            st.slider("Depth", 0, 9, **PAGE.widget("depth_slider", "depth"))

        It shows `value`, or what the field holds where that is None. What is chosen goes through
        `read` into the field, and `others` change with it.
        """
        shown = getattr(self.current(), field) if value is None else value
        show(key, shown)

        def changed() -> None:
            chosen = st.session_state[key]
            if chosen is None:
                chosen = getattr(self.current(), field)
            elif read is not None:
                chosen = read(chosen)
            self.change(**{field: chosen, **others})

        return {"key": key, "on_change": changed, "value": shown}

    def choices(self, key: str, field: str, **how: Any) -> dict[str, Any]:
        """As `widget`, for a row of buttons or a menu of which several can be chosen.

        A row of buttons whose choice is taken back leaves the field as it was.
        """
        made = self.widget(key, field, **how)
        return {"default": made.pop("value"), **made}

    def menu(self, key: str, field: str, options: Sequence[Any], **how: Any) -> dict[str, Any]:
        """As `widget`, for a menu or a list of radio buttons, with its options."""
        made = self.widget(key, field, **how)
        return {**options_of(options, made.pop("value")), **made}
