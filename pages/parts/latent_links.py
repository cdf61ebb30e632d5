"""Links from a latent to every tool that can show it."""

from urllib.parse import urlencode

import streamlit as st

from core.view.selection import Selection, to_parameters
from pages.parts import registry


def draw(selection: Selection, *, here: str) -> None:
    """One link a tool but the one at the address `here`."""
    for tool in registry.TOOLS:
        if tool.url_path != here:
            st.page_link(
                tool.file,
                label=tool.link_title or tool.title,
                icon=tool.icon,
                query_params=to_parameters(selection),
            )


def address(url_path: str, selection: Selection, **parameters: str) -> str:
    """The address of a tool's view of `selection`, for links in tables and lists of tasks."""
    return f"/{url_path}?{urlencode(to_parameters(selection) | parameters)}"
