"""Panels that hold the latent's texts against those of controls and of another latent."""

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from core.patch_scoping.view import ScopeView
from core.view.markup import escape_markdown
from pages.parts.patch_scoping import VIEW, jobs

if TYPE_CHECKING:
    from core.patch_scoping.null_distribution import NullComparison
    from core.patch_scoping.run import ScopeRequest, ScopeResult
    from core.patch_scoping.tables import BestText

_OTHERS = 2
_ALIKE = 0.5


def controls(
    request: "ScopeRequest",
    result: "ScopeResult",
    best: "BestText",
    own: "NullComparison | None",
    *,
    link: str,
) -> None:
    """Side by side: the latent, and what ought to say something else.

    `own` is the verdict that stands above: these few controls add to it and do not overrule it.
    """
    from core.patch_scoping.controls import UNTOUCHED
    from core.patch_scoping.reading import unigram_f1
    from core.patch_scoping.tables import side_by_side

    st.caption(
        "A text is worth something only if other directions do not get it too: two random "
        "directions of the same length, two other latents, and the prompt as it is."
    )
    latent = request.latents[0]
    table = jobs.controls(request, _others(latent, result.d_sae), link=link)
    if table is None:
        return
    names = list(dict.fromkeys(table["latent"]))
    columns = {f"latent {latent}": result.table}
    columns |= {name: table[table["latent"] == name] for name in names if name != UNTOUCHED}
    first = table[table["latent"] == UNTOUCHED].iloc[0]
    alike = [
        str(row.latent)
        for row in table.itertuples()
        if row.sample == 0 and unigram_f1(str(row.answer), best.text) >= _ALIKE
    ]
    if alike:
        names_given = ", ".join(dict.fromkeys(alike))
        st.warning(
            f"The best text is generic: {escape_markdown(names_given)} gets much the same words.",
            icon=":material/content_copy:",
        )
    elif own is None or own.verdict == "stands out":
        st.caption("No control gets the best text or one like it.")
    else:
        st.caption(
            "No control gets the same words, but that does not help the text: other directions get "
            f"other texts that are as clear ({own.p:.0%} of them, see the verdict above)."
        )
    shown = side_by_side(columns)
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        column_config={
            "scale": st.column_config.NumberColumn("Scale", format="%.3g", width=60),
            "layer": st.column_config.NumberColumn("Layer", width=60),
        },
    )
    said = escape_markdown(str(first["answer"])) or "nothing"
    st.markdown(f"With nothing replaced the model says: {said}")


def another_latent(
    request: "ScopeRequest",
    result: "ScopeResult",
    best: "BestText",
    by: str,
    scope: ScopeView,
    *,
    link: str,
) -> None:
    """The other latent's number, both best texts, and both tables as one."""
    from core.patch_scoping.tables import best_text, diff_markdown, side_by_side

    latent, last = request.latents[0], result.d_sae - 1
    other = scope.other if scope.other is not None else (latent + 1) % result.d_sae
    other = int(
        st.number_input(
            f"Compare with latent (0 to {last})",
            0,
            last,
            width=240,
            **VIEW.widget("scope_other", "other", value=min(other, last)),
        )
    )
    found = jobs.sweep_result(replace(request, latents=(other,)), link=link, start=True)
    if found is None:
        return
    rival = best_text(found.table, by)  # type: ignore[arg-type]  # one of CHOICES
    texts = diff_markdown(best.text, rival.text)
    columns = st.columns(2)
    for column, name, text, one in zip(columns, (latent, other), texts, (best, rival), strict=True):
        with column:
            st.markdown(f"**Latent {name}**")
            st.markdown(text or "(the model says nothing)")
            st.caption(f"At {one.multiple:.4g} × the typical norm before layer {one.layer}.")
    st.caption("Words that only one of the two texts has are coloured.")
    both = {f"latent {latent}": result.table}
    both[f"latent {other}" if other != latent else f"latent {other} again"] = found.table
    st.dataframe(
        side_by_side(both),
        hide_index=True,
        width="stretch",
        column_config={
            "scale": st.column_config.NumberColumn("Scale", format="%.3g", width=60),
            "layer": st.column_config.NumberColumn("Layer", width=60),
        },
    )


def _others(latent: int, d_sae: int) -> tuple[int, ...]:
    """Two other latents, the same at every visit."""
    drawn = random.Random(latent).sample(range(d_sae), min(d_sae, _OTHERS + 1))
    return tuple(other for other in drawn if other != latent)[:_OTHERS]
