"""The sets that are enriched in the chosen latent, and how one score comes about."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core.catalog.entries import SaeEntry
from core.latent.view import EnrichmentView
from core.view.markup import escape_markdown, n_of, visible_token
from core.view.selection import Selection
from pages.parts import job_results, plots, tables

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from core.enrichment.run import EnrichmentFound
    from pages.parts.page_state import PageState

_TABLE, _WEIGHTED = "enrichment_own", "enrichment_weighted"
_N_LEADING = 20
_PERMUTATIONS = 1000


def columns() -> dict[str, Any]:
    """How the columns of tables of sets are named and explained."""
    number = st.column_config.NumberColumn
    return {
        "latent": number(format="%d", width="small"),
        "set": st.column_config.TextColumn("set of tokens", width=158),
        "group": st.column_config.TextColumn("kind"),
        "size": number("tokens", format="%d", width="small"),
        "score": number(format="%+.3f", width=64, help="From −1 to 1, see above."),
        "log10_p": number(
            "−log₁₀ p",
            format="%.1f",
            width=66,
            help="How unlikely the score is for a random set of as many tokens: 3 means one in a "
            "thousand.",
        ),
        "q": st.column_config.TextColumn(
            "FDR",
            width=98,
            help="False-discovery rate: share of false findings among all that are at least as "
            "unlikely.",
        ),
        "beyond": number(
            "random directions",
            format="%.1f %%",
            width=118,
            help="Share of 1,000 random directions that score as far from 0 for this set.",
        ),
    }


def table_for_display(pairs: "pd.DataFrame") -> "pd.DataFrame":
    """The table as it is shown: what tells most in front, shares in percent."""
    shown = pairs.assign(log10_p=-pairs["log10_p"])
    if "beyond" in shown:
        shown["beyond"] = 100 * shown["beyond"]
        shown["q"] = ["below 0.0001" if q < 1e-4 else f"{q:.4f}" for q in shown["q"]]
    order = ["latent", "set", "group", "score", "beyond", "log10_p", "q", "size"]
    return shown[[name for name in order if name in shown]]


def draw(
    selection: Selection,
    entry: SaeEntry,
    found: "EnrichmentFound",
    view: EnrichmentView,
    state: "PageState[EnrichmentView]",
) -> None:
    """Table and running sum of the chosen latent."""
    import numpy as np

    from core.enrichment.figures import pairs_table
    from core.logit_statistics import logits_of_latent

    sets = found.found.sets
    own = pairs_table(found, most=len(sets), beyond=None, latent=selection.latent)
    st.markdown(f"**Sets that latent {selection.latent} pushes up or down**")
    if len(own) == 0:
        st.info("This latent pushes all tokens alike, so no set can be enriched.")
        return
    st.toggle(
        "Weight tokens by how far they are pushed",
        **state.widget(_WEIGHTED, "weighted"),
        help="Tokens in the middle, which are hardly pushed at all, then count less, as in gene "
        "set enrichment analysis. Random sets are drawn for this latent to tell p-values.",
    )
    logits = logits_of_latent(job_results.lease(selection), selection.latent)
    if view.weighted:
        own = _weighted(selection, entry, found, own, logits, view)
    chosen = view.chosen if sets.number(view.chosen) is not None else str(own["set"].iloc[0])
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _table(own, state)
    with right:
        number = sets.number(chosen)
        if number is not None and np.isfinite(logits).all():
            _curve(found, logits, number, view)


def _weighted(
    selection: Selection,
    entry: SaeEntry,
    found: "EnrichmentFound",
    own: "pd.DataFrame",
    logits: "np.ndarray",
    view: EnrichmentView,
) -> "pd.DataFrame":
    """`own` with weighted scores and the p-values of random sets, once they are drawn."""
    import numpy as np

    from core.enrichment.null import permutation_p_values
    from core.enrichment.score import one_latent

    sets = found.found.sets
    scores = one_latent(logits, sets, weight=1.0)

    def draw_sets(progress: Any) -> "np.ndarray":
        progress.update(0, 1, message="Drawing random sets of tokens")
        return permutation_p_values(
            logits[sets.universe],
            sets.sizes,
            scores,
            weight=1.0,
            n_permutations=_PERMUTATIONS,
            check=progress.check,
        )

    p_values = job_results.result(
        f"enrichment-weighted:{selection.model}:{entry.key}:{entry.version}:{view.mine}:"
        f"{selection.latent}",
        f"Random sets for latent {selection.latent}",
        draw_sets,
        wait=2.0,
    )
    if p_values is None:
        p_values = np.full(len(sets), np.nan)
    numbers = [sets.number(name) or 0 for name in own["set"]]
    with np.errstate(divide="ignore"):
        changed = own.assign(score=scores[numbers], log10_p=np.log10(p_values[numbers]))
    order = np.lexsort((-changed["score"].abs(), changed["log10_p"].fillna(0)))
    return changed.iloc[order].reset_index(drop=True).drop(columns=["q", "beyond"])


def _table(own: "pd.DataFrame", state: "PageState[EnrichmentView]") -> None:
    shown = table_for_display(own).drop(columns=["latent", "group"])

    tables.clickable(
        shown,
        lambda line: state.change(chosen=str(own["set"].iloc[line])),
        key=_TABLE,
        height=400,
        column_config=columns(),
    )


def _curve(
    found: "EnrichmentFound", logits: "np.ndarray", number: int, view: EnrichmentView
) -> None:
    from core.enrichment.figures import running_sum_figure
    from core.enrichment.score import running_sum

    sets, vocabulary = found.found.sets, found.found.vocabulary
    named = sets.sets[number]
    curve = running_sum(logits, sets, number, weight=float(view.weighted))
    tokens = [visible_token(vocabulary.texts[token_id]) for token_id in curve.ids]
    direction = "up" if curve.score > 0 else "down"
    st.markdown(
        f"**{escape_markdown(named.name)}**: {n_of(len(named.ids), 'token')}, pushed {direction}, "
        f"score {curve.score:+.3f}"
    )
    figure = running_sum_figure(curve, tokens, n_tokens=len(sets.universe))
    plots.draw(figure, key="enrichment_curve", config={"displayModeBar": False})
    leading = tokens[:_N_LEADING] if curve.score > 0 else tokens[::-1][:_N_LEADING]
    st.caption(f"The tokens of the set that are pushed {direction} most:")
    st.code(" ".join(leading), language=None, wrap_lines=True)
