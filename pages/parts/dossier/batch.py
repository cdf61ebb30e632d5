"""Dossiers of a list of latents as one job, in a table that sorts by any line of evidence."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.dossier.view import LINK, DossierView
from core.patch_scoping.view import parse_latents
from core.view.markup import n_of
from core.view.selection import Selection
from pages.parts import action, downloads, job_results, latent_links, tables, tasks, view_state
from pages.parts.dossier import VIEW, jobs
from pages.parts.dossier.latent import request_of
from pages.parts.view_state import View

if TYPE_CHECKING:
    import pandas as pd

    from core.dossier.request import DossierRequest

_MANY_COLUMNS = 900


def draw(selection: Selection, view: View, page: DossierView) -> None:
    """The list, the button, and the table."""
    from core.dossier.batch import MOST_LATENTS, stored_batch

    entry = view.entry
    st.text_input(
        "Latents",
        placeholder='3, 10-20, or "20 random"',
        help=f"At most {MOST_LATENTS}. What their dossiers have in common is made once.",
        **VIEW.widget("dossier_latents", "latents", read=lambda text: text.strip()),
    )
    if not page.latents:
        # The button is there before, for the click that leaves the field.
        _button("Make dossiers")
        st.caption("Write which latents of this SAE are to be looked at.")
        return
    width = entry.width if entry is not None and entry.width is not None else 1 << 21
    latents = parse_latents(page.latents, width=width)
    first = request_of(view, selection, page)
    requests = jobs.with_texts([first.of(latent) for latent in latents])
    found = stored_batch(resources.store(), requests)
    key = "dossiers:" + ",".join(it.of(it.latent).key for it in requests)
    job = tasks.found(key)
    if found is None and job is None:
        if _button(f"Make {n_of(len(requests), 'dossier')}"):
            _submit(key, requests, selection, page)
            st.rerun()
        return
    if found is None and job is not None:
        if not job.state.finished or job.view().error:
            job_results.draw_job(job)
            return
        found = stored_batch(resources.store(), requests)
    if found is not None:
        _table(found, selection)


def _button(label: str) -> bool:
    icon = ":material/play_arrow:"
    return action.clicked(label, type="primary", icon=icon, key="dossier_batch_start")


def _submit(
    key: str, requests: "list[DossierRequest]", selection: Selection, page: DossierView
) -> None:
    engine, store = resources.engine(), resources.store()

    def work(progress: Any) -> None:
        from core.dossier.batch import run_batch
        from core.dossier.others import note_fingerprint

        def lease_of(model: str, saes: Any) -> Any:
            return engine.lease(model, saes, progress=progress)

        lease = lease_of(requests[0].model, [requests[0].sae_name])
        note_fingerprint(store, requests[0], lease.sae_fingerprints[0])
        run_batch(lease_of, store, jobs.with_texts(requests))

    link = latent_links.address("dossier", selection, **LINK.to_parameters(page))
    title = n_of(len(requests), "dossier")
    tasks.attempt(lambda: tasks.submit(key, title, work, link=link))


def _table(table: "pd.DataFrame", selection: Selection) -> None:
    worst = table[table["disagree"] > 0]
    st.caption(
        f"{len(table)} latents; of {len(worst)} lines of evidence disagree. Those whose lines "
        "disagree most come first; a click on a column's name sorts by it, one on a line opens "
        "the dossier. ✓ agrees, ✗ disagrees, · is silent."
    )

    def chosen(line: int) -> None:
        latent = int(table["latent"].iloc[line])
        view_state.choose(Selection(selection.model, *selection.sae, latent))
        VIEW.change(tab="latent")

    tables.clickable(
        table,
        chosen,
        key="dossier_batch_table",
        height=min(_MANY_COLUMNS, 38 + 35 * len(table)),
        column_config={
            "latent": st.column_config.NumberColumn(format="%d", width="small", pinned=True),
            "name": st.column_config.TextColumn(width="medium"),
        },
    )
    downloads.table(lambda: table, "dossiers", key="dossier_batch")
