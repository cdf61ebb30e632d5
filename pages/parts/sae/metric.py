"""A figure of the SAE page with what it is to be held against."""

import streamlit as st


def draw(label: str, value: str, note: str, help: str) -> None:
    """A metric; `note` (its interval, its null) stands below the value, `help` behind the mark."""
    st.metric(
        label,
        value,
        delta=note or None,
        delta_color="off",
        delta_arrow="off",
        help=help or None,
        width="content",
    )
