"""The attribution tab: which source tokens and heads feed a latent of an attention SAE."""

from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.latent.examples import STYLE, ExampleRow
from core.latent.view import ATTRIBUTION_LINK, MOST_CHARACTERS, MOST_EXAMPLES, AttributionView
from core.view.markup import escape_markdown, visible_token
from core.view.selection import Selection
from pages.parts import downloads, errors, job_results, people, plots, token_rows, typed
from pages.parts.latent import index
from pages.parts.latent.session import text_of_box
from pages.parts.page_state import PageState

if TYPE_CHECKING:
    import pandas as pd

    from core.attribution.on_text import Sources, SourceText

_PROPOSED = (
    "Return the mean of the array elements along the given axis. If the input contains integers, "
    "the mean of the array elements is computed in float64."
)
_TEXT, _EXAMPLE, _TO = "sources_text", "sources_example", "sources_to"


def draw(selection: Selection, entry: SaeEntry) -> None:
    """The tab; the selection must be loaded."""
    from core.attribution.on_text import find_sources, reason_against

    state = PageState("sources", ATTRIBUTION_LINK)
    view = state.begin()
    for problem in state.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    with errors.shown_plainly():
        reason = reason_against(job_results.lease(selection))
        if reason is not None:
            st.info(escape_markdown(reason))
            return
        st.caption(
            "Attention heads carry information from earlier tokens to later ones. What a head "
            "brings to this latent from each token adds up, together with a constant, to the "
            "latent's value before its activation function."
        )
        text = _text(selection, entry, view, state)
        if text is None:
            return
        for note in text.notes:
            st.caption(escape_markdown(note))
        sources = find_sources(
            job_results.lease(selection), selection.latent, text, view.destination
        )
        _drawn(selection, sources, state)


def _text(
    selection: Selection,
    entry: SaeEntry,
    view: AttributionView,
    state: PageState[AttributionView],
) -> "SourceText | None":
    """The text that is looked at: the typed one, or an example."""
    from core.attribution.on_text import typed_text

    examples = _examples(selection, entry)
    if examples:
        names = [0, *range(1, len(examples) + 1)]
        st.selectbox(
            "Text to look at",
            format_func=lambda n: (
                "A text that I type" if n == 0 else f"Strongest example {n}: {examples[n - 1][0]}"
            ),
            **state.menu(
                _EXAMPLE,
                "example",
                names,
                value=view.example if view.example in names else 0,
                destination=0,
            ),
        )
        if 0 < view.example <= len(examples):
            return examples[view.example - 1][1]
    elif view.example > 1:
        st.caption("The examples of the dashboard are not there yet; a typed text is used.")
    typed.area(
        "Text",
        height=100,
        most=MOST_CHARACTERS,
        **state.widget(
            _TEXT, "text", value=view.text or _PROPOSED, read=text_of_box, destination=0
        ),
        help="Press Ctrl+Enter (⌘+Enter on a Mac), or click elsewhere, to run it.",
    )
    text = view.text or _PROPOSED
    if not text.strip():
        st.caption("Type a few words above to see what feeds this latent.")
        return None
    people.require_text(text, _PROPOSED)
    return typed_text(job_results.lease(selection), text)


def _examples(selection: Selection, entry: SaeEntry) -> "list[tuple[str, SourceText]]":
    """(a piece of text, the row it is from) of the latent's strongest examples."""
    opened = index.open_if_made(selection, entry)
    if opened is None:
        return []
    from core.attribution.on_text import strongest_examples

    return strongest_examples(resources.store(), opened, selection.latent, most=MOST_EXAMPLES)


def _drawn(selection: Selection, sources: "Sources", state: PageState[AttributionView]) -> None:
    from core.attribution.figure import sources_figure

    found, n_leading = sources.attribution, sources.text.n_leading
    st.html(STYLE)
    if sources.text.omitted:
        st.warning(
            f"The last {sources.text.omitted:,} tokens are left out: at most "
            f"{len(sources.tokens):,} are read at a time.",
            icon=":material/content_cut:",
        )
    if not sources.activations.any():
        st.caption(
            "The latent is not active in this text; what would feed it is shown all the same."
        )
    row = ExampleRow.from_parts(
        sources.parts[n_leading:],
        sources.activations[n_leading:].tolist(),
        peak=sources.number - 1,
    )
    with st.container(border=True):
        strongest = float(sources.activations.max())
        token_rows.draw([row], strongest=strongest, break_lines=True)
    places = list(range(n_leading, len(sources.tokens)))
    if not places:
        return
    st.selectbox(
        "Token at which the latent is taken apart",
        format_func=lambda place: (
            f"{place - n_leading + 1}: {visible_token(sources.tokens[place])}"
            f"   (activation {sources.activations[place]:.3f})"
        ),
        **state.menu(
            _TO,
            "destination",
            places,
            value=sources.destination,
            read=lambda place: place - n_leading + 1,
        ),
    )
    total = float(found.terms.sum())
    st.markdown(
        (
            f"All heads and tokens together bring **{total:+.3f}**; with a constant of "
            f"{found.bias:+.3f} that makes **{found.pre_activation:+.3f}**."
        ).replace("-", "−")
    )
    if found.rescaled_by != 1:
        st.caption(
            "This SAE multiplies that by the length of the latent's decoder row "
            f"({found.rescaled_by:.3f}) before its activation function."
        )
    if found.holds_norm:
        st.caption(
            "The model normalises what this layer adds; the scale that it has at this token is "
            "held, as where the heads look is."
        )
    figure = sources_figure(sources)
    plots.draw(figure, key="sources_chart", config={"displayModeBar": False})
    st.caption(
        "Red feeds the latent, blue works against it. Where heads look is taken as it is; what "
        "made them look there is not part of this. "
        + (
            "The first token stands in front of every text, and heads rest on it when they have "
            "nothing to fetch."
            if n_leading
            else "Heads often rest on the first token when they have nothing to fetch."
        )
    )
    name = f"sources-of-latent-{selection.latent}"
    downloads.table(lambda: _table(sources), name, key="sources_table")
    downloads.figure(figure, name, title="Sources of a latent", key="sources_figure")


def _table(sources: "Sources") -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    found = sources.attribution
    heads, places = np.indices(found.terms.shape)
    return pd.DataFrame(
        {
            "head": heads.ravel(),
            "token_number": places.ravel(),
            "token": [sources.tokens[place] for place in places.ravel()],
            "brings": found.terms.numpy().ravel(),
            "attention": found.pattern.numpy().ravel(),
        }
    )
