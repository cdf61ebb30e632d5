"""Long tasks that a restart cut off: each with a way back to the page where it goes on."""

import time

import streamlit as st

from core import resources
from core.hosting import rights
from core.hosting.people import Person
from core.hosting.rights import Action
from core.jobs.under_way import Interrupted
from core.view.markup import escape_markdown
from pages.parts import jobs_panel, people, tasks


def draw() -> None:
    """Those of whoever looks, and for an administrator everybody's; nothing where there are none.

    A stranger's may be named after what they chose, and its link may hold a text of theirs.
    """
    person = people.current()
    found = [it for it in resources.under_way().interrupted() if _is_seen(person, it)]
    if not found:
        return
    st.subheader("Interrupted by a restart")
    st.caption(
        "What these had kept is still there. Open one to let it go on from there: nothing is "
        "started again by itself."
    )
    for number, it in enumerate(found):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(escape_markdown(_words(person, it)))
            if it.link:
                jobs_panel.open_link(
                    it.link, key=f"open_interrupted_{number}", label="Open and go on"
                )
            st.button(
                "Dismiss",
                key=f"dismiss_{number}",
                help=f"Take “{it.title}” off this list; what it kept stays.",
                on_click=_dismiss,
                args=(it,),
            )


def _dismiss(one: Interrupted) -> None:
    def forget() -> None:
        person = people.current()
        if not person.local:
            people.require(rights.cancel(person, one.owners))
        resources.under_way().forget(one.key)

    tasks.attempt(forget)


def _is_seen(person: Person, one: Interrupted) -> bool:
    own = person.local or person.id in one.owners
    return own or rights.allowed(person, Action.SEE_PEOPLE)


def _words(person: Person, one: Interrupted) -> str:
    others = "" if person.local or person.id in one.owners else f" ({', '.join(one.owners)})"
    done = "" if one.fraction is None else f" · {one.fraction:.0%} done"
    return f"{one.title}{others}{done} · {time.strftime('%d %b %H:%M UTC', time.gmtime(one.at))}"
