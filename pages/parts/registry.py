"""The pages there are. A new page is one more line here and its file."""

from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Tool:
    """One page."""

    file: str
    """Script, relative to app.py."""
    title: str
    """Name in the navigation."""
    icon: str
    """Material symbol."""
    url_path: str = ""
    """Where it is; the home page is at the root."""
    purpose: str = ""
    """What it is for, as a sentence on the home page."""


TOOLS = (Tool("pages/home.py", "Home", ":material/home:"),)


def pages() -> list[st.Page]:
    """All pages, for `st.navigation`."""
    return [
        st.Page(
            tool.file,
            title=tool.title,
            icon=tool.icon,
            url_path=tool.url_path or None,
            default=not tool.url_path,
        )
        for tool in TOOLS
    ]
