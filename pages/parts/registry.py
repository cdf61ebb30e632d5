"""The pages there are. A new page is one more line here and its file."""

from dataclasses import dataclass

import streamlit as st

from core import resources


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
        "pages/latent.py",
        "Latent",
        ":material/query_stats:",
        "latent",
        link_title="Its dashboard",
        purpose="What one latent responds to and does, on dashboards of all latents that one pass "
        "over a text makes; prompts, logits, token sets, lists with notes.",
    ),
    Tool(
        "pages/dossier.py",
        "Dossier",
        ":material/folder_shared:",
        "dossier",
        link_title="Its dossier: all evidence",
        purpose="Everything on one latent, every line of evidence beside chance, one conclusion by "
        "stated rules, to be noted, compared and taken away.",
    ),
    Tool(
        "pages/sae.py",
        "SAE as a whole",
        ":material/analytics:",
        "sae",
        link_title="The whole SAE",
        purpose="Whether the SAE is good: what of the model survives it, dead and dense latents, "
        "its decoder beside random rows, and how its widths and layers compare.",
    ),
    Tool(
        "pages/feature-splitting.py",
        "Feature splitting",
        ":material/scatter_plot:",
        "feature-splitting",
        link_title="On the map of feature splitting",
        purpose="One map of the latents of several SAEs: which latents of a wide SAE have split "
        "from one of a narrow SAE, which are new, and which form groups.",
    ),
    Tool(
        "pages/patch-scoping.py",
        "Patch scoping",
        ":material/record_voice_over:",
        "patch-scoping",
        link_title="Let the model explain it",
        purpose="The model itself says what a latent means: its direction takes the place of a "
        "word in a question about that word, at many strengths at once.",
    ),
    Tool(
        "pages/steering.py",
        "Steering",
        ":material/directions_car:",
        "steering",
        link_title="Steer with it",
        purpose="What the model writes when latents are made stronger, set or removed, beside "
        "random directions of the same length; what each strength brings, and what it breaks.",
    ),
    Tool(
        "pages/gradients.py",
        "Latent gradients",
        ":material/account_tree:",
        "gradients",
        link_title="What feeds it: gradients and circuits",
        purpose="How the tokens of a prompt feed latents, latents later latents, and latents the "
        "next token: heatmaps that are checked by intervention, circuits, and induction.",
    ),
    Tool(
        "pages/autointerp.py",
        "Autointerp",
        ":material/rate_review:",
        "autointerp",
        link_title="Explain it in words, with a score",
        purpose="Explanations of latents in words, offline, by a chat model or by the model "
        "itself, and scores that stand beside what knowing nothing would score.",
    ),
)


ADMIN = Tool("pages/admin.py", "This server", ":material/admin_panel_settings:", "admin")
"""Of a server for several people alone."""


def pages() -> list[st.Page]:
    """All pages, for `st.navigation`."""
    try:
        tools = (*TOOLS, ADMIN) if resources.policy().hosted else TOOLS
    except ValueError:
        tools = TOOLS  # a faulty policy: every page says what is wrong with it, and nothing else
    return [
        st.Page(
            tool.file,
            title=tool.title,
            icon=tool.icon,
            url_path=tool.url_path or None,
            default=not tool.url_path,
        )
        for tool in tools
    ]
