"""Jobs on behalf of whoever looks at the page: `core.hosting.desk` with the person filled in."""

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from core import resources
from core.hosting import rights
from core.hosting.rights import Action
from core.jobs import Job, JobManager, JobView
from core.view.markup import escape_markdown
from pages.parts import errors, people

T = TypeVar("T")
_SAID = "tasks_said"


def submit(
    key: str,
    title: str,
    work: Callable[[Any], T],
    *,
    link: str | None = None,
    manager: JobManager | None = None,
    right: Action | None = None,
) -> Job[T]:
    """The job of `key`, as `Desk.submit`; of `resources.jobs()` unless another manager is given."""
    where = resources.jobs() if manager is None else manager
    return resources.desk().submit(
        people.current(), where, key, title, work, link=link, right=right
    )


def found(key: str) -> Job[Any] | None:
    """The job that `submit` would come upon, if there is one."""
    return resources.desk().found(people.current(), resources.jobs(), key)


def forget(key: str, *, manager: JobManager | None = None) -> None:
    """Have the next `submit` of `key` start afresh."""
    where = resources.jobs() if manager is None else manager
    resources.desk().forget(people.current(), where, key)


def cancel(manager: JobManager, view: JobView) -> None:
    """Stop a job, as `Desk.cancel`; for callbacks."""
    attempt(lambda: resources.desk().cancel(people.current(), manager, view))


def may_cancel(view: JobView) -> bool:
    """Whether whoever looks may stop this job."""
    person = people.current()
    return person.local or rights.allowed(person, rights.cancel(person, view.owners))


def attempt(act: Callable[[], object]) -> None:
    """Do something from a callback; what it raises stands at the top of the page afterwards."""
    try:
        act()
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        errors.note_outcome(_SAID, errors.sentence_for(error))
    else:
        errors.forget_outcome(_SAID)


def said() -> None:
    """What the last callback was refused for."""
    sentence = errors.outcome(_SAID)
    if sentence is not None:
        st.error(escape_markdown(sentence), icon=":material/block:")
