"""Descriptions in and out, and downloads of the map."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.descriptions.sources import coverage
from core.descriptions.table import Descriptions
from core.view.markup import escape_markdown, n_of
from pages.parts import action, errors, neuronpedia, people, undo, uploads

if TYPE_CHECKING:
    from core.splitting.figure import MapDrawing
    from core.splitting.map_data import MapData

_FORMATS = {"csv": "CSV", "jsonl": "JSON Lines", "parquet": "Parquet"}


def fetched_descriptions(data: "MapData") -> dict[str, Descriptions]:
    """What was fetched from Neuronpedia for these SAEs since the start of the explorer."""
    return neuronpedia.fetched_descriptions(
        {label: member.entry for label, member in data.members.items()}
    )


def descriptions(data: "MapData", found: Mapping[str, Descriptions]) -> None:
    """Where the descriptions come from, and how to bring others."""
    st.markdown(coverage(found))
    entries = {label: member.entry for label, member in data.members.items()}
    if any(entry.neuronpedia_id is not None for entry in entries.values()):
        widths = {label: decoder.width for label, decoder in data.family.items()}
        neuronpedia.draw_fetch_button(entries, widths)
    else:
        st.caption("Neuronpedia has none of these SAEs; the offline describer reads their peaks.")
    label = st.selectbox("SAE", list(data.family), key="descriptions_sae")
    left, right = st.columns(2)
    with left, errors.shown_plainly():
        _upload(data, label)
    with right:
        file_format = st.selectbox(
            "File format", list(_FORMATS), format_func=_FORMATS.__getitem__, key="descriptions_as"
        )
        from core.descriptions.files import export_descriptions

        st.download_button(
            "Download its descriptions",
            lambda: export_descriptions(found[label], file_format),
            f"descriptions-{data.family[label].width}.{file_format}",
            on_click="ignore",
            icon=":material/download:",
        )


def _upload(data: "MapData", label: str) -> None:
    from core.descriptions.files import read_descriptions_file
    from core.descriptions.saved import save_user_descriptions

    file = uploads.uploader(
        "Descriptions of your own for this SAE",
        type=["csv", "tsv", "jsonl", "json", "parquet", "gz"],
        key="descriptions_file",
        help="A table with a column for the latent (latent or index) and one for the text "
        "(description); a score is optional. They are kept with the SAE and shown before all "
        "others.",
    )
    fingerprint, store = data.fingerprints[label], resources.store()
    d_sae = data.family[label].width
    if file is not None and st.button("Use these descriptions", type="primary"):
        read = read_descriptions_file(file.getvalue(), file.name, d_sae=d_sae)
        by = people.current()
        save_user_descriptions(store, fingerprint, read.descriptions, by=by)
        st.session_state["descriptions_note"] = (
            f"Read {read.rows:,} rows: {read.descriptions.d_sae - read.descriptions.missing:,} "
            f"latents described, {read.repeated:,} repeated, {read.blank:,} without a text."
        )
        st.rerun()
    note = st.session_state.pop("descriptions_note", None)
    if note:
        st.success(note)
    _forget(fingerprint, label, data.family[label].width)


def _forget(fingerprint: str, label: str, d_sae: int) -> None:
    """A button that forgets everything that was brought, once it was said how much that is."""
    from core.descriptions.saved import forget_user_descriptions, load_user_descriptions

    store = resources.store()
    saved = load_user_descriptions(store, fingerprint, d_sae)
    if saved is None or saved.missing == saved.d_sae:
        st.caption("There are none of yours for this SAE.")
        return
    n = saved.d_sae - saved.missing
    with st.popover(
        "Forget my descriptions of this SAE",
        icon=":material/delete:",
        key="descriptions_forget_box",
    ):
        whose = "everybody who uses this explorer" if people.current().local else "everybody"
        st.markdown(
            f"Forget {n_of(n, 'description')} of {escape_markdown(label)}, for {whose}? Download "
            "them first if you may want them again; one alone is deleted on the page of its latent."
        )

        def forget() -> str:
            by = people.current()
            forget_user_descriptions(store, fingerprint, by=by, d_sae=d_sae)
            return f"{n_of(n, 'description')} forgotten."

        action.button("Forget them", forget, key="descriptions_forget", type="primary")
    undo.descriptions(fingerprint, d_sae, key="descriptions_undo")


def downloads(data: "MapData", drawing: "MapDrawing | None", texts: Sequence[str]) -> None:
    """The map as a page of its own, as an image, and as a table."""
    from core.export import csv_bytes, figure_html, parquet_bytes

    def table() -> Any:
        return data.map.points.assign(description=list(texts), top_token_strs=data.boosted)

    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        if drawing is not None:
            st.download_button(
                "Page (HTML)",
                lambda: figure_html(drawing.figure, title="Feature splitting"),
                "feature-splitting.html",
                "text/html",
                on_click="ignore",
            )
        st.download_button(
            "Table (CSV)", lambda: csv_bytes(table()), "map.csv", "text/csv", on_click="ignore"
        )
        st.download_button(
            "Table (Parquet)", lambda: parquet_bytes(table()), "map.parquet", on_click="ignore"
        )
        if drawing is not None:
            st.segmented_control(
                "The camera above the map saves",
                ["png", "svg"],
                required=True,
                format_func=str.upper,
                default="png",
                key="map_image",
            )
    if drawing is None:
        st.caption("Of so many latents there are tables only; a page of them would be too large.")
        return
    st.caption("The page opens without a network and can be zoomed and hovered as here.")
