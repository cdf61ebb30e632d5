"""Texts side by side, also while they are written."""

from typing import TYPE_CHECKING

import streamlit as st

from core.steering.view import SteerView
from core.view.markup import escape_markdown, shaded_tokens
from pages.parts.steering import VIEW

if TYPE_CHECKING:
    import pandas as pd

    from core.steering.request import SteerRequest
    from core.steering.result import SteerResult


def side_by_side(request: "SteerRequest", result: "SteerResult", view: SteerView) -> None:
    """Texts of a row that is chosen, beside the unsteered ones and those of a random direction."""
    numbers = _steered(result)["row"].tolist()
    rows = result.rows.set_index("row")
    chosen = shown_row(request, numbers, view)
    st.selectbox(
        "Texts of",
        format_func=lambda it: title_of(rows.loc[it]),
        width=420,
        **VIEW.menu("steer_shown", "shown", numbers, value=chosen),
    )
    _columns(result, chosen)
    with st.expander("The prompt as the model reads it", key="steer_prompt_as_read"):
        parts = [f"{i}·{it}" for i, it in enumerate(result.prompt_texts)]
        st.markdown(" ".join(shaded_tokens([it], [0.0]) for it in parts))


def growing(request: "SteerRequest", result: "SteerResult", view: SteerView) -> None:
    """The same of what is there by now, without a choice: the row that will be shown, or the
    latest."""
    numbers = _steered(result)["row"].tolist()
    done = int(result.rows["n_texts"].notna().sum())
    st.caption(f"{done:,} of {result.n_rows:,} rows are written and measured.")
    wanted = view.shown or _proposed(request, result.n_rows)
    chosen = wanted if wanted in numbers else max(numbers, default=0)
    if chosen:
        st.markdown(f"**{escape_markdown(title_of(result.rows.set_index('row').loc[chosen]))}**")
    _columns(result, chosen)


def title_of(row: "pd.Series") -> str:
    """Latents and strength of a row."""
    applied = row["activation"]
    activation = f", activation {applied:.3g}" if applied == applied else ""
    return f"latent {row['latents']} at {row['strength']:g}{activation}"


def _steered(result: "SteerResult") -> "pd.DataFrame":
    return result.rows[result.rows["kind"] == "latent"]


def shown_row(request: "SteerRequest", numbers: list[int], view: SteerView) -> int:
    """The row whose texts stand at the top, of those that there are."""
    if view.shown in numbers:
        return view.shown
    proposed = _proposed(request, max(numbers) + 1)
    return proposed if proposed in numbers else numbers[0]


def _proposed(request: "SteerRequest", n_rows: int) -> int:
    """The middle strength of the first group, unless the reader chose."""
    number = 1 + len(request.strengths) // 2 * (1 + request.n_random)
    return number if number < n_rows else 1


def _columns(result: "SteerResult", chosen: int) -> None:
    group = result.rows.loc[result.rows["row"] == chosen, "group"]
    boosted = result.boosted[int(group.iloc[0])] if len(group) else ""
    if boosted:
        st.caption(escape_markdown(f"Tokens that it pushes most: {boosted}"))
    left, middle, right = st.columns(3)
    with left:
        _texts("Unsteered", result, 0)
    if not chosen:
        return
    with middle:
        _texts("Steered", result, chosen)
    with right:
        beside = result.rows.loc[result.rows["row"] == chosen + 1, "kind"]
        if len(beside) and beside.iloc[0] == "random":
            _texts("Random direction, same length", result, chosen + 1)


def _texts(title: str, result: "SteerResult", number: int) -> None:
    found = result.rows[result.rows["row"] == number]
    if found.empty:
        return
    row = found.iloc[0]
    st.markdown(f"**{title}**")
    if row["n_texts"] == row["n_texts"]:
        st.caption(escape_markdown(_measured(row, result)))
    else:
        st.caption("Not measured yet.")
    for text in result.texts.loc[result.texts["row"] == number, "text"]:
        st.code(text or "(nothing)", language=None, wrap_lines=True)


def _measured(row: "pd.Series", result: "SteerResult") -> str:
    parts = [
        f"KL {row['kl']:.3f} nats, loss {row['loss_change']:+.2f}, distinct pairs "
        f"{row['distinct']:.2f}, perplexity {row['perplexity']:.3g}"
    ]
    if row["own"] == row["own"]:
        parts.append(f"the latent itself is at {row['own']:.3g} afterwards")
    if row["later"] == row["later"]:
        parts.append(f"further on, {result.later[int(row['group'])]}, is at {row['later']:.3g}")
    return "; ".join(parts)
