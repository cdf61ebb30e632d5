"""Two latents, of any SAEs and models, side by side."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.dossier.request import TITLES
from core.dossier.view import LINK, DossierView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import latent_links, weights
from pages.parts.dossier import VIEW, beside, chapters, jobs, offered
from pages.parts.dossier.latent import request_of
from pages.parts.dossier.summary import breath
from pages.parts.page_state import options_of
from pages.parts.view_state import View

if TYPE_CHECKING:
    from core.dossier.compare import Comparison, Pair
    from core.dossier.conclude import Conclusion
    from core.dossier.request import DossierRequest
    from core.dossier.result import Dossier

_BETWEEN = " · "


def draw(selection: Selection, view: View, page: DossierView) -> None:
    """Which other one, both dossiers in two columns, and the texts on which they differ."""
    from core.dossier.conclude import conclude
    from core.dossier.stored import open_dossier

    chosen = _other(selection, view, page)
    if chosen is None:
        return
    other_selection, other_entry = chosen
    if not weights.ready(other_selection.model, [other_entry], then="Download and compare"):
        return
    other_view = replace(view, selection=other_selection, entry=other_entry)
    [one] = jobs.with_texts([request_of(view, selection, page)])
    [other] = jobs.with_texts([request_of(other_view, other_selection, page)])
    if (one.model, one.sae, one.latent) == (other.model, other.sae, other.latent):
        st.info("This is the same latent; choose another one.")
        return
    chapters.styles()
    store, sides = resources.store(), []
    columns = st.columns(2, gap="large")
    for column, request, its in zip(
        columns, (one, other), (selection, other_selection), strict=True
    ):
        dossier = open_dossier(store, request)
        end = conclude(dossier)
        sides.append((dossier, end))
        with column:
            _side(dossier, end, request, its, page)
    _texts(one, other, selection, page)
    _lines(*sides)
    _kin(sides[0][0], one, other, selection, page)


def _other(
    selection: Selection, view: View, page: DossierView
) -> tuple[Selection, SaeEntry] | None:
    """The latent that is chosen to compare with."""
    saes = [
        (model.name, entry)
        for model in view.choices.models
        for release in view.choices.releases_for(model.name)
        for entry in view.choices.saes_for(release.release, model.name)
    ]
    by_label = {
        _BETWEEN.join((name, entry.release, entry.sae_id)): (name, entry) for name, entry in saes
    }
    wanted = (
        page.other_model or selection.model,
        page.other_release or selection.release,
        page.other_sae or selection.sae_id,
    )
    label = _BETWEEN.join(wanted)
    if label not in by_label:
        st.warning(
            escape_markdown(f"There is no SAE {label} here; choose one."),
            icon=":material/link_off:",
        )
        label = next(iter(by_label))

    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.session_state["dossier_other"] = label
        st.selectbox(
            "SAE to compare with",
            **options_of(list(by_label), label),
            key="dossier_other",
            on_change=lambda: _choose(by_label),
        )
        model, entry = by_label[label]
        st.number_input(
            "Its latent",
            -1,
            (entry.width or 2**31) - 1,
            width=160,
            help="-1 for none.",
            **VIEW.widget("dossier_other_latent", "other_latent"),
        )
    if page.other_latent < 0:
        st.caption("Choose a latent to compare this one with.")
        return None
    return Selection(model, entry.release, entry.sae_id, page.other_latent), entry


def _choose(by_label: dict[str, tuple[str, SaeEntry]]) -> None:
    model, entry = by_label[st.session_state["dossier_other"]]
    VIEW.change(other_model=model, other_release=entry.release, other_sae=entry.sae_id)


def _side(
    dossier: "Dossier",
    end: "Conclusion",
    request: "DossierRequest",
    selection: Selection,
    page: DossierView,
) -> None:
    st.subheader(f"Latent {request.latent}", anchor=False)
    st.caption(escape_markdown(", ".join((request.sae[1], request.sae[0], request.model))))
    if dossier.missing != tuple(TITLES):
        breath(end)
    if jobs.is_running(request):
        jobs.draw(request, selection, page, dossier)
    elif dossier.missing:
        whole = len(dossier.missing) == len(TITLES)
        names = "the dossier" if whole else ", ".join(TITLES[it] for it in dossier.missing)
        if st.button(
            f"Compute {names}",
            key=f"dossier_side_{request.key}",
            icon=":material/play_arrow:",
        ):
            jobs.start(request, selection, page)
            st.rerun()
    if dossier.reads is not None:
        from core.dossier.blocks import Texts

        top = Texts("Strongest examples", dossier.reads.top[:4], dossier.reads.peak)
        chapters.draw_blocks([top], key=f"dossier_side_top_{request.key}")


def _lines(one: "tuple[Dossier, Conclusion]", other: "tuple[Dossier, Conclusion]") -> None:
    from core.dossier.compare_shown import lines_side_by_side, numbers_side_by_side

    st.header("Evidence side by side", divider="gray")
    if any(len(it[0].missing) == len(TITLES) for it in (one, other)):
        st.caption("Once both dossiers are computed.")
        return
    chapters.draw_blocks([lines_side_by_side(one[1], other[1])], key="dossier_lines")
    numbers = numbers_side_by_side(one[0], other[0])
    if numbers.rows:
        with st.expander("All numbers, with intervals", key="dossier_all_numbers"):
            chapters.draw_blocks([numbers], key="dossier_numbers")


def _texts(
    one: "DossierRequest", other: "DossierRequest", selection: Selection, page: DossierView
) -> None:
    from core.dossier.compare import stored_comparison

    st.header("On the same texts", divider="gray")
    store = resources.store()
    found = stored_comparison(store, one, other)
    if found is None:
        st.caption("Held-out texts in which either fires, as both models read them.")
        offered.draw(
            "Read both on the same texts",
            button="dossier_compare",
            key=f"dossier-compare:{one.key}:{other.key}",
            title=f"Latents {one.latent} and {other.latent} compared",
            work=_work(one, other),
            link=latent_links.address("dossier", selection, **LINK.to_parameters(page)),
            kind="primary",
        )
        return
    _found(found)


def _work(one: "DossierRequest", other: "DossierRequest") -> Any:
    store = resources.store()

    def work(progress: Any) -> None:
        from core.dossier.compare import compare

        compare(offered.lease_of(progress), store, one, other)

    return work


def _found(found: "Comparison") -> None:
    from core.dossier.blocks import Grid, measure_cells

    rows = tuple((it.title, *measure_cells(it)[1:5]) for it in found.measures)
    columns = ("what", "value", "95 % interval", "n", "random latents")
    how = "where they stand" if found.in_place else "each alone, from its beginning"
    note = (
        f"{found.n_texts} texts were read by both, {how}; a latent fires from a tenth of its "
        "largest activation."
    )
    chapters.draw_blocks(
        [Grid("Together", columns, rows, note, wraps=True)], key="dossier_together"
    )
    groups = (
        ("The first fires, the second does least", found.only_one),
        ("The second fires, the first does least", found.only_other),
        ("Both fire", found.both),
    )
    for title, pairs in groups:
        st.markdown(f"**{title}**")
        if not pairs:
            st.caption("No such text among these.")
        for pair in pairs:
            _pair(pair, found.peaks)


def _pair(pair: "Pair", peaks: tuple[float, float]) -> None:
    from core.latent.examples import rows_html

    columns = st.columns(2, gap="large")
    for column, row, peak in zip(columns, (pair.one, pair.other), peaks, strict=True):
        column.html(rows_html([row], strongest=peak))


def _kin(
    dossier: "Dossier",
    one: "DossierRequest",
    other: "DossierRequest",
    selection: Selection,
    page: DossierView,
) -> None:
    from core.dossier.compare_shown import kin_blocks

    st.header("On one map", divider="gray")
    chapters.draw_blocks(kin_blocks(dossier.beside, one, other), key="dossier_kin")
    same = other.sae == one.sae or other.sae in one.family
    if same and not dossier.beside.has("map"):
        beside.button("map", one, selection, page)
