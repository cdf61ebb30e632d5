"""One latent at a glance: the tokens that it makes more and less likely."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.view.markup import visible_token
from core.view.selection import Selection
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    from core.view.latent.dashboard import LogitEffects
    from core.view.latent_view import LatentTokens, TokenEffect

TABLE_HEIGHT = 388
_TOKEN_HELP = "␣ is a space and ↵ a line break. Tokens are the pieces of text that the model reads."


def draw(selection: Selection) -> None:
    """Both tables; the selection must be loaded."""
    from core.view.latent_view import latent_tokens  # brings torch, so not before it is there

    tables(latent_tokens(resources.engine(), selection), selection)


def tables(found: "LatentTokens | LogitEffects", selection: Selection) -> None:
    """Tokens made more and less likely, next to each other, and as a file."""
    boosted, suppressed = st.columns(2)
    with boosted:
        _table(found.boosted, "Makes more likely", "pushed up by", sign="+")
    with suppressed:
        _table(found.suppressed, "Makes less likely", "pushed down by", sign="−")
    if found.notes:
        st.caption(" ".join(found.notes))
    st.download_button(
        "Download as CSV",
        _csv(found),
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

    sizes = [abs(it.effect) for it in effects]
    st.dataframe(
        pd.DataFrame({"token": [visible_token(it.token) for it in effects], column: sizes}),
        hide_index=True,
        height=TABLE_HEIGHT,
        column_config={
            "token": st.column_config.TextColumn(help=_TOKEN_HELP, width="medium"),
            column: st.column_config.ProgressColumn(
                format=f"{sign}%.3f", min_value=0.0, max_value=max([*sizes, 1e-9])
            ),
        },
    )


def _csv(found: "LatentTokens | LogitEffects") -> str:
    import pandas as pd

    rows = [(it.token, it.token_id, it.effect) for it in found.boosted + found.suppressed]
    return pd.DataFrame(rows, columns=["token", "token_id", "effect"]).to_csv(index=False)
