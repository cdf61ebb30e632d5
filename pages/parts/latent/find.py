"""The tab that searches all SAEs of the model at once: which latents fire here?"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.latent.view import (
    FIND_LINK,
    FIND_RANKINGS,
    FIND_WAYS,
    MOST_CHARACTERS,
    FindView,
    LatentPageView,
)
from core.view.markup import escape_markdown, n_of
from core.view.selection import Selection
from pages.parts import (
    action,
    downloads,
    errors,
    job_results,
    latent_links,
    people,
    typed,
    view_state,
)
from pages.parts.latent import find_kept
from pages.parts.latent.session import draw_clickable_table, text_of_box
from pages.parts.page_state import PageState

if TYPE_CHECKING:
    import pandas as pd

    from core.firings.find import Found, Own
    from core.firings.kept import Kept

_PROPOSED = {
    "text": "Return the mean of the array elements along the given axis.",
    "tokens": 'mean " array"',
    "regex": r"numpy\.\w+",
    "latent": "",
}
_LABELS = {"text": "Text", "tokens": "Tokens", "regex": "Pattern"}
_HELP = {
    "text": "It is run through the model and all SAEs. Ctrl+Enter (⌘+Enter on a Mac) runs it.",
    "tokens": "A word means every token that is it, a space in front or not; in quotation marks, "
    'exactly that: mean " array".',
    "regex": "A regular expression of RE2 (no look-around), matched in the running text; what "
    "fires at any token of a match counts.",
}
_MOST_LISTED = 200


def draw(selection: Selection, entry: SaeEntry, page: LatentPageView) -> None:
    """The tab; the selection must be loaded."""
    state = PageState("find", FIND_LINK)
    view = state.begin()
    for problem in state.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    _controls(view, state, selection)
    entries = entries_here(selection, entry)
    kept = find_kept.of_text(selection, entries, page)
    asked = replace(view, typed=view.typed or _PROPOSED[view.way])
    if view.way != "text" and not kept:
        st.info(
            "This is looked for in a text of which every firing was kept, and of the text of the "
            "dashboard none was. Keep them below, or look for a text that you type.",
            icon=":material/database:",
        )
    elif view.way == "latent" or asked.typed.strip():
        # What cannot be looked for leaves the panel below in its place.
        with errors.shown_plainly():
            found = _found(selection, entries, kept, asked)
            if found is not None:
                _results(selection, found, asked)
    find_kept.draw(selection, entries, kept, page)


def entries_here(selection: Selection, entry: SaeEntry) -> list[SaeEntry]:
    """The selected SAE and all others of the model that are on this machine, by release."""
    choices = view_state.current().choices
    local = [
        other
        for release in choices.releases_for(selection.model)
        for other in choices.saes_for(release.release, selection.model)
        if other.source != "hub"
    ]
    return local if entry in local else [entry, *local]


def _controls(view: FindView, state: PageState[FindView], selection: Selection) -> None:
    st.segmented_control(
        "Look for latents of any SAE that fire on",
        list(FIND_WAYS),
        required=True,
        format_func=FIND_WAYS.__getitem__,
        **state.choices("find_way", "way", typed=""),
    )
    box = typed.area if view.way == "text" else typed.line
    if view.way != "latent":
        box(
            _LABELS[view.way],
            most=MOST_CHARACTERS,
            help=_HELP[view.way],
            **state.widget(
                f"find_typed_{view.way}",
                "typed",
                value=view.typed or _PROPOSED[view.way],
                read=text_of_box,
            ),
        )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Rank by",
            list(FIND_RANKINGS),
            required=True,
            format_func=FIND_RANKINGS.__getitem__,
            **state.choices("find_by", "by"),
            help="Activation: the largest there; SAEs differ in scale. Share of its maximum: of "
            "its largest activation in the whole text. Specificity: the share of its firings that "
            "are there, at the lower end of its 95 % interval, so that a latent that fired once "
            "does not come first.",
        )
        if view.way == "regex":
            st.toggle("Ignore case", **state.widget("find_fold", "ignore_case"))
        if view.way in ("tokens", "regex"):
            st.toggle(
                f"Only where latent {selection.latent} is silent",
                help="What fires there instead may have absorbed a part of what it stands for: "
                "where the latent should fire and does not, a more special one does.",
                **state.widget("find_silent", "silent"),
            )


def _found(
    selection: Selection, entries: list[SaeEntry], kept: "list[Kept]", view: FindView
) -> "Found | None":
    from core.firings.find import FindRequest, find, find_in_text
    from core.firings.places import check_pattern

    link = latent_links.address("latent", selection, tab="find", **FIND_LINK.to_parameters(view))
    request = FindRequest(
        view.way,
        view.typed,
        view.ignore_case,
        selection.sae,
        selection.latent,
        silent=view.silent and view.way in ("tokens", "regex"),
    )
    folders = [one.folder.name for one in kept]
    if view.way == "regex":
        check_pattern(view.typed, ignore_case=view.ignore_case)
    if view.way != "text":

        def search(progress: Any) -> "Found":
            return find(job_results.lease(selection, progress=progress), kept, request)

        return job_results.recent_result(
            request.key(folders), "Searching what was kept", search, wait=1.0, link=link, room=400
        )
    people.require_text(view.typed, _PROPOSED["text"])
    if not _may_load(selection, entries):
        return None
    names = [entry.key for entry in entries]
    named = [f"{selection.model}:{'/'.join(entry.key)}:{entry.version}" for entry in entries]

    def read(progress: Any) -> "Found":
        lease = resources.engine().lease(selection.model, names, progress=progress)
        return find_in_text(lease, names, view.typed, kept)

    return job_results.recent_result(
        request.key([*named, *folders]),
        f"Reading the text with {n_of(len(names), 'SAE')}",
        read,
        wait=1.0,
        link=link,
        room=400,
    )


def _may_load(selection: Selection, entries: list[SaeEntry]) -> bool:
    """Whether all these SAEs are to be loaded: unasked in the demo, else after a click."""
    asked = st.session_state.setdefault("find_asked", set())
    if len(entries) == 1 or selection.model in asked:
        return True
    if resources.catalog().model(selection.model).source != "demo" and not action.clicked(
        f"Read it with {n_of(len(entries), 'SAE')}", key="find_load", type="primary"
    ):
        st.caption("All of them are loaded for that, one beside the other.")
        return False
    asked.add(selection.model)
    return True


def _results(selection: Selection, found: "Found", view: FindView) -> None:
    from core.firings.search import ranked

    if found.own is not None:
        st.markdown(_own_words(found.own, selection.latent))
    if found.n_places == 0:
        nothing = "Nothing in this text matches; look for something else."
        if view.way == "latent":
            nothing = f"Latent {selection.latent} never fires in this text."
        elif found.own is not None:
            nothing = "It is silent at none of them, so nothing fires in its place."
        st.info(nothing)
        return
    if found.omitted:
        st.warning(
            f"The last {found.omitted:,} tokens are left out: there was no room for them.",
            icon=":material/content_cut:",
        )
    table = ranked(found.table, view.by)
    if table.empty:
        st.info("No latent of any of these SAEs fires there.")
        return
    unknown = view.by != "activation" and bool(table[view.by].isna().all())
    n_saes = table[["release", "sae"]].drop_duplicates().shape[0]
    st.markdown(
        f"**{n_of(len(table), 'latent')} of {n_of(n_saes, 'SAE')} fire on "
        f"{n_of(found.n_places, 'token')}**"
    )
    if found.examples:
        st.caption(escape_markdown("Such as " + " · ".join(found.examples)))
    if unknown:
        st.caption(
            ":orange[How strong and how rare an activation is for its latent is known once every "
            "firing was kept (below); until then, latents are ranked by activation.]"
        )
    _table(selection, found, table.head(_MOST_LISTED), view)
    if len(table) > _MOST_LISTED:
        st.caption(f"The first {_MOST_LISTED} of {len(table):,} are listed; the file has all.")
    downloads.table(lambda: table, "latents-found", key="find_table")


def _own_words(own: "Own", latent: int) -> str:
    low, high = own.interval
    return (
        f"Latent {latent} fires on **{own.fired:,} of {n_of(own.places, 'matching token')}** "
        f"({own.fired / own.places:.0%}, 95 % interval {low:.0%} to {high:.0%}), and on "
        f"{own.rate:.2%} of all tokens of the text."
    )


def _table(selection: Selection, found: "Found", shown: "pd.DataFrame", view: FindView) -> None:
    targets = [
        Selection(selection.model, str(release), str(sae), int(latent))
        for release, sae, latent in zip(
            shown["release"], shown["sae"], shown["latent"], strict=True
        )
    ]
    several = found.table.groupby("sae")["release"].nunique()
    drawn = shown.assign(
        name=[
            f"{release} / {sae}" if several[sae] > 1 else sae
            for release, sae in zip(shown["release"], shown["sae"], strict=True)
        ],
        where=found.around(shown),
        of_peak=100 * shown["of_peak"],
        share=100 * shown["share"],
        specificity=100 * shown["specificity"],
    )
    number = st.column_config.NumberColumn
    columns = ["name", "latent", "activation", "of_peak", "fired", "share", "specificity", "where"]
    columns = [name for name in columns if not drawn[name].isna().all()]
    draw_clickable_table(
        drawn[columns],
        targets,
        key=f"find_latents_{view.way}_{view.by}",
        height=520,
        opens_dashboard=True,
        columns={
            "name": st.column_config.TextColumn("SAE", width="medium"),
            "activation": number(format="%.3f", help="The largest there."),
            "of_peak": number(
                "of its maximum",
                format="%.0f %%",
                help="The largest activation there, as a share of the largest in the whole text.",
            ),
            "fired": number(
                "tokens", format="%d", help=f"Of the {found.n_places:,}, how many it fires on."
            ),
            "share": number(
                "of its firings",
                format="%.2f %%",
                help="Share of all its firings that are there.",
            ),
            "specificity": number(
                "specificity", format="%.2f %%", help="Lower end of that share's 95 % interval."
            ),
            "where": st.column_config.TextColumn("strongest at", width="large"),
        },
    )
