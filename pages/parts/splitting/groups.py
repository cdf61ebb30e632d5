"""Groups of latents: the lasso's, the clusters, and latents that are new in a wide SAE."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from core.view.markup import n_of, visible_token
from pages.parts import job_results
from pages.parts.splitting import explain, new_by_error, search, session

if TYPE_CHECKING:
    import pandas as pd

    from core.splitting.map_data import MapData
    from core.splitting.text_evidence import Evidence

_MOST_LISTED = 500


def selection(data: "MapData", rows: Sequence[int], texts: Sequence[str]) -> None:
    """What the lassoed latents have in common."""
    if not len(rows):
        st.caption(
            "Draw around points with the lasso or the box (in the map's toolbar) to see what they "
            "have in common."
        )
        return
    from core.export import csv_bytes, parquet_bytes
    from core.splitting.selection import summarise

    points = data.map.points.assign(description=list(texts), top_token_strs=data.boosted)
    found = summarise(points, rows, terms=data.tokens.boosted)
    st.markdown(f"**{n_of(len(rows), 'latent')} selected**")
    with st.container(horizontal=True, gap="small"):
        st.button("Zoom to them", on_click=_zoom_to, args=(data, rows), icon=":material/zoom_in:")
        st.button(
            "Clear the selection",
            on_click=lambda: session.change(lasso=(), picked=()),
            icon=":material/clear:",
        )
        st.download_button(
            "CSV", lambda: csv_bytes(found.rows), "selection.csv", "text/csv", on_click="ignore"
        )
        st.download_button(
            "Parquet", lambda: parquet_bytes(found.rows), "selection.parquet", on_click="ignore"
        )
    explain.links(data, rows, what="selected")
    left, right = st.columns(2)
    with left:
        st.caption("Tokens that they make more likely unusually often")
        tokens = found.tokens.head(20)
        st.dataframe(
            {
                "token": [
                    visible_token(str(token)) for token in data.vocabulary.array[tokens["term"]]
                ],
                "of these": tokens["n_selected"],
                "of all": tokens["n_all"],
                "log₂ odds": tokens["log2_odds"].round(1),
                "false discovery rate": tokens["q_value"].map("{:.1e}".format),
            },
            hide_index=True,
        )
    with right:
        st.caption("By SAE")
        _composition(found.saes.drop(columns=["sae"]))
        if len(found.clusters):
            st.caption("By cluster (-1: noise)")
            _composition(found.clusters.head(20))
    search.latent_table(data, texts, list(rows)[:_MOST_LISTED], key="map_selection")


def _composition(table: "pd.DataFrame") -> None:
    shares = table["share"].map("{:.1%}".format)
    names = {"sae_width": "width", "n_selected": "of these", "n_all": "of all"}
    st.dataframe(table.assign(share=shares).rename(columns=names), hide_index=True)


def clusters(
    data: "MapData", table: "pd.DataFrame | None", texts: Sequence[str], row: int | None
) -> None:
    """The clusters with what names them; `row` is the chosen latent's, whose cluster is offered."""
    if table is None:
        st.caption("Switch clusters on above the map to see which latents form groups.")
        return
    from core.splitting.clusters import noise_share

    share = noise_share(data.map)
    st.caption(
        f"{n_of(len(table), 'cluster')}; {share:.0%} of the latents are in none of them (noise). "
        "Compactness is the mean cosine of a cluster's directions with their mean. A click on a "
        "line chooses its most typical latent."
    )
    search.latent_table(
        data,
        texts,
        table["medoid"].tolist(),
        key="map_clusters_table",
        extra={
            "cluster": table["cluster"].tolist(),
            "size": table["size"].tolist(),
            "words of the descriptions": table["terms"].tolist(),
            "tokens": table["tokens"].tolist(),
            "compactness": table["compactness"].round(2).tolist(),
            "by SAE": table["composition"].tolist(),
        },
        height=480,
    )
    cluster = -1 if row is None else int(data.map.points["cluster"].iloc[row])
    if cluster >= 0:
        inside = (data.map.points["cluster"] == cluster).to_numpy().nonzero()[0].tolist()
        explain.links(data, inside, what=f"of cluster {cluster}")


def new_latents(data: "MapData", evidence: "Mapping[str, Evidence]", texts: Sequence[str]) -> None:
    """Latents of a wide SAE without a relative in a narrow one."""
    labels = list(data.family)
    if len(labels) < 2:
        st.caption("Choose two SAEs or more to see what the wider one has that the other has not.")
        return
    left, middle, right = st.columns(3)
    narrow = left.selectbox("Narrow SAE", labels[:-1], key="new_narrow")
    wider = [label for label in labels if data.family[label].width > data.family[narrow].width]
    if not wider:
        st.caption("There is no wider SAE on the map.")
        return
    wide = middle.selectbox("Wide SAE", wider, key="new_wide")
    if new_by_error.draw(data, narrow, wide, texts):
        return
    threshold = right.slider(
        "Related from a cosine of",
        0.1,
        0.9,
        0.4,
        0.05,
        key="new_threshold",
        help="A latent whose most similar direction in the narrow SAE stays below this is new.",
    )
    table = _found_new(data, evidence, narrow, wide, threshold)
    if table is None:
        return
    basis = "direction and firing" if evidence else "direction alone"
    st.caption(
        f"{len(table):,} of {data.family[wide].width:,} latents have no relative, by {basis}. "
        "New, therefore, and not split off."
    )
    rows = [(data.row(wide, int(row.latent_idx)), row) for row in table.head(200).itertuples()]
    kept = [(place, row) for place, row in rows if place is not None]
    extra: dict[str, Sequence[object]] = {
        "nearest": [int(row.match) for _, row in kept],
        "cosine": [round(float(row.cosine), 2) for _, row in kept],
    }
    if "frequency" in table:
        extra["fires on"] = [f"{row.frequency:.3%}" for _, row in kept]
    search.latent_table(data, texts, [place for place, _ in kept], key="map_new", extra=extra)


def _found_new(
    data: "MapData", evidence: "Mapping[str, Evidence]", narrow: str, wide: str, threshold: float
) -> "pd.DataFrame | None":
    from core.splitting.new_latents import new_latents as find

    known = {narrow, wide} <= set(evidence)
    prints = [data.fingerprints[narrow], data.fingerprints[wide], threshold, known]
    key = f"new-latents:{prints}"
    return job_results.result(
        key,
        "Latents without a relative",
        lambda progress: find(
            data.family[narrow],
            data.family[wide],
            threshold=threshold,
            narrow_firings=evidence[narrow].firings.latents if known else None,
            wide_firings=evidence[wide].firings.latents if known else None,
            progress=progress,
        ),
    )


def _zoom_to(data: "MapData", rows: Sequence[int]) -> None:
    from core.splitting.visible import view_around

    session.zoom_to(view_around(data.map.points, np.asarray(rows)))
