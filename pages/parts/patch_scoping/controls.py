"""What the model says of random directions, of other latents, and of nothing at all."""

import random
from typing import TYPE_CHECKING

import streamlit as st

from core.view.markup import escape_markdown
from pages.parts.patch_scoping import runs

if TYPE_CHECKING:
    from core.view.patch_scoping.scoping import ScopeResult
    from core.view.patch_scoping.texts import BestText
    from core.view.patch_scoping.workbench import ScopeRequest

_OTHERS = 2
_ALIKE = 0.5


def draw(request: "ScopeRequest", result: "ScopeResult", best: "BestText", *, link: str) -> None:
    """Side by side: the latent, and what ought to say something else."""
    from core.patch_scoping.controls import UNTOUCHED
    from core.patch_scoping.reading import unigram_f1
    from core.view.patch_scoping.texts import side_by_side

    st.caption(
        "A text is worth something only if other directions do not get it too: two random "
        "directions of the same length, two other latents, and the prompt as it is."
    )
    latent = request.latents[0]
    table = runs.controls(request, _others(latent, result.d_sae), link=link)
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
        names_said = ", ".join(dict.fromkeys(alike))
        st.warning(
            f"The best text is generic: {escape_markdown(names_said)} gets much the same words.",
            icon=":material/content_copy:",
        )
    else:
        st.caption("No control gets the best text or one like it.")
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


def _others(latent: int, d_sae: int) -> tuple[int, ...]:
    """Two other latents, the same at every visit."""
    drawn = random.Random(latent).sample(range(d_sae), min(d_sae, _OTHERS + 1))
    return tuple(it for it in drawn if it != latent)[:_OTHERS]
