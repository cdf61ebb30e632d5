"""The jobs of the page: examples, then questions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.autointerp.view import AutointerpView
from core.jobs import Job, JobState
from core.patch_scoping.question import speakers
from core.view.corpora import corpus_of, parse_corpus
from core.view.markup import escape_markdown, n_of
from core.view.selection import Selection
from pages.parts import action, job_results, latent_links, tasks, text_choice
from pages.parts.autointerp import VIEW
from pages.parts.latent import text_to_read
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.autointerp.prepare import Prepared
    from core.autointerp.record import Record
    from core.autointerp.request import RunRequest
    from core.autointerp.service import Service
    from core.corpus.documents import Corpus
    from core.lease import Lease

_ASKED = "ai_examples_asked"


def request_of(view: View, page: AutointerpView, service: "Service | None") -> "RunRequest":
    """What a run of the present choices is. Raises ValueError for a text that cannot be had."""
    from core.autointerp.request import RunRequest, relevant

    if view.selection is None or view.entry is None:
        raise ValueError("There is no SAE to run on; choose one on the left.")
    return RunRequest(
        model=view.selection.model,
        sae=view.selection.sae,
        version=view.entry.version,
        latent=view.selection.latent,
        view=relevant(page),
        corpus=corpus(page.corpus),
        service="" if service is None else service.endpoint.url,
        speaker=speaker(view),
        demo=resources.catalog().model(speaker(view)).source == "demo",
    )


def corpus(text: str) -> "Corpus":
    """The text that a link names. Raises ValueError where it is not on this server any more."""
    return corpus_of(parse_corpus(text), text_choice.uploads())


def speaker(view: View) -> str:
    """The model that explains the latents of the SAE, where a model does so itself."""
    if view.entry is None:
        return ""
    return speakers(view.choices, view.entry, resources.catalog())[0].name


def view_of_speaker(view: View) -> View:
    """The view with the model that explains in the place of the selected one."""
    if view.selection is None:
        return view
    return replace(view, selection=replace(view.selection, model=speaker(view)))


def draw(request: "RunRequest", service: "Service | None") -> None:
    """The button that starts a run, after an estimate where it costs something."""
    if request.asks and service is None:
        st.info("Set up the chat service above, or choose offline for both.")
        return
    if service is None or not request.asks:
        with st.container(horizontal=True, vertical_alignment="center"):
            _run_button(request, None, "Explain and score")
            st.caption(f"Runs on this machine alone and costs nothing. {_reading(request)}")
        _asked_model(request)
        return
    _asked_model(request)
    prepared = _prepared(request)
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
    from core.autointerp.run import estimate

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
        _run_button(request, service, f"Ask {n_of(found.calls, 'question')}")


def _run_button(request: "RunRequest", service: "Service | None", label: str) -> None:
    job = tasks.found(_run_key(request.id))
    running = job is not None and not job.state.finished
    if action.clicked(
        "Running…" if running else label,
        type="primary",
        icon=":material/play_arrow:",
        disabled=running,
        key="ai_run",
    ):
        tasks.attempt(lambda: start(request, service))
        st.rerun()


def start(
    request: "RunRequest",
    service: "Service | None",
    *,
    parent: "Record | None" = None,
    edits: Mapping[int, str] | None = None,
) -> None:
    """Start a run and show it from now on; `edits` score other explanations of `parent`'s."""
    from core.autointerp.record import edited_id
    from core.autointerp.run import run

    store = resources.store()
    name = edited_id(parent["base"], edits) if parent and edits else request.id
    known = resources.recent().get(_examples_key(request))

    def make(progress: Any) -> None:
        prepared = known or _prepare(request, progress, explain=not edits)
        lease = _lease(request, request.model, progress)
        run(lease, store, prepared, service, parent=parent, edits=edits)

    tasks.forget(_run_key(name))
    link = _link(request, run=name)
    tasks.submit(_run_key(name), "Explaining and scoring latents", make, link=link)
    VIEW.change(run=name)


def running_job(run: str) -> Job[Any] | None:
    """The job of a run, where this server has one."""
    return tasks.found(_run_key(run))


def draw_job(job: Job[Any]) -> None:
    """Progress of a run, or why it ended early; what is done is shown below it."""
    if not job.state.finished:
        job_results.draw_job(job)
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


def _prepared(request: "RunRequest") -> "Prepared | None":
    """The examples to ask about, or None: until the reader wants them, and while they are found."""
    key = _examples_key(request)
    is_known = resources.recent().get(key) is not None or tasks.found(key) is not None
    if not is_known and st.session_state.get(_ASKED) != key:
        with st.container(horizontal=True, vertical_alignment="center"):
            asked = action.clicked(
                "Find examples and estimate the cost",
                type="primary",
                icon=":material/search:",
                key="ai_prepare",
            )
            st.caption(f"Nothing is asked before you have seen the estimate. {_reading(request)}")
        if asked:
            st.session_state[_ASKED] = key
            st.rerun()
        return None
    return job_results.recent_result(
        key,
        "Finding examples",
        lambda progress: _prepare(request, progress),
        link=_link(request),
    )


def _reading(request: "RunRequest") -> str:
    """What must be read first, and how long that takes."""
    if resources.recent().get(_examples_key(request)) is not None:
        return "The text was read already."
    selection = Selection(request.model, *request.sae, latent=request.latent)
    n_tokens = request.view.total_tokens
    took = text_to_read.time_to_read(selection, n_tokens)
    few = request.view.choose == "this" and not request.view.controls
    return (
        f"Reading {n_tokens:,} tokens for examples takes {took}"
        + (", unless the dashboard has read them: then a moment" if few else "")
        + "; what was read before is not read again."
    )


def _prepare(request: "RunRequest", progress: Any, *, explain: bool = True) -> "Prepared":
    """What is known before anything is asked; without `explain`, no model explains latents."""
    from core.autointerp.prepare import prepare

    speaker = request.explaining_model if explain else ""
    return prepare(
        _lease(request, request.model, progress),
        resources.store(),
        request,
        _lease(request, speaker, progress) if speaker else None,
    )


def _lease(request: "RunRequest", model: str, progress: Any) -> "Lease":
    return resources.engine().lease(model, [request.sae], progress=progress)


def _examples_key(request: "RunRequest") -> str:
    return f"autointerp-examples:{request.id}"


def _run_key(run: str) -> str:
    return f"autointerp:{run}"


def _link(request: "RunRequest", **more: str) -> str:
    selection = Selection(request.model, *request.sae, latent=request.latent)
    view = VIEW.link.to_parameters(replace(VIEW.current(), run=""))
    return latent_links.address("autointerp", selection, **view, **more)
