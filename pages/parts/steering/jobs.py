"""The job behind the page, and what it needs to know first."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.dossier.plan import beside
from core.steering.view import (
    MOST_ROWS,
    SteerView,
    check_unit,
    place_of,
    strengths_of,
    unit_of,
)
from core.view.choices import Choices
from core.view.markup import n_of
from core.view.selection import Selection
from pages.parts import action, job_results, tasks
from pages.parts.latent import index
from pages.parts.latent import session as latent_page

if TYPE_CHECKING:
    from core.steering.request import SteerRequest
    from core.steering.result import SteerResult

Groups = tuple[tuple[int, ...], ...]


@st.cache_resource(show_spinner=False, max_entries=200)
def width(selection: Selection) -> int:
    """Latents of an SAE that is loaded."""
    with resources.engine().use(selection.model, [selection.sae]) as (_, (sae,)):
        return int(sae.cfg.d_sae)


def largest(
    selection: Selection, entry: SaeEntry, view: SteerView, groups: Groups
) -> tuple[tuple[float, ...], ...] | None:
    """Largest activations of the latents, if strengths are given in them, else nothing.

    None while a text is being read for them, which is shown, or where none was read.
    """
    unit = unit_of(view)
    if unit != "largest" and not (unit == "kl" and view.together):
        return ()
    opened = index.open_index(selection, entry, latent_page.current())
    if opened is not None:
        peaks = opened.summary["max"].to_numpy()
        return tuple(tuple(float(peaks[it]) for it in group) for group in groups)
    if unit == "kl":
        return ()
    if not index.is_being_made(selection, entry, latent_page.current()):
        st.info(
            "No text was read with this SAE yet, so the largest activations of its latents are not "
            "known: read one on the page of the latent, or give strengths in another unit.",
            icon=":material/menu_book:",
        )
    return None


def request(
    selection: Selection,
    entry: SaeEntry,
    view: SteerView,
    groups: Groups,
    largest: tuple[tuple[float, ...], ...],
    *,
    width: int,
    choices: Choices,
) -> "SteerRequest":
    """What the view asks for. Raises ValueError for what cannot be steered."""
    from core.patch_scoping.sampling import Sampling
    from core.steering.request import SteerRequest

    check_unit(view)
    wanted = SteerRequest(
        model=selection.model,
        sae=selection.sae,
        sae_version=entry.version,
        groups=groups,
        prompt=view.prompt,
        chat=view.chat,
        mode=view.mode,
        unit=unit_of(view),
        strengths=strengths_of(view),
        place=place_of(view, width=width),
        largest=largest,
        sampling=Sampling(
            temperature=view.temperature,
            top_p=view.top_p,
            freq_penalty=view.penalty,
            n_samples=view.samples,
            seed=view.seed,
        ),
        new_tokens=view.new_tokens,
        n_random=view.randoms,
        after=beside(choices, entry)[1],
    )
    if not view.prompt.strip():
        raise ValueError("The prompt is empty; type a few words that the model can go on from.")
    if wanted.n_rows > MOST_ROWS:
        raise ValueError(
            f"That is {wanted.n_rows:,} texts; at most {MOST_ROWS:,} are written at a time, so "
            "choose fewer latents, strengths, random directions or texts of each row."
        )
    return wanted


def steered(
    request: "SteerRequest", *, link: str, partly: job_results.Partly
) -> "SteerResult | None":
    """The rows, or None: while they are made, or until the reader starts it.

    While they are made, and where that was stopped, `partly` draws what is there.
    """
    from core.steering.run import run_steering

    store = resources.store()

    def make(progress: Any) -> "SteerResult":
        lease = resources.engine().lease(request.model, request.names, progress=progress)
        return run_steering(lease, store, request)

    n = len(request.groups)
    what = f"latent {request.groups[0][0]}" if n == 1 and len(request.groups[0]) == 1 else None
    title = f"Steering {what or f'{sum(map(len, request.groups))} latents'}"
    asked = f"steer_asked_{request.key}"
    small = resources.catalog().model(request.model).source == "demo" and request.n_rows <= 100
    if not small and not st.session_state.get(asked) and tasks.found(request.key) is None:
        if action.clicked(
            f"Write {n_of(request.n_rows, 'text')}",
            type="primary",
            icon=":material/play_arrow:",
            key="steer_start",
        ):
            st.session_state[asked] = True
            st.rerun()
        st.caption(
            f"Each has at most {request.new_tokens} tokens. What was asked before is answered from "
            "the store; the task can be stopped, and others can use the model meanwhile."
        )
        return None
    return job_results.recent_result(
        request.key, title, make, wait=0.3, link=link, room=600, partly=partly
    )
