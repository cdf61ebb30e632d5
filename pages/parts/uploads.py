"""Files and texts that somebody brings: from those who may, and within their share of a day."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.hosting.rights import Action
from core.view.markup import escape_markdown
from pages.parts import people

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from core.enrichment.user_sets import WordList

_COUNTED = "uploads_counted"


def uploader(label: str, **options: Any) -> "UploadedFile | None":
    """`st.file_uploader` for one file; None, with the reason, for whoever may not bring it."""
    if not people.may(Action.UPLOAD):
        st.caption("Only runners of this server may bring files; ask its administrator.")
        return None
    file = st.file_uploader(label, **options)
    if file is None:
        return None
    counted: set[str] = st.session_state.setdefault(_COUNTED, set())
    if file.file_id not in counted:
        try:
            count(file.size)
        except ValueError as refused:
            st.error(escape_markdown(str(refused)), icon=":material/block:")
            return None
        counted.add(file.file_id)
    return file


def word_lists(label: str, use: str, *, key: str, use_key: str) -> "list[WordList] | None":
    """The lists of words or texts of a file, in the run after the button `use` was clicked.

    Raises ValueError for a file that holds none; the errors that readers see.
    """
    file = uploader(label, type=["json", "csv", "tsv"], key=key, max_upload_size=5)
    if file is None or not st.button(use, type="primary", key=use_key):
        return None
    from core.enrichment.user_sets import read_word_lists

    return read_word_lists(file.getvalue(), file.name)


def count(n_bytes: int) -> None:
    """Count what is brought. Raises NotAllowed and QuotaSpent."""
    resources.desk().upload(people.current(), n_bytes)
