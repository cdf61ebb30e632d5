"""The heatmap, its check by intervention, and its files."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.gradients.page_view import GradientView
from pages.parts import downloads as files
from pages.parts import job_results, look, plots, wide
from pages.parts.gradients import controls

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from core.gradients.display import Cell
    from core.gradients.gradient_request import GradientResult
    from core.gradients.matrix import GradientMatrix
    from core.gradients.verify_request import Check

KEY = "grad_heatmap"
N_CHECKED = 20


def draw(
    result: "GradientResult",
    matrix: "GradientMatrix",
    view: GradientView,
    descriptions: Mapping[str, str],
) -> None:
    """The matrix; a click on a cell chooses it."""
    from core.gradients.display import colour_limit, place_of
    from core.gradients.heatmap import gradient_heatmap

    limit = colour_limit(matrix)
    figure = gradient_heatmap(
        matrix,
        descriptions=descriptions,
        clickable=True,
        limit=limit,
        chosen=place_of(result.matrix, view.cell),
        dark=look.is_dark(),
    )
    with wide.container("gradients"):
        plots.draw(
            without_background(figure),
            key=KEY,
            theme=None,
            width=wide.width_of(figure),
            on_select=lambda: _clicked(result),
            selection_mode="points",
            config=camera("gradients"),
        )
    left_out = _left_out(result, matrix, view)
    capped = abs(matrix.values).max() > limit
    colours = f"Colours end at ±{limit:.3g}; a few cells go beyond. " if capped else ""
    st.caption(
        f"{left_out}{colours}Blue: more of the source means more of the target; red: less. "
        "Click a cell to look at both of its ends and to verify it."
    )


def without_background(figure: "go.Figure") -> "go.Figure":
    """The same figure, through which the page is seen; files get their background back."""
    from core.export import SEE_THROUGH

    return figure.update_layout(paper_bgcolor=SEE_THROUGH, plot_bgcolor=SEE_THROUGH)


def camera(name: str) -> dict[str, Any]:
    """Settings of a chart whose camera saves a sharp PNG."""
    return {
        "displaylogo": False,
        "displayModeBar": True,
        "modeBarButtonsToRemove": ["select2d", "lasso2d"],
        "toImageButtonOptions": {"format": "png", "filename": name, "scale": 2},
    }


def check(result: "GradientResult", matrix: "GradientMatrix") -> None:
    """The strongest cells shown: predicted against actual changes."""
    from core.gradients.display import list_strongest_cells
    from core.gradients.verify_request import check_figure

    cells = list_strongest_cells(matrix, N_CHECKED)
    found = check_result(result, cells, "Verifying the strongest cells", wait=0.2)
    if found is None:
        return
    st.markdown(found.verification.verdict)
    plots.draw(
        without_background(check_figure(found, dark=look.is_dark())),
        key="grad_check",
        theme=None,
        config=camera("gradient-check"),
    )
    st.caption(
        f"The {len(cells)} strongest cells shown above: each source was changed by 2 % of its "
        "activation, and then switched off, with all else in place, and the model was run. On the "
        "dashed line the change of the target is what its gradient predicts. Crosses are targets "
        "that fell silent, which no gradient can foresee."
    )


def check_result(
    result: "GradientResult", cells: "Sequence[Cell]", title: str, *, wait: float = 0.5
) -> "Check | None":
    """What interventions on the sources of these cells do, or None while they run."""
    from core.gradients.verify_request import check, check_key

    engine, store, request = resources.engine(), resources.store(), result.request
    saes = [entry.key for entry in request.entries]
    found: Check | None = job_results.recent_result(
        check_key(result, cells),
        title,
        lambda progress: check(
            engine.lease(request.model, saes, progress=progress), store, result, cells
        ),
        wait=wait,
    )
    return found


def downloads(matrix: "GradientMatrix") -> None:
    """The matrix as it is shown, as a page, tables and numbers."""
    from core.gradients.heatmap import gradient_heatmap

    dark = look.is_dark()
    with st.container(horizontal=True, gap="small"):
        files.figure(
            lambda: gradient_heatmap(matrix, dark=dark),
            "gradients",
            title="Latent gradients",
            key="grad_page",
        )
        st.download_button(
            "Numbers (npz)",
            matrix.to_npz,
            "gradients.npz",
            on_click="ignore",
            key="grad_npz",
            icon=":material/download:",
        )
    files.table(matrix.frame, "gradients", key="grad_table")
    st.caption("The camera above the heatmap saves an image. All files hold what is shown.")


def _left_out(result: "GradientResult", matrix: "GradientMatrix", view: GradientView) -> str:
    n_to, n_from = matrix.values.shape
    if n_to == result.n_targets and n_from == result.n_sources:
        return ""
    hidden = (
        ". "
        if view.first_token or not result.n_leading
        else "; those of the first token are hidden. "
    )
    return (
        f"Shown are {n_from:,} of {result.n_sources:,} sources and {n_to:,} of "
        f"{result.n_targets:,} targets, as the filters say{hidden}"
    )


def _clicked(result: "GradientResult") -> None:
    from core.gradients.display import cell_of

    event: Any = st.session_state[KEY].selection
    for point in event.get("points", ()):
        data: Any = point.get("customdata") or ()
        if len(data) >= 2:
            target, source = int(data[0]), int(data[1])
            controls.change(cell=cell_of(result.matrix, target, source))
            return
