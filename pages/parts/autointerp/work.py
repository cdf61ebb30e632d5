"""The jobs of the page: examples, then questions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.jobs import Job, JobState
from core.patch_scoping.question import speakers
from core.view.autointerp.view import AutointerpView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import latent_links, work
from pages.parts.autointerp import reading, state
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.view.autointerp.record import Record
    from core.view.autointerp.request import RunRequest
    from core.view.autointerp.running import Prepared, Service


def request_of(view: View, page: AutointerpView, service: "Service | None") -> "RunRequest":
    """What a run of the present choices is. Raises ValueError for a text that cannot be had."""
    from core.view.autointerp.request import RunRequest, relevant

    if view.selection is None or view.entry is None:
        raise ValueError("There is no SAE to run on; choose one on the left.")
    return RunRequest(
        model=view.selection.model,
        sae=view.selection.sae,
        version=view.entry.version,
        latent=view.selection.latent,
        view=relevant(page),
        corpus=reading.corpus(page),
        service="" if service is None else service.endpoint.url,
        speaker=speaker(view),
    )


def speaker(view: View) -> str:
    """The model that explains the latents of the SAE, where a model does so itself."""
    if view.entry is None:
        return ""
    return speakers(view.choices, view.entry, resources.catalog())[0].name


def spoken(view: View) -> View:
    """The view with the model that explains in the place of the selected one."""
    if view.selection is None:
        return view
    return replace(view, selection=replace(view.selection, model=speaker(view)))


def draw(request: "RunRequest", service: "Service | None", selection: Selection) -> None:
    """The button that starts a run, after an estimate where it costs something."""
    if request.asks and service is None:
        st.info("Set up the chat service above, or choose offline for both.")
        return
    if service is None or not request.asks:
        with st.container(horizontal=True, vertical_alignment="center"):
            _run_button(request, None, "Explain and score")
            st.caption("Runs on this machine alone and costs nothing.")
        _asked_model(request)
        return
    _asked_model(request)
    prepared = _prepared(request, selection)
    if prepared is not None:
        _offer(request, prepared, service)


def _asked_model(request: "RunRequest") -> None:
    if not request.explaining_model:
        return
    controls = ", and of the directions that the controls write" if request.view.controls else ""
    st.caption(
        escape_markdown(
            f"{request.explaining_model} is asked for the meaning of each latent{controls}, as the "
            "page of patch scoping asks it unless told otherwise."
        )
    )
    if request.view.judge == "words":
        st.caption(
            ":orange[Matching words takes a definition literally: one that paraphrases scores no "
            "better than chance. Have a chat model judge to see what such texts are worth.]"
        )


def _offer(request: "RunRequest", prepared: "Prepared", service: "Service") -> None:
    from core.view.autointerp.running import estimate

    found = estimate(prepared, service)
    cost = "unknown" if found.dollars is None else f"${found.dollars:.4f}"
    with st.container(border=True):
        with st.container(horizontal=True, gap="large"):
            st.metric("Questions", f"{found.calls:,}", width="content")
            st.metric("Tokens sent, about", f"{found.prompt_tokens:,}", width="content")
            st.metric("Tokens received, at most", f"{found.completion_tokens:,}", width="content")
            st.metric(
                "Cost, at most",
                cost,
                width="content",
                help="Type the prices of the model under “Chat service” to see it.",
            )
        st.caption(
            "Answers that this server has already paid for are read again at no cost. Reminders "
            "after answers that cannot be read come on top, within the budget. Tokens received "
            f"count {request.view.thinking_tokens:,} of room for thoughts with each answer "
            "(Settings); models that do not think use little of it."
        )
        _run_button(request, service, f"Ask {found.calls:,} questions")


def _run_button(request: "RunRequest", service: "Service | None", label: str) -> None:
    job = resources.jobs().get(_run_key(request.id))
    running = job is not None and not job.state.finished
    st.button(
        "Running…" if running else label,
        type="primary",
        icon=":material/play_arrow:",
        disabled=running,
        key="ai_run",
        on_click=lambda: start(request, service),
    )


def start(
    request: "RunRequest",
    service: "Service | None",
    *,
    parent: "Record | None" = None,
    edits: Mapping[int, str] | None = None,
) -> None:
    """Start a run and show it from now on; `edits` score other explanations of `parent`'s."""
    from core.view.autointerp.record import edited_id
    from core.view.autointerp.running import prepare, run

    engine, store, jobs = resources.engine(), resources.store(), resources.jobs()
    name = edited_id(parent["base"], edits) if parent and edits else request.id
    earlier = jobs.get(_prepare_key(request))
    known = earlier.result() if earlier is not None and earlier.state is JobState.DONE else None

    def make(progress: Any) -> None:
        prepared = known or prepare(engine, store, request, progress, explain=not edits)
        run(engine, store, prepared, service, progress, parent=parent, edits=edits)

    jobs.forget(_run_key(name))
    link = _link(request, run=name)
    jobs.submit(_run_key(name), "Explaining and scoring latents", make, link=link)
    state.change(run=name)


def running_job(run: str) -> Job[Any] | None:
    """The job of a run, where this server has one."""
    return resources.jobs().get(_run_key(run))


def shown(job: Job[Any]) -> None:
    """Progress of a run, or why it ended early; what is done is shown below it."""
    if not job.state.finished:
        work.shown(job)
        return
    error = job.view().error
    if job.state is JobState.CANCELLED:
        st.info(
            "This run was cancelled; what was done is kept below. Running it again asks only what "
            "was not answered yet.",
            icon=":material/cancel:",
        )
    elif error:
        st.error(escape_markdown(error), icon=":material/error:")


def _prepared(request: "RunRequest", selection: Selection) -> "Prepared | None":
    from core.view.autointerp.running import prepare

    key = _prepare_key(request)
    job = resources.jobs().get(key)
    if job is None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Find examples and estimate the cost",
                type="primary",
                icon=":material/search:",
                key="ai_prepare",
                on_click=lambda: _prepare(request),
            )
            st.caption("Nothing is asked before you have seen the estimate.")
        return None
    engine, store = resources.engine(), resources.store()
    return work.result(
        key,
        "Finding examples",
        lambda progress: prepare(engine, store, request, progress),
        link=_link(request),
    )


def _prepare(request: "RunRequest") -> None:
    from core.view.autointerp.running import prepare

    engine, store = resources.engine(), resources.store()
    resources.jobs().submit(
        _prepare_key(request),
        "Finding examples",
        lambda progress: prepare(engine, store, request, progress),
        link=_link(request),
    )


def _prepare_key(request: "RunRequest") -> str:
    return f"autointerp-examples:{request.id}"


def _run_key(run: str) -> str:
    return f"autointerp:{run}"


def _link(request: "RunRequest", **more: str) -> str:
    selection = Selection(request.model, *request.sae, latent=request.latent)
    return latent_links.address("autointerp", selection, **_parameters(), **more)


def _parameters() -> dict[str, str]:
    from core.view.autointerp.view import LINK

    found = LINK.to_parameters(state.current())
    return {name: text for name, text in found.items() if name != "run"}
