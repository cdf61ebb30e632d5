"""What was found of absorption: concepts, one of them, exceptions of a latent, and widths."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.absorption.run import AbsorptionRequest
from core.absorption.view import AbsorptionView
from core.catalog.entries import SaeEntry
from core.view.markup import escape_markdown, visible_token
from core.view.selection import Selection
from pages.parts import downloads, plots, tables, view_state
from pages.parts.page_state import PageState
from pages.parts.sae import effects, metric

if TYPE_CHECKING:
    import pandas as pd

    from core.absorption.exceptions import Exceptions
    from core.absorption.found import AbsorptionFound
    from core.absorption.result import ConceptResult

_PLOT: dict[str, Any] = {"displaylogo": False}
_LISTED = (
    "concept",
    "probe_f1",
    "splits",
    "mains",
    "fires_on",
    "full",
    "full_shuffled",
    "full_random_sae",
    "full_random_direction",
    "fraction",
    "hedging",
    "n",
)
_NAMED = 6
_SHARES = {
    "fires_on": "fires on",
    "fires": "an own latent fires",
    "full": "full absorption",
    "full_low": "low",
    "full_high": "high",
    "full_shuffled": "shuffled",
    "full_random_sae": "random SAE",
    "full_random_direction": "random direction",
    "fraction": "fraction",
    "hedging": "hedging",
    "share": "share carried",
    "shuffled": "shuffled",
    "random_sae": "random SAE",
    "random_direction": "random direction",
}
_COLUMNS: dict[str, Any] = {
    **{name: st.column_config.NumberColumn(it, format="percent") for name, it in _SHARES.items()},
    "probe_f1": st.column_config.NumberColumn("probe F1", format="%.2f", width=72),
    "fires_on": st.column_config.NumberColumn("fires on", format="percent", width=72),
    "full_shuffled": st.column_config.NumberColumn("shuffled", format="percent", width=74),
    "concept": st.column_config.TextColumn(width=172),
    "mains": st.column_config.TextColumn("own latents", width=128),
    "splits": st.column_config.NumberColumn("how many", width=76),
    "score": st.column_config.NumberColumn("beyond the cut", format="%.2f"),
    "absorber": st.column_config.NumberColumn(format="%d"),
    "cosine": st.column_config.NumberColumn("cosine with the probe", format="%.2f"),
    "l0": st.column_config.NumberColumn("L0", format="%.1f"),
}


def draw(
    selection: Selection,
    entry: SaeEntry,
    found: "AbsorptionFound",
    request: AbsorptionRequest,
    view: AbsorptionView,
    state: PageState[AbsorptionView],
) -> None:
    """All concepts, and the chosen one below."""
    from core.absorption import figures
    from core.absorption.tables import concept_table

    table = concept_table(found.results)
    names = list(table["concept"])
    chosen = view.concept if view.concept in names else names[0]
    represented = [it for it in found.results if it.represented]
    missing = [it.name for it in found.results if not it.represented]
    st.caption(
        f"{found.n_sites:,} positions of {escape_markdown(found.text)}, at most 10 of each "
        f"{found.unit.removesuffix('s')}; "
        f"{found.l0:.1f} active latents each." + (f" {found.note}" if found.note else "")
    )
    if missing:
        st.info(
            escape_markdown(
                f"The model does not have {len(missing)} of {len(names)} concepts here (its probe "
                f"stays below F1 0.6 on held-out tokens): {', '.join(missing[:_NAMED])}"
                + ("…" if len(missing) > _NAMED else "")
                + ". What is absorbed of them means nothing."
            )
        )
    if represented:
        drawing = figures.overview_figure(represented, chosen=chosen)
        plots.draw(drawing, key="absorption_overview", config=_PLOT)

    tables.clickable(
        table[list(_LISTED)],
        lambda line: state.change(concept=names[line]),
        column_config=_COLUMNS,
        key="absorption_table",
        height=280,
    )
    st.caption(
        "A click on a line shows that concept. full: share of the probe's true positives at which "
        "none of the concept's own latents (mains) fires and another carries it; shuffled: the "
        "same with a random set of as many tokens, which has no latent of its own; random SAE and "
        "random direction: in an SAE of random directions with this L0, and along random "
        "directions; hedging: share of negatives at which an own latent fires."
    )
    name = f"{entry.release}-{entry.sae_id}-absorption"
    downloads.table(lambda: table, name, key="absorption_all", what="All concepts")
    result = found.result(chosen)
    if result is not None:
        _concept(selection, entry, result, request, name)


def _concept(
    selection: Selection,
    entry: SaeEntry,
    result: "ConceptResult",
    request: AbsorptionRequest,
    name: str,
) -> None:
    from core.absorption import figures

    st.subheader(escape_markdown(result.name))
    tokens, absorbers = result.tokens, result.absorbers
    with st.container(horizontal=True, gap="medium"):
        full, fraction = result.full, result.fraction
        metric.draw(
            "Full absorption",
            f"{full.value:.1%}",
            f"{full.low:.1%}–{full.high:.1%} · shuffled {result.shuffled.full:.0%} · random SAE "
            f"{result.random_sae.full:.0%} · direction {result.random_direction.full:.0%}",
            f"Of {result.n_hits:,} true positives of the probe. Shuffled: a random set of as many "
            f"tokens, of which its probe (F1 {result.shuffled_f1:.2f}) finds "
            f"{result.shuffled.n:,}; such a set has no latent of its own.",
        )
        metric.draw(
            "Absorption fraction",
            f"{fraction.value:.1%}",
            f"{fraction.low:.1%}–{fraction.high:.1%} · shuffled {result.shuffled.fraction:.0%} · "
            f"random SAE {result.random_sae.fraction:.0%}",
            "How much of the concept other latents carry, on average.",
        )
        metric.draw(
            "Probe F1",
            f"{result.f1:.2f}",
            f"AUROC {result.auroc:.2f} · labels without meaning {result.shuffled_f1:.2f}",
            "On tokens that it was not fitted on.",
        )
        metric.draw(
            "Own latents",
            f"{len(result.mains)}",
            f"fire on {result.recall:.0%}, on negatives {result.hedging:.1%}",
            "More than one: the concept has split.",
        )
    st.markdown(escape_markdown(_sentence(result)))
    strip = figures.strip_figure(tokens, absorbers)
    plots.draw(strip, key="absorption_strip", config=_PLOT)
    left, right = st.columns(2)
    with left:
        st.markdown("**With how many latents is the concept read?**")
        plots.draw(
            figures.curve_figure(result), key="absorption_curve", config={"displayModeBar": False}
        )
        st.caption(
            "Filled: its own latents. Dashed: the probe on all of the model's activations; dotted: "
            "a probe of labels without meaning."
        )
    with right:
        st.markdown("**Latents that absorb it**")
        _latents(selection, entry, absorbers, key="absorption_absorbers")
        effects.draw(request, result, name=f"{name}-{result.name}")
    st.markdown("**Tokens**")
    _tokens(tokens, ["fires", "full", "fraction"], key="absorption_tokens")
    with st.container(horizontal=True, gap="small"):
        downloads.table(
            lambda: tokens,
            f"{name}-{result.name}-tokens",
            key="absorption_tokens_file",
            what="Tokens of the concept",
        )
        downloads.figure(
            strip,
            f"{name}-{result.name}",
            title=result.name,
            key="absorption_strip_file",
            what="Its picture",
        )


def exceptions(selection: Selection, entry: SaeEntry, found: "Exceptions") -> None:
    """Where a latent does not fire although its best concept is true."""
    full = found.full
    st.markdown(
        escape_markdown(
            f"Latent {found.latent} fits “{found.concept}” best (F1 {found.fit:.2f}; firing as "
            f"often anywhere would reach {found.chance_fit:.2f}"
            + (f"; next “{found.runner_up}”" if found.runner_up else "")
            + f"). Where the concept's probe (F1 {found.probe_f1:.2f}) is right, it fires on "
            f"{found.fires:,} of {found.n_hits:,} positions; {full.value:.1%} ({full.low:.1%}–"
            f"{full.high:.1%}) are absorbed by one other latent."
        )
    )
    if found.fit < 2 * found.chance_fit:
        st.info("It fits none of these concepts well, so its exceptions say little.")
    silent = found.tokens[found.tokens["fires"] < 0.5]
    left, right = st.columns([3, 2])
    with left:
        _tokens(silent, ["fires", "full"], key="absorption_exceptions_table")
    with right:
        _latents(selection, entry, found.absorbers, key="absorption_exceptions_latents")
    downloads.table(
        lambda: found.tokens,
        f"{entry.release}-{entry.sae_id}-{found.latent}-exceptions",
        key="absorption_exceptions_file",
        what="Exceptions",
    )


def widths(selection: Selection, entry: SaeEntry, found: "Mapping[str, AbsorptionFound]") -> None:
    """Mean absorption against width."""
    from core.absorption import figures
    from core.absorption.tables import width_table

    table = width_table(found)
    if not table["concepts"].iloc[0]:
        st.info("The model has none of these concepts, so there is nothing to compare.")
        return
    drawing = figures.width_figure(table, chosen=entry.sae_id)
    plots.draw(drawing, key="absorption_widths", config=_PLOT)
    st.caption(
        f"Mean over {table['concepts'].iloc[0]} concepts that the model has; intervals by drawing "
        "concepts with replacement."
    )
    shown = _COLUMNS | {"splits": st.column_config.NumberColumn("own latents", format="%.1f")}
    st.dataframe(table, hide_index=True, key="absorption_widths_table", column_config=shown)
    name = f"{entry.release}-absorption-by-width"
    with st.container(horizontal=True, gap="small"):
        downloads.table(lambda: table, name, key="absorption_widths_file", what="Widths")
        downloads.figure(drawing, name, title=name, key="absorption_widths_page", what="Widths")


def _sentence(result: "ConceptResult") -> str:
    tokens = result.tokens
    fires = int((tokens["fires"] >= 0.5).sum())
    taken = tokens[tokens["full"] >= 0.5]
    said = f"Its own latents fire on {fires:,} of {len(tokens):,} tokens"
    if len(taken) == 0:
        return said + "; no token is absorbed."
    some = [
        f"{it['text']!r} → latent {int(it['absorber'])}"
        for it in taken.head(_NAMED).to_dict("records")
    ]
    more = "…" if len(taken) > _NAMED else ""
    return f"{said}; absorbed: {', '.join(some)}{more}"


def _tokens(table: "pd.DataFrame", shares: list[str], *, key: str) -> None:
    """Tokens (or texts) of a concept; who absorbs none stands blank."""
    shown = table[["text", "n", "score", *shares, "absorber"]].assign(
        text=table["text"].map(visible_token),
        absorber=table["absorber"].where(table["absorber"] >= 0),
    )
    st.dataframe(shown, hide_index=True, height=260, key=key, column_config=_COLUMNS)


def _latents(selection: Selection, entry: SaeEntry, table: "pd.DataFrame", *, key: str) -> None:
    """Absorbing latents; a click on one selects it."""

    def chosen(line: int) -> None:
        view_state.choose(replace(selection, latent=int(table["latent"].iloc[line])))

    if len(table) == 0:
        st.caption("None.")
        return
    tables.clickable(
        table,
        chosen,
        key=key,
        column_config=_COLUMNS,
        height=220,
    )
    st.caption("A click on a line chooses that latent.")
