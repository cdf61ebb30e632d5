"""Latents that resemble this one: by direction, by being active together, in other SAEs."""

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.selection import Selection
from pages.parts import errors, job_results
from pages.parts.latent.session import draw_clickable_table

if TYPE_CHECKING:
    import pandas as pd

    from core.descriptions.table import Descriptions
    from core.latent.dashboard import Dashboard

_HEIGHT = 283
"""For seven latents; the others come by scrolling."""
_WIDE = {"description": st.column_config.TextColumn(width=560)}


def draw(
    selection: Selection,
    entry: SaeEntry,
    dashboard: "Dashboard | None",
    texts: "Descriptions | None",
) -> None:
    """Two tables, and one of the family below; each as wide as the page, for what is said."""
    others = [
        other for other in resources.catalog().family_of(entry).entries if other.key != entry.key
    ]
    downloads = [other for other in others if other.source == "hub"]
    compared = others
    if downloads:
        wanted = st.session_state.get("latent_family") == (entry.release, entry.sae_id)
        compared = others if wanted else [other for other in others if other.source != "hub"]
    with errors.shown_plainly():
        from core.latent.dashboard import nearest

        names = [other.key for other in compared]
        lease = job_results.lease(selection, others=names)
        found = nearest(lease, [selection.sae, *names], selection.latent)
        own = (found["release"] == entry.release) & (found["sae_id"] == entry.sae_id)
        st.markdown(
            "**Similar direction, same SAE**",
            help="Cosine similarity of the directions that the latents write (their decoder "
            "rows): 1 is the same direction, 0 an unrelated one.",
        )
        _by_direction(selection, found[own], texts)
        st.markdown(
            "**Active at the same tokens**",
            help="Latents of this SAE that are active where this one is, counted on a sample "
            "of the text that was read; ordered by how many of the tokens at which either is "
            "active both share.",
        )
        _partners(selection, dashboard, texts)
        if others:
            st.markdown(
                "**Similar direction, other widths of this SAE**",
                help="The most similar latents in SAEs of other widths that read the same place "
                "of the model.",
            )
            if compared:
                _family(selection, found[~own])
        if downloads and not wanted:
            st.button(
                f"Compare with {len(downloads)} other widths (downloads what is not here yet)",
                key="latent_family_go",
                on_click=lambda: st.session_state.update(
                    latent_family=(entry.release, entry.sae_id)
                ),
            )


def _by_direction(
    selection: Selection, found: "pd.DataFrame", texts: "Descriptions | None"
) -> None:
    import pandas as pd

    latents = found["latent"].tolist()
    table = pd.DataFrame(
        {
            "latent": latents,
            "description": _texts(texts, latents),
            "cosine": found["cosine"].round(3).to_numpy(),
        }
    )
    draw_clickable_table(
        table,
        [Selection(selection.model, *selection.sae, latent=int(latent)) for latent in latents],
        key=f"latent_near_{selection.latent}",
        height=_HEIGHT,
        columns=_WIDE,
    )


def _partners(
    selection: Selection, dashboard: "Dashboard | None", texts: "Descriptions | None"
) -> None:
    import pandas as pd

    if dashboard is None:
        st.caption("Known once a text was read.")
        return
    if not dashboard.partners:
        st.caption("None is active with it at two tokens or more of the sample.")
        return
    latents = [partner.latent for partner in dashboard.partners]
    table = pd.DataFrame(
        {
            "latent": latents,
            "description": _texts(texts, latents),
            "together": [partner.share for partner in dashboard.partners],
            "by chance": [partner.frequency for partner in dashboard.partners],
        }
    )
    draw_clickable_table(
        table,
        [Selection(selection.model, *selection.sae, latent=latent) for latent in latents],
        key=f"latent_with_{selection.latent}",
        height=_HEIGHT,
        columns={
            **_WIDE,
            "together": st.column_config.NumberColumn(
                format="percent",
                help="Of the tokens at which this latent is active, those at which that one is.",
            ),
            "by chance": st.column_config.NumberColumn(
                format="percent", help="Share of all tokens at which that one is active."
            ),
        },
    )


def _family(selection: Selection, found: "pd.DataFrame") -> None:
    import pandas as pd

    best = found.groupby(["release", "sae_id"], sort=False).head(3)
    best = best.sort_values("cosine", ascending=False, kind="stable")
    table = pd.DataFrame(
        {
            "width": best["width"].to_numpy(),
            "latent": best["latent"].to_numpy(),
            "cosine": best["cosine"].round(3).to_numpy(),
            "SAE": best["sae_id"].to_numpy(),
        }
    )
    targets = [
        Selection(selection.model, str(row.release), str(row.sae_id), int(row.latent))
        for row in best.itertuples()
    ]
    draw_clickable_table(table, targets, key=f"latent_family_{selection.latent}")


def _texts(texts: "Descriptions | None", latents: list[int]) -> list[str]:
    return [""] * len(latents) if texts is None else texts.texts[np.array(latents)].tolist()
