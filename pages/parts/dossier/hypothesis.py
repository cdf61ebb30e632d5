"""Test a hypothesis: typed, tried on held-out text, and kept with its author."""

import hashlib
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.dossier.view import JUDGES, KINDS, LINK, MOST_HYPOTHESIS, DossierView
from core.hosting.rights import Action
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import downloads, latent_links, loading, people, tables, typed
from pages.parts.autointerp import service
from pages.parts.dossier import VIEW, chapters, offered
from pages.parts.dossier.latent import request_of
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.autointerp.service import Service
    from core.dossier.request import DossierRequest
    from core.dossier.trial import Trial

_PLACEHOLDERS = {
    "tokens": 'array, " of", "\\n"',
    "explanation": 'the word "array" in documentation of shapes',
}
_READ = {
    "tokens": "Between commas or spaces. In quotation marks a token exactly as it is, spaces "
    "included; without, the word with and without a space in front of it.",
    "explanation": "Offline, the words in quotation marks are looked for (“begins with”, “ends "
    "in” and the like are understood), else its telling words; a chat model reads it whole.",
}
_NAME, _LINE = "dossier_trial_who", "dossier_trial_line"


def draw(selection: Selection, view: View, page: DossierView) -> None:
    """The fields, the button, and all trials of this latent."""
    request = request_of(view, selection, page)
    st.caption(
        "Say where you think that the latent fires. The prediction is held against documentation "
        "that nothing in the dossier was made from, beside 99 random latents that fire as often; "
        "every trial is kept, the failed ones, too."
    )
    asked = _fields(page)
    entry = view.entry
    if entry is not None and entry.source == "hub" and not loading.is_loaded(selection):
        loading.draw(selection, entry)
        return
    if asked is not False:
        _button(request, selection, page, asked)
    _trials(request)


def _fields(page: DossierView) -> "Service | bool | None":
    """What is typed; the service that judges, None for the offline judge, False for none yet."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.segmented_control(
            "What you type",
            list(KINDS),
            required=True,
            format_func=KINDS.__getitem__,
            **VIEW.choices("dossier_kind", "kind"),
        )
        if page.kind == "explanation":
            st.segmented_control(
                "Judged by",
                list(JUDGES),
                required=True,
                format_func=JUDGES.__getitem__,
                **VIEW.choices("dossier_judge", "judge"),
            )
        if people.current().local:
            typed.line("Your name", key=_NAME, most=40, width=180)
    typed.area(
        "Where it fires",
        most=MOST_HYPOTHESIS,
        placeholder=_PLACEHOLDERS[page.kind],
        height=80,
        help=_READ[page.kind],
        **VIEW.widget("dossier_hypothesis", "hypothesis", read=str.strip),
    )
    if page.kind != "explanation" or page.judge != "chat":
        return None
    found = service.draw(page.chat_model, page=VIEW)
    return False if found is None else found


def _button(
    request: "DossierRequest",
    selection: Selection,
    page: DossierView,
    asked: "Service | bool | None",
) -> None:
    person = people.current()
    who = str(st.session_state.get(_NAME, "")) if person.local else person.author
    judge = "" if asked is None or isinstance(asked, bool) else asked.endpoint.model
    told = "\0".join((request.of(request.latent).key, page.kind, page.hypothesis, judge, who))
    offered.draw(
        "Try it",
        button="dossier_try",
        key="dossier-trial:" + hashlib.sha256(told.encode()).hexdigest()[:24],
        title=f"A hypothesis on latent {request.latent}",
        work=_work(request, page, asked, who),
        link=latent_links.address("dossier", selection, **LINK.to_parameters(page)),
        kind="primary",
        may=lambda: _may(page),
    )


def _may(page: DossierView) -> None:
    people.require(Action.WRITE)
    if not page.hypothesis:
        raise ValueError("Nothing is typed yet; say where you think that the latent fires.")
    st.session_state.pop(_LINE, None)  # the new trial is the one to look at


def _work(
    request: "DossierRequest", page: DossierView, asked: "Service | bool | None", who: str
) -> Any:
    store = resources.store()

    def work(progress: Any) -> None:
        from core.autointerp.service import Service
        from core.dossier.hypothesis import Hypothesis
        from core.dossier.others import note_fingerprint
        from core.dossier.shared import Shared
        from core.dossier.trial import try_hypothesis
        from core.dossier.trials import save_trial

        hypothesis = Hypothesis(page.kind, page.hypothesis)
        shared = Shared(offered.lease_of(progress), store, request)
        fingerprint = shared.lease.sae_fingerprints[0]
        note_fingerprint(store, request, fingerprint)
        if isinstance(asked, Service):
            from core.dossier.trial_chat import try_with_chat

            session = asked.session(store)
            trial = try_with_chat(shared, request.latent, hypothesis, session, who=who)
        else:
            trial = try_hypothesis(shared, request.latent, hypothesis, who=who)
        save_trial(store, fingerprint, request.latent, trial)

    return work


def _trials(request: "DossierRequest") -> None:
    """The latest or the chosen trial in full, and the list of all."""
    import pandas as pd

    from core.dossier.others import known_fingerprint
    from core.dossier.trial import TRIAL_COLUMNS
    from core.dossier.trials import load_trials

    store = resources.store()
    fingerprint = known_fingerprint(store, request)
    trials = load_trials(store, fingerprint, request.latent) if fingerprint else ()
    if not trials:
        return
    chosen = st.session_state.get(_LINE)
    shown = next((it for it in trials if it.when == chosen), trials[0])
    chapters.styles()
    _in_full(shown)
    st.subheader(f"All trials of this latent ({len(trials)})", anchor=False)
    table = pd.DataFrame([it.cells() for it in trials], columns=list(TRIAL_COLUMNS))

    def choose(line: int) -> None:
        st.session_state[_LINE] = trials[line].when

    tables.clickable(table, choose, key="dossier_trials")
    downloads.table(lambda: table, f"trials-{request.latent}", key="dossier_trials_file")


def _in_full(trial: "Trial") -> None:
    from core.dossier.readers import trial_blocks
    from core.dossier.trial import VERDICTS

    st.subheader(escape_markdown(f"“{trial.hypothesis}”"), anchor=False)
    by_name = {it.name: it for it in trial.measures}
    names = {
        "precision": "Precision",
        "recall": "Recall",
        "recall_strong": "Recall, strong firings",
        "others": "Random latents' texts named",
    }
    with st.container(horizontal=True, gap="large"):
        for name, title in names.items():
            it = by_name.get(name)
            if it is None:
                continue
            chance = it.chance("latents")
            beside = f"random latents {chance:.0%}" if chance == chance else None
            value = f"{it.value:.0%}" if it.known else "–"
            with st.container(width="content"):
                st.metric(title, value, beside, delta_color="off", delta_arrow="off")
                if it.low == it.low:
                    st.caption(f"{it.low:.0%}–{it.high:.0%}, n = {it.n:,}")
    show = {"fits": st.success, "like chance": st.warning}.get(trial.verdict, st.info)
    show(escape_markdown(VERDICTS[trial.verdict]))
    chapters.draw_blocks(trial_blocks(trial)[1:], key="dossier_trial", fold=False)
