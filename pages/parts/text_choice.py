"""Fields to choose a text with: the sample of documentation, a dataset, a file, or pasted text."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from core import resources
from core.hosting.rights import Action
from core.view.corpora import (
    FILE_ENDINGS,
    CorpusChoice,
    keep_file,
    keep_text,
    parse_corpus,
    title_of,
)
from core.view.markup import escape_markdown
from pages.parts import people, typed
from pages.parts import uploads as uploads_

_SOURCES = {
    "docs": "Sample of documentation",
    "hub": "Hugging Face dataset",
    "file": "A file of mine",
    "text": "Pasted text",
}


def uploads() -> Path:
    """Where texts of the users are kept."""
    return resources.store().directory / "texts"


def choose_kind(current: CorpusChoice, *, key: str) -> str:
    """The row of sources, and which of them is chosen; keys of widgets begin with `key`."""
    rights = {"hub": Action.NAME_DATASET, "file": Action.UPLOAD, "text": Action.UPLOAD}
    sources = [it for it in _SOURCES if it not in rights or people.may(rights[it])]
    if current.kind not in sources:
        sources.append(current.kind)  # of a link; what was read of it before can be seen
    source = st.segmented_control(
        "Text",
        sources,
        required=True,
        format_func=_SOURCES.__getitem__,
        default=current.kind,
        key=f"{key}_source_{current.kind}",
    )
    return source or current.kind


def ask_details(kind: str, current: CorpusChoice, *, proposed: str, key: str) -> dict[str, Any]:
    """What else the source needs to know; `store_choice` makes a choice of it.

    `proposed` is the dataset that stands in the field at first.
    """
    if kind == "hub":
        proposed = current.name if current.kind == "hub" else proposed
        name = typed.line(
            "Name of the dataset",
            value=proposed,
            placeholder="owner/name",
            key=f"{key}_dataset_{proposed}",
            most=190,
            help="Only as much of it is downloaded as is read. Proposed is what the SAE says that "
            "it was trained on. Of a dataset in several parts, name one: owner/name@part.",
        )
        return {"name": name.strip(), "column": _column(key)}
    if kind == "file":
        file = uploads_.uploader(
            "Text, JSON Lines or Parquet",
            type=list(FILE_ENDINGS),
            key=f"{key}_file",
            help="Tables need a column called text, or name theirs below. The file is kept on the "
            "server, so that a link can show the same examples.",
        )
        if file is None and current.kind == "file":
            st.caption(f"Now: {escape_markdown(title_of(current))}")
            return {"kept": current}
        return {"file": file, "column": _column(key)}
    if kind == "text":
        text = typed.area("Text to read", key=f"{key}_pasted", height=140, most=500_000)
        return {"text": text, "kept": current if current.kind == "text" else None}
    st.caption("Docstrings of the Python packages that are installed here; nothing is downloaded.")
    return {}


def store_choice(kind: str, asked: dict[str, Any]) -> CorpusChoice:
    """The choice as a link carries it; keeps what was brought.

    Raises ValueError, saying what is missing.
    """
    if kind == "hub":
        people.require(Action.NAME_DATASET)
        if not asked["name"]:
            raise ValueError("Which dataset? Give its name, such as owner/name.")
        parts = filter(None, ("hub", asked["name"], asked["column"]))
        return parse_corpus(":".join(parts))
    if kind == "file":
        if asked.get("kept") is not None:
            return asked["kept"]
        if asked["file"] is None:
            raise ValueError("Choose a file first.")
        brought = keep_file(uploads(), asked["file"].getvalue(), asked["file"].name)
        return replace(brought, column=asked["column"])
    if kind == "text":
        if not asked["text"].strip() and asked.get("kept") is not None:
            return asked["kept"]
        uploads_.count(len(asked["text"].encode()))
        return keep_text(uploads(), asked["text"])
    return CorpusChoice()


def _column(key: str) -> str:
    return typed.line(
        "Column with the text",
        key=f"{key}_column",
        most=80,
        placeholder="found by itself",
    ).strip()
