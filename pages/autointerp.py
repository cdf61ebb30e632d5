"""Autointerp: explanations of latents in words, with scores that say how far to trust them."""

import streamlit as st

from core import resources
from core.autointerp.view import FIRST, AutointerpView, parse_view
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import errors, frame, look, opening
from pages.parts.autointerp import VIEW, controls, detail, files, jobs, results, service
from pages.parts.view_state import View

INTRO = (
    "What does a latent respond to, in words, and how good are the words? An explainer sees some "
    "of the latent's strongest examples and writes an explanation. A judge gets the explanation "
    "alone and says in which other texts the latent should be active. The score is how often the "
    "judge is right, and it stands beside what knowing nothing would score."
)
_PANELS = {"histogram": "Beside controls", "compare": "Compare runs", "files": "Use and download"}


def draw(view: View) -> None:
    """What this page has of its own."""
    selection = opening.heading(view, "Autointerp", INTRO, about_latent=False)
    if selection is None:
        return
    page = VIEW.begin(parse_view, first=FIRST)
    for problem in VIEW.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    controls.draw(page, selection)
    if view.entry is not None:
        controls.text(page, selection, view.entry)
    if not opening.ready(view):
        return
    with errors.shown_plainly():
        asks = "chat" in (page.explainer, page.judge)
        chosen = service.draw(page.chat_model) if asks else None
        if page.explainer != "scope" or opening.ready(jobs.view_of_speaker(view)):
            jobs.draw(jobs.request_of(view, page, chosen), chosen)
    if page.run:
        with errors.shown_plainly():
            _run(view, page, selection)


def _run(view: View, page: AutointerpView, selection: Selection) -> None:
    """The run of the link: its progress while it runs, and what is done of it."""
    from core.autointerp.record import load_record

    job = jobs.running_job(page.run)
    if job is not None:
        jobs.draw_job(job)
    record = load_record(resources.store(), page.run)
    if record is None:
        if job is None or job.state.finished:
            st.info(
                "The run of this link is not kept on this server. Its settings are above: run it "
                "again to see the same."
            )
        return
    if record["model"] != selection.model or (record["release"], record["sae"]) != selection.sae:
        st.info("The run of this link is of another SAE; run this one to see its latents.")
        return
    results.heading(record)
    results.table(record, selection)
    asks = "chat" in (record["settings"]["explainer"], record["settings"]["judge"])
    chosen = service.current(record) if asks else None
    detail.draw(record, selection, chosen)
    panel = st.segmented_control(
        "More about the run",
        list(_PANELS),
        required=True,
        format_func=_PANELS.__getitem__,
        default="histogram",
        key="ai_panel",
        label_visibility="collapsed",
    )
    dark = look.is_dark()
    if panel == "compare":
        results.comparison(record)
    elif panel == "files" and view.entry is not None:
        files.draw(record, view.entry, dark=dark)
    else:
        results.distribution(record, dark=dark)


frame.show(draw)
