"""The prompt tab: paste a text, see which latents matter in it, and go to each."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.view.latent.example_html import STYLE, ExampleRow, rows_html
from core.view.markup import escape_markdown, visible_token
from core.view.selection import Selection
from pages.parts import downloads, errors, latent_links, work
from pages.parts.latent import index, known
from pages.parts.latent import state as page
from pages.parts.page_state import PageState
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    import pandas as pd

    from core.prompt_latents import AblationEffects
    from core.view.latent.prompt import Distributions, PromptRead, PromptView

_TEXT, _BY, _N = "prompt_text", "prompt_by", "prompt_ablated"
_MOST_LISTED = 200
_PER_TOKEN = 5


def draw(selection: Selection, entry: SaeEntry) -> None:
    """The tab; the selection must be loaded."""
    from core.view.latent.prompt import LINK, PROPOSED, read_prompt

    state = PageState("prompt", LINK)
    view = state.begin()
    for problem in state.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    _controls(view, state)
    text = view.text or PROPOSED
    if not text.strip():
        st.caption("Paste a text above to see which latents are active in it.")
        return
    with errors.shown_plainly():
        read = read_prompt(resources.engine(), selection, text)
        if read.omitted:
            st.warning(
                f"The last {read.omitted:,} tokens are left out: at most {len(read.tokens):,} are "
                "read at a time.",
                icon=":material/content_cut:",
            )
        for note in read.notes:
            st.caption(escape_markdown(note))
        if len(read.active.value) == 0:
            st.info("No latent of this SAE is active anywhere in this text.")
            return
        quantiles = None
        if view.by == "quantile":
            quantiles = _distributions(selection, entry)
            if quantiles is None and known.being_made():
                return  # its progress stands in the place of the tables
        effects = _effects(selection, entry, read, text, view) if view.by == "effect" else None
        if view.token > read.n_tokens:
            view = replace(view, token=0)
        _columns(selection, entry, read, view, state, quantiles, effects)


def _controls(view: "PromptView", state: "PageState[PromptView]") -> None:
    from core.view.latent.prompt import MOST_ABLATED, MOST_CHARACTERS, ORDERS, PROPOSED

    st.session_state[_TEXT] = view.text or PROPOSED
    st.session_state[_BY], st.session_state[_N] = view.by, view.ablated
    st.text_area(
        "Text",
        key=_TEXT,
        height=120,
        max_chars=MOST_CHARACTERS,
        on_change=lambda: state.change(text=st.session_state[_TEXT] or " ", token=0),
        help="Press Ctrl+Enter (⌘+Enter on a Mac), or click elsewhere, to run it.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Rank latents by",
            list(ORDERS),
            format_func=ORDERS.__getitem__,
            key=_BY,
            on_change=lambda: state.change(by=st.session_state[_BY] or view.by),
            help="Activation: how strongly it is active. Strength for this latent: the share of "
            "its own activations, in the text that the dashboard is made from, that are weaker. "
            "Effect on the prediction: how much worse the model predicts the text when that latent "
            "alone is taken out of the activations and everything else stays.",
        )
        if view.by == "effect":
            st.number_input(
                "Latents to remove",
                1,
                MOST_ABLATED,
                key=_N,
                width=170,
                on_change=lambda: state.change(ablated=int(st.session_state[_N])),
                help="The most active ones, each in a run of its own.",
            )


def _distributions(selection: Selection, entry: SaeEntry) -> "Distributions | None":
    from core.view.latent.prompt import distributions

    opened = index.opened(selection, entry, page.current())
    if opened is None and known.being_made():
        return None
    if opened is None:
        st.caption(
            "How strong an activation is for its latent is known once a text was read with this "
            "SAE. Until then, latents are ranked by activation."
        )
        st.button(
            "Choose a text to read, on the dashboard",
            key="prompt_to_index",
            icon=":material/menu_book:",
            on_click=lambda: page.change(tab="dashboard"),
        )
        return None
    return distributions(resources.store(), opened)


def _effects(
    selection: Selection, entry: SaeEntry, read: "PromptRead", text: str, view: "PromptView"
) -> "AblationEffects | None":
    from core.view.latent.prompt import LINK, ablate, ablation_key

    engine = resources.engine()
    parameters = {"tab": "prompt", **LINK.to_parameters(view)}
    return work.result(
        ablation_key(selection, entry.version, text, view.ablated),
        f"Removing {view.ablated} latents one by one",
        lambda progress: ablate(engine, selection, read, view.ablated, progress),
        link=latent_links.address("latent", selection, **parameters),
    )


def _columns(
    selection: Selection,
    entry: SaeEntry,
    read: "PromptRead",
    view: "PromptView",
    state: "PageState[PromptView]",
    quantiles: "Distributions | None",
    effects: "AblationEffects | None",
) -> None:
    from core.view.latent.prompt import latents_table, ranked

    if view.by == "effect" and effects is None:
        reserve_room(200)
    table = ranked(
        latents_table(read, position=view.token, known=quantiles, effects=effects), view.by
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _heading(read, view, state, len(table))
        _table(selection, entry, table, view)
        downloads.table(lambda: table, "latents-in-prompt", key="prompt_table")
    with right:
        _chosen(selection, read, effects)
    _tokens(read, view, state, quantiles)


def _heading(
    read: "PromptRead", view: "PromptView", state: "PageState[PromptView]", n: int
) -> None:
    if not view.token:
        st.markdown(f"**{n:,} latents are active in the text**")
        return
    token = escape_markdown(visible_token(read.tokens[read.place(view.token)]))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{n:,} latents are active at token {view.token}, “{token}”**")
        st.button(
            "Whole text",
            key="prompt_whole",
            icon=":material/close:",
            on_click=lambda: state.change(token=0),
        )


def _table(
    selection: Selection, entry: SaeEntry, table: "pd.DataFrame", view: "PromptView"
) -> None:
    from pages.parts.latent.tables import choosable

    shown = table.head(_MOST_LISTED)
    targets = [replace(selection, latent=int(it)) for it in shown["latent"]]
    drawn = shown.assign(
        token=[visible_token(it) for it in shown["token"]],
        quantile=100 * shown["quantile"],
    )
    names = ["latent", "activation", "token", "position", "n_tokens"]
    names[1:1] = [view.by] if view.by != "activation" else []
    opened = known.opened(selection, entry)
    texts = None if opened is None else known.descriptions(opened)
    if texts is not None:
        drawn["description"] = [texts[it] for it in shown["latent"]]
        names.append("description")
    number = st.column_config.NumberColumn
    where = "of the token after it" if view.token else "of a token, on average over the text"
    choosable(
        drawn[names],
        targets,
        key=f"prompt_latents_{view.by}_{view.token}",
        height=420,
        columns={
            "activation": number(format="%.3f", help="Largest activation."),
            "token": st.column_config.TextColumn(
                "strongest at", help="␣ is a space and ↵ a line break."
            ),
            "position": number("at token", format="%d", width="small"),
            "n_tokens": number(
                "tokens", format="%d", width="small", help="Tokens of the text it is active at."
            ),
            "quantile": number(
                "stronger than",
                format="%.1f %%",
                help="Share of this latent's own activations that are weaker, in the text that the "
                "dashboard is made from.",
            ),
            "effect": number(
                "loss without it",
                format="%+.4f",
                help=f"How much the loss {where} goes up without it, in nats; below 0 where the "
                "model predicts better. Empty where it was not measured.",
            ),
        },
    )
    if len(table) > len(shown):
        st.caption(f"The first {len(shown)} of {len(table):,} are listed; the file has all.")


def _chosen(selection: Selection, read: "PromptRead", effects: "AblationEffects | None") -> None:
    latent = selection.latent
    values = read.active.of(latent) if latent < read.d_sae else None
    st.html(STYLE)
    st.markdown(f"**Latent {latent} in this text**")
    if values is None or not values.any():
        st.caption("It is not active anywhere in it. Click a line of the table to choose another.")
    else:
        st.caption("Shaded by its activation; point at a token for the value.")
    if values is not None:
        row = ExampleRow.from_parts(read.parts[read.n_leading :], values[read.n_leading :].tolist())
        with st.container(border=True):
            st.html(rows_html([row], strongest=float(values.max()), break_lines=True))
    if effects is not None and latent in effects.latents:
        line = effects.increase[effects.latents.tolist().index(latent)]
        st.caption(
            "Shaded where the model predicts the token worse without it; values in nats, below 0 "
            "where it predicts better."
        )
        # Where nothing stands in front of the text, its first token is not predicted.
        unknown = [float("nan")] * (1 - read.n_leading)
        harm = ExampleRow.from_parts(read.parts[read.n_leading :], [*unknown, *line.tolist()])
        with st.container(border=True):
            st.html(
                rows_html([harm], strongest=float(max(line.max(initial=0), 1e-9)), break_lines=True)
            )
    st.button(
        f"Open the dashboard of latent {latent}",
        key="prompt_dashboard",
        icon=":material/dashboard:",
        on_click=lambda: page.change(tab="dashboard"),
    )


def _tokens(
    read: "PromptRead",
    view: "PromptView",
    state: "PageState[PromptView]",
    quantiles: "Distributions | None",
) -> None:
    from core.view.latent.prompt import strongest_per_token

    st.markdown("**Strongest latents at each token**")
    st.caption("Click a line to list all latents that are active at that token.")
    table = strongest_per_token(read, k=_PER_TOKEN, known=quantiles, by=view.by)

    def chosen() -> None:
        event: Any = st.session_state["prompt_tokens"]
        lines = event.selection["rows"]
        state.change(token=int(table["position"].iloc[lines[0]]) if lines else 0)

    by = "strength" if view.by == "quantile" and quantiles is not None else "activation"
    st.dataframe(
        table.assign(token=[visible_token(it) for it in table["token"]]),
        hide_index=True,
        key="prompt_tokens",
        on_select=chosen,
        selection_mode="single-row",
        height=min(38 + 35 * len(table), 500),
        column_config={
            "position": st.column_config.NumberColumn("number", width="small"),
            "token": st.column_config.TextColumn(width="small"),
            "active": st.column_config.NumberColumn("active latents", width="small"),
            "latents": st.column_config.ListColumn(f"strongest, with {by}", width="large"),
        },
    )
