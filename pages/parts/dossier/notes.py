"""The reader's own hypothesis, tags, verdict and confidence; every version is kept."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.hosting.rights import Action
from core.view.markup import escape_markdown
from pages.parts import action, people, typed

if TYPE_CHECKING:
    from core.dossier.conclude import Conclusion
    from core.dossier.result import Dossier


def draw(dossier: "Dossier", conclusion: "Conclusion") -> None:
    """The latest note, a form for the next, and the versions before."""
    from core.dossier.notes import MOST_TAG, MOST_TEXT, VERDICTS, load_notes, note_of, save_note

    st.header("Notes", divider="gray")
    fingerprint = dossier.versions.get("sae", "")
    if not fingerprint:
        st.caption("Notes can be written once a part is computed.")
        return
    store, latent = resources.store(), dossier.request.latent
    versions = load_notes(store, fingerprint, latent)
    last = versions[0] if versions else None
    key = f"dossier_note_{latent}_{len(versions)}"
    st.caption("Kept on this server under the SAE's weights, with all versions, for everybody.")
    typed.area(
        "Your hypothesis",
        "" if last is None else last.hypothesis,
        key=f"{key}_text",
        most=MOST_TEXT,
        height=100,
    )
    with st.container(horizontal=True, gap="medium"):
        st.selectbox(
            "Your verdict",
            VERDICTS,
            index=0 if last is None else VERDICTS.index(last.verdict),
            format_func=lambda it: it or "none yet",
            key=f"{key}_verdict",
            width=220,
        )
        st.slider(
            "How sure, in %",
            0,
            100,
            50 if last is None else last.confidence,
            key=f"{key}_sure",
            width=220,
        )
        st.text_input(
            "Tags, between commas",
            "" if last is None else ", ".join(last.tags),
            key=f"{key}_tags",
            width=260,
        )
        if people.current().local:
            typed.line(
                "Your name",
                "" if last is None else last.who,
                key=f"{key}_who",
                most=MOST_TAG,
                width=180,
            )

    def save() -> str:
        people.require(Action.WRITE)
        person, fields = people.current(), st.session_state
        note = note_of(
            hypothesis=fields[f"{key}_text"],
            verdict=fields[f"{key}_verdict"],
            confidence=fields[f"{key}_sure"],
            tags=fields[f"{key}_tags"].split(","),
            who=fields[f"{key}_who"] if person.local else person.author,
            about=conclusion.sentence,
        )
        return f"Saved as version {len(save_note(store, fingerprint, latent, note))}."

    action.button("Save the note", save, key="dossier_note_save", icon=":material/save:")
    if versions:
        import pandas as pd

        with st.expander(f"{len(versions)} versions", key="dossier_versions"):
            columns = ["when", "who", "hypothesis", "verdict", "confidence", "tags"]
            table = pd.DataFrame([it.cells() for it in versions], columns=columns)
            st.dataframe(table, hide_index=True)
            st.caption(
                escape_markdown(f"When the latest was written, the page said: {versions[0].about}")
            )
