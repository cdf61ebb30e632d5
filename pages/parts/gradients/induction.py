"""The induction tab: attention SAEs on random tokens that repeat."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.gradients import sae_choices
from core.gradients.page_view import GradientView
from core.view.markup import shaded_tokens
from core.view.selection import Selection
from pages.parts import downloads, job_results, latent_links, look, plots, weights, wide
from pages.parts.gradients import controls, descriptions, heatmap

if TYPE_CHECKING:
    import pandas as pd

    from core.gradients.heads import HeadsResult
    from core.gradients.induction_request import InductionResult

ROOM = 500
_SHOWN_SOURCES, _SHOWN_TARGETS = 60, 60
_INTRO = (
    "After A B … A, a model that does *induction* says B. One head writes at each B what stood "
    "before it; a later head, at the second A, looks for that and copies B. On random tokens that "
    "repeat, latents of the later layer should then be fed, at each second A, by latents of the "
    "earlier layer at the first B: these places are framed below."
)


def draw(selection: Selection, entries: Sequence[SaeEntry], view: GradientView) -> None:
    """The whole tab."""
    from core.gradients.heads import HeadsRequest, find_heads, suggested_pair
    from core.gradients.induction_request import InductionRequest, find

    st.markdown(_INTRO)
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        with st.container(width=220):
            controls.number("Tokens that are repeated", "length", 2, 500)
        with st.container(width=220):
            controls.number("Seed", "seed", 0, 2**31 - 1, "Which random tokens.")
    saes = sae_choices.attention(entries)
    request = HeadsRequest(selection.model, view.length, view.seed)
    engine, store = resources.engine(), resources.store()
    link = latent_links.address("gradients", selection, tab="induction")
    heads = job_results.recent_result(
        request.key,
        "Scores of attention heads",
        lambda progress: find_heads(engine.lease(request.model, progress=progress), store, request),
        link=link,
        room=ROOM,
    )
    if heads is None:
        return
    _heads(heads, view)
    pair = suggested_pair(heads.scores, entries)
    if pair is None:
        st.info(
            "Induction is looked for between SAEs of attention heads (hook_z) in two layers; there "
            f"are none for {selection.model}."
        )
        return
    early, late = (
        sae_choices.find(saes, view.early) or pair[0],
        sae_choices.find(saes, view.late) or pair[1],
    )
    left, right = st.columns(2)
    with left:
        controls.sae(
            "Earlier attention SAE",
            "early",
            saes,
            early,
            help="By default that of the head which looks most at the token before.",
        )
    with right:
        controls.sae(
            "Later attention SAE",
            "late",
            saes,
            late,
            help="By default that of the head which does most induction.",
        )
    if not weights.ready(selection.model, [early, late]):
        return
    wanted = InductionRequest(request, early, late)
    result = job_results.recent_result(
        wanted.key,
        "Looking for induction",
        lambda progress: find(
            engine.lease(request.model, [early.key, late.key], progress=progress), store, wanted
        ),
        link=link,
        room=ROOM,
    )
    if result is None:
        return
    _found(result, selection)


def _heads(heads: "HeadsResult", view: GradientView) -> None:
    from core.gradients.heads import head_score_figure, pattern_figure

    second = [float(n > view.length) for n in range(len(heads.tokens))]
    st.markdown(shaded_tokens(heads.tokens, second, dark=look.is_dark()))
    st.caption("The first of four such prompts; the second copy is shaded.")
    dark = look.is_dark()
    plots.draw(
        heatmap.without_background(head_score_figure(heads.scores, dark=dark)),
        key="grad_heads",
        theme=None,
        config=heatmap.camera("heads"),
    )
    with st.expander("Where the heads concerned look", key="grad_where_heads_look"):
        plots.draw(
            heatmap.without_background(
                pattern_figure(heads.patterns, heads.titles, heads.tokens, dark=dark)
            ),
            key="grad_patterns",
            theme=None,
            config=heatmap.camera("attention-patterns"),
        )


def _found(result: "InductionResult", selection: Selection) -> None:
    from core.gradients.induction_request import verdict

    boxes, control = result.boxes, result.control_boxes
    st.markdown(f"**{verdict(result)}**")
    if not len(result.latents):
        return
    columns = st.columns(3)
    columns[0].metric("In the boxes", f"{boxes.share:.1%}")
    columns[1].metric("Expected for their area", f"{boxes.chance:.1%}")
    columns[2].metric("In the same boxes without repetition", f"{control.share:.1%}")
    _heatmap(result)
    known = descriptions.known_descriptions(selection.model, result.saes, result.request.entries)
    _tables(result, selection, known)
    descriptions.draw(selection.model, known, result.request.entries)


def _heatmap(result: "InductionResult") -> None:
    from core.gradients.display import colour_limit
    from core.gradients.heatmap import gradient_heatmap
    from core.gradients.induction import box_positions
    from core.gradients.induction_request import strongest_part

    part = strongest_part(result.first_prompt, n_sources=_SHOWN_SOURCES, n_targets=_SHOWN_TARGETS)
    if not part.values.any():
        st.info("On the first of the prompts none of these latents is fed by the earlier SAE.")
        return
    figure = gradient_heatmap(
        part,
        boxes=box_positions(result.length, n_leading=result.n_leading),
        limit=colour_limit(part),
        dark=look.is_dark(),
    )
    with wide.container("induction"):
        plots.draw(
            heatmap.without_background(figure),
            key="grad_induction",
            theme=None,
            width=wide.width_of(figure),
            config=heatmap.camera("induction"),
        )
    st.caption(
        f"Gradients on the first prompt: the strongest {_SHOWN_SOURCES} sources of the earlier SAE "
        "and the found latents of the later one in the second copy. Frames mark the first B and "
        "the second A of each pair of neighbours."
    )
    downloads.figure(figure, "induction", title="Induction", key="grad_induction_page")
    downloads.table(result.first_prompt.frame, "induction", key="grad_induction_table")


def _tables(result: "InductionResult", selection: Selection, known: dict[str, object]) -> None:
    st.subheader("Later latents that fire by induction")
    st.dataframe(
        _latent_table(result, selection, known),
        hide_index=True,
        column_config={
            "look at it": st.column_config.LinkColumn(display_text="open", width=76),
            "description": st.column_config.TextColumn(width=334),
            "in the boxes, times chance": st.column_config.NumberColumn(
                "times chance", format="%.1f", help="What is in the boxes, over their area."
            ),
        },
    )
    st.subheader("Their strongest partners in the boxes")
    st.dataframe(
        _partner_table(result, selection, known),
        hide_index=True,
        column_config={"look at it": st.column_config.LinkColumn(display_text="open")},
    )
    st.caption(
        "Boxes: in how many boxes both are active. Contribution: gradient times activation, mean "
        "over all boxes."
    )


def _latent_table(
    result: "InductionResult", selection: Selection, known: dict[str, object]
) -> "pd.DataFrame":
    import pandas as pd

    found = result.latents
    return pd.DataFrame(
        {
            "latent": found["latent"],
            "look at it": _links(result.request.late, selection, found["latent"]),
            "description": _texts(result.request.late, known, found["latent"]),
            "fires on second copies": found["fraction"].map("{:.0%}".format),
            "without repetition": found["fraction_control"].map("{:.0%}".format),
            "in the boxes": found["share"].map("{:.0%}".format),
            "in the boxes, times chance": found["score"],
        }
    )


def _partner_table(
    result: "InductionResult", selection: Selection, known: dict[str, object]
) -> "pd.DataFrame":
    import pandas as pd

    found = result.partners
    return pd.DataFrame(
        {
            "later latent": found["to_latent"],
            "is fed by": found["from_latent"],
            "look at it": _links(result.request.early, selection, found["from_latent"]),
            "description": _texts(result.request.early, known, found["from_latent"]),
            "boxes": found["boxes"],
            "gradient": found["gradient"].round(3),
            "contribution": found["attribution"].round(3),
        }
    )


def _links(entry: SaeEntry, selection: Selection, latents: "pd.Series") -> list[str]:
    return [
        latent_links.address("latent", Selection(selection.model, *entry.key, latent=int(latent)))
        for latent in latents
    ]


def _texts(entry: SaeEntry, known: dict[str, object], latents: "pd.Series") -> list[str]:
    texts = getattr(known.get(sae_choices.name_of(entry)), "texts", None)
    return ["" if texts is None else str(texts[int(latent)]) for latent in latents]
