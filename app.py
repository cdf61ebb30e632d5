"""Page config and navigation; what a page shows is in pages/."""

import streamlit as st

from pages.parts import registry

st.set_page_config(
    page_title="SAE Latent Explorer",
    page_icon="🔬",  # a Material icon would be fetched from the web
    layout="wide",
    initial_sidebar_state=340,
)
st.navigation(registry.pages()).run()
