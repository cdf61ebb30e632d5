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
    link_title: str = ""
    """Name of a link to it from another tool; the title if empty."""
    purpose: str = ""
    """What it is for, as a sentence on the home page."""


TOOLS = (
    Tool("pages/home.py", "Home", ":material/home:", link_title="This latent at a glance"),
    Tool(
        "pages/feature-splitting.py",
        "Feature splitting",
        ":material/scatter_plot:",
        "feature-splitting",
        link_title="On the map of feature splitting",
        purpose="One map of the latents of several SAEs: which latents of a wide SAE have split "
        "from one of a narrow SAE, which are new, and which form groups.",
    ),
)


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
