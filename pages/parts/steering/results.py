"""Texts side by side, the table of strengths, and the curve of concept against damage."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core.steering.view import SteerView
from core.view.markup import escape_markdown
from pages.parts import downloads, plots
from pages.parts.steering import judge, texts

if TYPE_CHECKING:
    import pandas as pd

    from core.steering.request import SteerRequest
    from core.steering.result import SteerResult


def draw(request: "SteerRequest", result: "SteerResult", view: SteerView) -> None:
    """Everything below the controls."""
    for note in result.notes:
        st.caption(escape_markdown(note))
    steered = result.rows[result.rows["kind"] == "latent"]
    if steered.empty:
        st.info("No strength could be found that does what was asked; see the line above.")
        return
    texts.side_by_side(request, result, view)
    _table(result)
    _curve(result)
    _downloads(result)
    if result.is_whole:
        judge.draw(request, result, view)


def partly(request: "SteerRequest", result: "SteerResult", view: SteerView, *, ended: bool) -> None:
    """What is there of it: texts that grow, or all that was done before it was stopped."""
    if not ended or not (result.rows["kind"] == "latent").any():
        texts.growing(request, result, view)
        return
    done = int(result.rows["n_texts"].notna().sum())
    st.caption(f"Below is what was there: {done:,} of {result.n_rows:,} rows.")
    draw(request, result, view)


def _table(result: "SteerResult") -> None:
    n, m = result.n_held_out, result.n_reference
    st.markdown("**What each strength does**")
    st.caption(
        f"KL is the mean over {m} predictions in the prompt and what the unsteered model writes "
        f"after it. Loss and boosted tokens are measured on {n} held-out texts of documentation, "
        "steered throughout; brackets are 95 % intervals of the mean over texts. Random rows are "
        "directions without meaning of the same length: the null. No judge: the share of boosted "
        "tokens and the perplexity of the texts tell what can be told without one."
    )
    for later in dict.fromkeys(filter(None, result.later)):
        st.caption(escape_markdown(f"Further on: {later} to what is steered."))
    number = st.column_config.NumberColumn
    shown = _shown(result.rows)
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=min(520, 38 + 35 * len(shown)),
        column_config={
            "strength": number(format="%.4g"),
            "activation": number(
                "activation", format="%.4g", help="Strength in units of the latent's activation."
            ),
            "KL": number("KL", format="%.3f", help="Nats, steered to unsteered."),
            "boosted": number(
                "boosted",
                format="%.4f",
                help="Probability of the 20 tokens that the latent pushes most, together; a mean "
                "over held-out predictions.",
            ),
            "distinct pairs": number(
                "distinct",
                format="%.2f",
                help="Distinct-2 of the texts: near 0 where they repeat themselves.",
            ),
            "gain of boosted": st.column_config.TextColumn(
                "gain", help="Of that probability over the unsteered model."
            ),
            "in texts": number(
                "in texts", format="%.2f", help="Share of boosted tokens among the tokens written."
            ),
            "perplexity": number(
                "perplexity",
                format="%.3g",
                help="Of the texts, by the unsteered model that goes on from the prompt. Low for "
                "fluent texts, and for those that say one word over and over.",
            ),
            "itself": number(
                "itself",
                format="%.3g",
                help="Mean activation of the first latent, read again by its SAE from the steered "
                "stream, on the text on which the KL is taken.",
            ),
            "further on": number(
                "further on",
                format="%.3g",
                help="The same of the latent of the SAE behind it whose decoder direction is most "
                "like the steered one's: likely, not certainly, what it becomes.",
            ),
        },
    )


def _shown(rows: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    def interval(name: str) -> list[str]:
        columns = (rows[name if name == "gain" else "loss_change"], rows[f"{name}_low"])
        return [
            "" if low != low else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            for mean, low, high in zip(*columns, rows[f"{name}_high"], strict=True)
        ]

    return pd.DataFrame(
        {
            "what": rows["kind"],
            "latents": rows["latents"],
            "strength": rows["strength"],
            "activation": rows["activation"],
            "KL": rows["kl"],
            "loss": interval("loss"),
            "boosted": rows["boosted"],
            "gain of boosted": interval("gain"),
            "distinct pairs": rows["distinct"],
            "in texts": rows["share"],
            "perplexity": rows["perplexity"],
            "itself": rows["own"],
            "further on": rows["later"],
        }
    )


def _curve(result: "SteerResult") -> None:
    from core.steering.figure import damage_figure

    if result.rows["gain"].isna().all():
        return
    st.markdown("**Concept against damage**")
    st.caption(
        "Up is more of what the latent pushes, right is more of what breaks. A latent that means "
        "something lies above the crosses, random directions of the same lengths."
    )
    config: dict[str, Any] = {"displaylogo": False}
    plots.draw(damage_figure(result.rows), key="steer_curve", config=config)


def _downloads(result: "SteerResult") -> None:
    from core.steering.figure import damage_figure

    def joined() -> "pd.DataFrame":
        return result.texts.merge(result.rows, on="row")

    with st.container(horizontal=True, gap="small"):
        downloads.table(joined, "steering", key="steer_table")
        if not result.rows["gain"].isna().all():
            downloads.figure(
                lambda: damage_figure(result.rows),
                "steering-curve",
                title="Concept against damage",
                key="steer_curve_file",
            )
