"""One latent at a glance: the tokens that it makes more and less likely."""

from typing import TYPE_CHECKING

import streamlit as st

from core.view.markup import visible_token
from core.view.selection import Selection
from pages.parts import job_results
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    from core.logit_statistics import LogitEffects, TokenEffect

TABLE_HEIGHT = 318
"""For ten tokens."""
_TOKEN_HELP = "␣ is a space and ↵ a line break. Tokens are the pieces of text that the model reads."


def draw(selection: Selection) -> None:
    """Both tables; the selection must be loaded."""
    from core.logit_statistics import logit_effects  # brings torch, so not before it is there

    tables(logit_effects(job_results.lease(selection), selection.latent), selection)


def tables(found: "LogitEffects", selection: Selection) -> None:
    """Tokens made more and less likely, next to each other, and as a file."""
    with st.container(key="logit_tables"):  # one below the other where there is little room
        boosted, suppressed = st.columns(2)
    with boosted:
        _table(found.boosted, "Makes more likely", "pushed up by", sign="+")
    with suppressed:
        _table(found.suppressed, "Makes less likely", "pushed down by", sign="−")
    if found.notes:
        st.caption(" ".join(found.notes))
    st.download_button(
        "Download these tokens (CSV)",
        lambda: _csv(found),
        file_name=f"{selection.release}-{selection.latent}-tokens.csv".replace("/", "_"),
        mime="text/csv",
        key="tokens_csv",
        icon=":material/download:",
        on_click="ignore",
    )


def reserve() -> None:
    """The room that `draw` will take."""
    for column, title in zip(
        st.columns(2), ("Makes more likely", "Makes less likely"), strict=True
    ):
        with column:
            st.markdown(f"**{title}**")
            reserve_room(TABLE_HEIGHT)


def _table(effects: "tuple[TokenEffect, ...]", title: str, column: str, *, sign: str) -> None:
    st.markdown(
        f"**{title}**",
        help="The latent's direction, read as if it went straight to the model's output: how much "
        "the score (logit) of each token changes when the latent is active with strength 1.",
    )
    import pandas as pd

    sizes = [abs(effect.effect) for effect in effects]
    st.dataframe(
        pd.DataFrame({"token": [visible_token(effect.token) for effect in effects], column: sizes}),
        hide_index=True,
        height=TABLE_HEIGHT,
        row_height=28,
        column_config={
            "token": st.column_config.TextColumn(help=_TOKEN_HELP, width="small"),
            column: st.column_config.ProgressColumn(
                "by",  # the title above says which way, and some of these tables are narrow
                width="small",
                format=f"{sign}%.3f",
                min_value=0.0,
                max_value=max([*sizes, 1e-9]),
            ),
        },
    )


def _csv(found: "LogitEffects") -> bytes:
    import pandas as pd

    from core.export import csv_bytes

    rows = [
        (effect.token, effect.token_id, effect.effect)
        for effect in found.boosted + found.suppressed
    ]
    return csv_bytes(pd.DataFrame(rows, columns=["token", "token_id", "effect"]))
