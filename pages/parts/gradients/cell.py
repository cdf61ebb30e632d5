"""A chosen cell: both of its ends side by side, and what happens when its source is changed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from core.catalog.entries import SaeEntry
from core.gradients.page_view import GradientView
from core.view.markup import escape_markdown, exact_markdown, shaded_tokens, visible_token
from core.view.selection import Selection
from pages.parts import errors, job_results, look
from pages.parts.gradients import controls, heatmap
from pages.parts.latent import elsewhere

if TYPE_CHECKING:
    import pandas as pd

    from core.gradients.gradient_request import GradientResult

_PATIENCE = 1.5
"""Seconds in which a cell is mostly verified: less than drawing the page once more takes."""


def draw(
    result: "GradientResult",
    selection: Selection,
    view: GradientView,
    descriptions: Mapping[str, str],
) -> None:
    """Nothing without a chosen cell."""
    from core.gradients.display import place_of

    if not view.cell:
        return
    place = place_of(result.matrix, view.cell)
    if place is None:
        st.info("The chosen cell is not active here; click another.")
        return
    matrix, request = result.matrix, result.request
    with st.container(border=True):
        title, close = st.columns([6, 1])
        title.markdown(
            f"**{exact_markdown(matrix.sources['label'].iloc[place[1]])} → "
            f"{exact_markdown(matrix.targets['label'].iloc[place[0]])}**"
        )
        close.button("Close", key="grad_close", on_click=lambda: controls.change(cell=()))
        checked = st.container()
        left, right = st.columns(2)
        with left:
            st.caption("From")
            end(result.parts, matrix.sources, place[1], request.source, selection, descriptions)
        with right:
            st.caption("To")
            end(result.parts, matrix.targets, place[0], request.target, selection, descriptions)
        # Last, because the model is run for it: both ends are read meanwhile.
        with checked, errors.shown_plainly():
            _verified(result, view, place)


def end(
    tokens: "tuple[str, ...]",
    axis: "pd.DataFrame",
    number: int,
    entry: SaeEntry | None,
    selection: Selection,
    descriptions: Mapping[str, str],
) -> None:
    """One end of a cell: a latent with what is known of it, a token, or a logit."""
    row = axis.iloc[number]
    if entry is None:
        is_logit = str(row["label"]).startswith("logit")
        what = "The score (logit) of the next token" if is_logit else "The token"
        st.markdown(f"{what} **{exact_markdown(visible_token(str(row['token'])))}**")
        return
    same = axis[axis["index"] == row["index"]]
    strength = dict(zip(same["position"], same["value"], strict=True))
    latent(
        tokens,
        {int(place): float(value) for place, value in strength.items()},
        Selection(selection.model, *entry.key, latent=int(row["index"])),
        entry,
        descriptions.get(str(row["label"]), ""),
    )


def latent(
    tokens: "tuple[str, ...]",
    strength: Mapping[int, float],
    chosen: Selection,
    entry: SaeEntry,
    description: str,
) -> None:
    """What is known of a latent: description, activations on the prompt, tokens, links."""
    from core.logit_statistics import logit_effects

    st.markdown(f"**Latent {chosen.latent}** of {escape_markdown(entry.sae_id)}")
    st.markdown(escape_markdown(description) if description else "No description yet.")
    values = [max(0.0, strength.get(place, 0.0)) for place in range(len(tokens))]
    st.caption(f"Where it is active in the prompt, at most {max(values):.2f}:")
    # The first token holds back the others: its activation is of another order.
    st.markdown(shaded_tokens(tokens, values, dark=look.is_dark()))
    with errors.shown_plainly():
        found = logit_effects(job_results.lease(chosen), chosen.latent)
        up, down = st.columns(2)
        up.caption("Makes more likely")
        up.code("\n".join(visible_token(effect.token) for effect in found.boosted), language=None)
        down.caption("Makes less likely")
        down.code(
            "\n".join(visible_token(effect.token) for effect in found.suppressed), language=None
        )
    elsewhere.draw(chosen, here="gradients", typed=(controls.current().prompt or "").strip())
    if entry.neuronpedia_id is not None:
        from core.neuronpedia import dashboard_url

        st.link_button(
            "Neuronpedia",
            dashboard_url(entry.neuronpedia_id, chosen.latent),
            icon=":material/open_in_new:",
        )


def _verified(result: "GradientResult", view: GradientView, place: tuple[int, int]) -> None:
    import pandas as pd

    slope = float(result.matrix.values[place])
    if slope == 0:
        st.caption("The gradient of this cell is zero.")
        return
    cells = [(view.cell[0], view.cell[1], view.cell[2], view.cell[3])]
    found = heatmap.check_result(result, cells, "Verifying a cell", wait=_PATIENCE)
    if found is None:
        return
    row = found.verification.cells.iloc[0]
    st.markdown(
        f"The gradient is **{slope:.4g}**. The source is at {row['from_value']:.3g} and the "
        f"target at {row['to_value']:.3g}."
    )
    st.dataframe(
        pd.DataFrame(
            {
                "the source is": ["changed by 2 %", "switched off"],
                "the target should change by": [
                    row["predicted_step"],
                    row["predicted_ablation"],
                ],
                "it changes by": [row["actual_step"], row["actual_ablation"]],
                "it falls silent": [_yes(row["died_step"]), _yes(row["died_ablation"])],
            }
        ),
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.4g")
            for name in ("the target should change by", "it changes by")
        },
    )


def _yes(value: object) -> str:
    return "yes" if value else "no"
