"""Whether the model and all SAEs of a view are on this machine; downloads wait for a click."""

from collections.abc import Sequence

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.device import format_bytes
from core.hosting.rights import Action
from core.jobs import JobState
from core.view import loading
from core.view.markup import escape_markdown
from pages.parts import people, tasks
from pages.parts.loading import plan_job, plan_table
from pages.parts.polling import rerun_when

_AGREED = "weights_download"


def ready(model: str, entries: Sequence[SaeEntry], *, then: str = "Download and go on") -> bool:
    """Whether all weights are here, or may be fetched; else asks before it downloads.

    `then` is what the button says.
    """
    if all(entry.source != "hub" for entry in entries):
        return True
    names = [entry.key for entry in entries]
    key = f"plan:{model}:{names}"
    if st.session_state.get(_AGREED) == key and people.may(Action.DOWNLOAD):
        return True
    engine, catalog, jobs = resources.engine(), resources.catalog(), resources.loads()
    job = plan_job(
        key,
        f"Sizes of {len(names)} SAEs",
        lambda progress: loading.plan_all(engine, catalog, model, names, progress),
    )
    job.wait(0.2)
    if not job.state.finished:
        text = "Asking what must be loaded…"
        rerun_when(lambda: job.state.finished, draw=lambda: st.caption(text))
        return False
    if job.state is not JobState.DONE:
        st.error(
            escape_markdown(job.view().error or "This was cancelled."), icon=":material/error:"
        )
        st.button("Try again", key="weights_plan_again", on_click=lambda: jobs.forget(key))
        return False
    plan = job.result()
    if plan.complete and plan.problem is None:
        return True
    with st.container(border=True):
        n_bytes = format_bytes(plan.bytes_to_download)
        st.markdown(f"**This needs weights that are not on this machine yet ({n_bytes})**")
        plan_table(plan)
        if all(file.size is not None for part in plan.parts for file in part.files):
            needed = format_bytes(plan.memory_needed)
            st.caption(f"With all of them in memory at once, up to {needed} of it are needed.")
        if plan.problem is not None:
            st.warning(escape_markdown(plan.problem), icon=":material/warning:")
        st.button(
            then,
            type="primary",
            icon=":material/download:",
            disabled=plan.problem is not None or not people.may(Action.DOWNLOAD),
            on_click=_agree,
            args=(key, plan.bytes_to_download),
        )
    return False


def _agree(key: str, n_bytes: int) -> None:
    def agree() -> None:
        people.require(Action.DOWNLOAD)
        resources.audit().write(people.current(), "download", what=key, bytes=n_bytes)
        st.session_state[_AGREED] = key

    tasks.attempt(agree)
