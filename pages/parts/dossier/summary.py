"""In one breath: name, verdict and counts, above everything."""

from typing import TYPE_CHECKING

import streamlit as st

from core.view.markup import escape_markdown

if TYPE_CHECKING:
    from core.dossier.conclude import Conclusion

_SURE = {"sure": "Sure", "fairly sure": "Fairly sure", "unsure": "Unsure"}
_ICONS = {
    "clear": ":material/check_circle:",
    "mostly clear": ":material/check_circle:",
    "contradictory": ":material/warning:",
    "like chance": ":material/help:",
    "dense": ":material/blur_on:",
    "silent": ":material/volume_off:",
    "too few": ":material/hourglass_empty:",
    "open": ":material/pending:",
}


def breath(conclusion: "Conclusion") -> None:
    """Name, verdict and counts, above everything."""
    if conclusion.name:
        st.subheader(escape_markdown(f"“{conclusion.name}”"), anchor=False)
    agree, against, silent = (conclusion.count(it) for it in ("agrees", "disagrees", "silent"))
    with st.container(horizontal=True, gap="large"):
        st.metric("Lines that agree", agree)
        st.metric("disagree", against)
        st.metric("are silent", silent)
        st.metric("How sure", _SURE[conclusion.sure])
    show = {"clear": st.success, "mostly clear": st.success, "contradictory": st.warning}
    show.get(conclusion.kind, st.info)(
        escape_markdown(conclusion.sentence), icon=_ICONS[conclusion.kind]
    )
    for warning in conclusion.warnings:
        st.caption(f":material/warning: {escape_markdown(warning)}")
