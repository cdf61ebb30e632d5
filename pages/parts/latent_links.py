"""Links from a latent to every tool that can show it."""

from collections.abc import Mapping
from urllib.parse import urlencode

import streamlit as st

from core.view.selection import Selection, to_parameters
from pages.parts import registry

_EXCEPTIONS = {"tab": "absorption", "exceptions": "1"}


def draw(
    selection: Selection, *, here: str, more: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """One link a tool but the one at the address `here`; `more` is what those of some carry."""
    for tool in registry.TOOLS:
        if tool.url_path != here:
            st.page_link(
                tool.file,
                label=tool.link_title or tool.title,
                icon=tool.icon,
                query_params=to_parameters(selection) | dict((more or {}).get(tool.url_path, {})),
            )
    if here != "sae":
        st.page_link(
            "pages/sae.py",
            label="Its exceptions",
            icon=":material/find_replace:",
            query_params=to_parameters(selection) | _EXCEPTIONS,
            help="Where this latent should fire and does not, and which fires instead.",
        )


def address(url_path: str, selection: Selection, **parameters: str) -> str:
    """The address of a tool's view of `selection`, for links in tables and lists of tasks."""
    return f"/{url_path}?{urlencode(to_parameters(selection) | parameters)}"
