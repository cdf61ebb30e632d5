"""Files that hold the whole dossier, made at the click."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources

if TYPE_CHECKING:
    from core.dossier.conclude import Conclusion
    from core.dossier.notes import Note
    from core.dossier.result import Dossier


def draw(dossier: "Dossier", conclusion: "Conclusion") -> None:
    """HTML, JSON, Markdown and a notebook, and the line to cite."""
    from core.dossier.cite import citation, file_name
    from core.dossier.export_html import dossier_html
    from core.dossier.export_text import dossier_json, dossier_markdown
    from core.dossier.notebook import dossier_notebook
    from core.dossier.notes import load_notes
    from core.dossier.prose import stored_prose
    from core.dossier.trials import load_trials

    store, name = resources.store(), file_name(dossier)

    def more() -> "dict[str, Any]":
        fingerprint = dossier.versions.get("sae", "")
        trials = load_trials(store, fingerprint, dossier.request.latent) if fingerprint else ()
        return {"trials": trials, "told": stored_prose(store, dossier, conclusion)}

    def notes() -> "list[Note]":
        return load_notes(store, dossier.versions.get("sae", ""), dossier.request.latent)

    makers: dict[str, tuple[str, Callable[[], str]]] = {
        "One page (HTML)": ("html", lambda: dossier_html(dossier, conclusion, notes(), **more())),
        "Data (JSON)": ("json", lambda: dossier_json(dossier, conclusion, notes(), **more())),
        "Markdown": ("md", lambda: dossier_markdown(dossier, conclusion, notes(), **more())),
        "Notebook": ("ipynb", lambda: dossier_notebook(dossier, conclusion)),
    }
    st.header("Take away", divider="gray")
    with st.container(horizontal=True, gap="small"):
        for label, (ending, make) in makers.items():
            st.download_button(
                label,
                partial(_bytes, make),
                f"{name}.{ending}",
                on_click="ignore",
                key=f"dossier_{ending}",
                icon=":material/download:",
            )
    st.code(citation(dossier), language=None, wrap_lines=True)


def _bytes(make: Callable[[], str]) -> bytes:
    return make().encode()
