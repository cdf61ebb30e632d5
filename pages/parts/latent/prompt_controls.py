"""What the prompt tab asks: the text, and how its latents are ranked."""

import streamlit as st

from core.latent.view import MOST_ABLATED, MOST_CHARACTERS, RANKINGS, PromptView
from pages.parts import following, typed
from pages.parts.latent.session import text_of_box
from pages.parts.page_state import PageState

_TEXT, _BY, _N = "prompt_text", "prompt_by", "prompt_ablated"
_read_box = following.noting("prompt", text_of_box)


def draw(view: PromptView, state: PageState[PromptView], *, proposed: str) -> None:
    """The widgets; `proposed` is the text that stands in an untouched box."""
    typed.area(
        "Text",
        height=120,
        most=MOST_CHARACTERS,
        **state.widget(_TEXT, "text", value=view.text or proposed, read=_read_box, token=0),
        help="Press Ctrl+Enter (⌘+Enter on a Mac), or click elsewhere, to run it.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Rank latents by",
            list(RANKINGS),
            required=True,
            format_func=RANKINGS.__getitem__,
            **state.choices(_BY, "by"),
            help="Activation: how strongly it is active. Strength for this latent: the share of "
            "its own activations, in the text that the dashboard is made from, that are weaker. "
            "Effect on the prediction: how much worse the model predicts the text when that latent "
            "alone is taken out of the activations and everything else stays.",
        )
        if view.by == "effect":
            st.number_input(
                "Latents to remove",
                1,
                MOST_ABLATED,
                width=170,
                **state.widget(_N, "ablated"),
                help="The most active ones, each in a run of its own.",
            )
