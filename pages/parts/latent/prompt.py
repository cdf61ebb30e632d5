"""The prompt tab: paste a text, see which latents matter in it, and go to each."""

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.latent.examples import STYLE, ExampleRow
from core.latent.view import (
    LEAST_EFFECT,
    MOST_CHARACTERS,
    PROMPT_LINK,
    PromptView,
)
from core.view.markup import escape_markdown, n_of, visible_token
from core.view.selection import Selection
from pages.parts import (
    downloads,
    errors,
    following,
    job_results,
    latent_links,
    people,
    tables,
    token_rows,
)
from pages.parts.latent import elsewhere, index, prompt_controls
from pages.parts.latent import session as page
from pages.parts.latent.session import draw_clickable_table
from pages.parts.page_state import PageState
from pages.parts.polling import reserve_room

if TYPE_CHECKING:
    import pandas as pd

    from core.prompt_latents.ablation import AblationEffects
    from core.prompt_latents.active import PromptRead
    from core.prompt_latents.ranking import Distributions

_PROPOSED = (
    "Return the mean of the array elements along the given axis. If the input contains integers, "
    "the result is computed in float64."
)
_MOST_LISTED = 200
_PER_TOKEN = 5


def draw(selection: Selection, entry: SaeEntry) -> None:
    """The tab; the selection must be loaded."""
    from core.prompt_latents.active import read_prompt

    state = PageState("prompt", PROMPT_LINK)
    view = following.follow("prompt", state, state.begin(), "text", most=MOST_CHARACTERS)
    for problem in state.problems():
        st.warning(escape_markdown(problem), icon=":material/link_off:")
    prompt_controls.draw(view, state, proposed=_PROPOSED)
    text = view.text or _PROPOSED
    if not text.strip():
        st.caption("Paste a text above to see which latents are active in it.")
        return
    with errors.shown_plainly():
        people.require_text(text, _PROPOSED)
        read = read_prompt(job_results.lease(selection), text)
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
            if quantiles is None and index.any_being_made():
                return  # its progress stands in the place of the tables
        effects = _effects(selection, entry, read, text, view) if view.by == "effect" else None
        if view.token > read.n_tokens:
            view = replace(view, token=0)
        _columns(selection, entry, read, view, state, quantiles, effects)


def _distributions(selection: Selection, entry: SaeEntry) -> "Distributions | None":
    from core.prompt_latents.ranking import distributions

    opened = index.open_index(selection, entry, page.current())
    if opened is None and index.any_being_made():
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
            on_click=page.open_dashboard,
        )
        return None
    return distributions(resources.store(), opened)


def _effects(
    selection: Selection, entry: SaeEntry, read: "PromptRead", text: str, view: PromptView
) -> "AblationEffects | None":
    from core.prompt_latents.ablation import ablate, ablation_key

    n, parameters = view.ablated, {"tab": "prompt", **PROMPT_LINK.to_parameters(view)}
    return job_results.result(
        ablation_key(selection.model, selection.sae, entry.version, text, n),
        f"Removing {n_of(n, 'latent')} one by one",
        lambda progress: ablate(job_results.lease(selection, progress=progress), read, n),
        link=latent_links.address("latent", selection, **parameters),
    )


def _columns(
    selection: Selection,
    entry: SaeEntry,
    read: "PromptRead",
    view: PromptView,
    state: PageState[PromptView],
    quantiles: "Distributions | None",
    effects: "AblationEffects | None",
) -> None:
    from core.prompt_latents.ranking import latents_table, ranked

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
        _chosen(selection, read, effects, view.text or _PROPOSED)
    _tokens(read, view, state, quantiles)


def _heading(read: "PromptRead", view: PromptView, state: PageState[PromptView], n: int) -> None:
    active = f"{n_of(n, 'latent')} {'is' if n == 1 else 'are'} active"
    if not view.token:
        st.markdown(f"**{active} in the text**")
        return
    token = escape_markdown(visible_token(read.tokens[read.place(view.token)]))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{active} at token {view.token}, “{token}”**")
        st.button(
            "Whole text",
            key="prompt_whole",
            icon=":material/close:",
            on_click=lambda: state.change(token=0),
        )


def _table(selection: Selection, entry: SaeEntry, table: "pd.DataFrame", view: PromptView) -> None:
    shown = table.head(_MOST_LISTED)
    targets = [replace(selection, latent=int(latent)) for latent in shown["latent"]]
    drawn = shown.assign(
        token=[visible_token(token) for token in shown["token"]],
        quantile=100 * shown["quantile"],
    )
    names = ["latent", "activation", "token", "position", "n_tokens"]
    names[1:1] = [view.by] if view.by != "activation" else []
    opened = index.open_if_made(selection, entry)
    texts = None if opened is None else index.offline_texts(opened)
    if texts is not None:
        drawn["description"] = [texts[latent] for latent in shown["latent"]]
        names.insert(names.index("position"), "description")
    number = st.column_config.NumberColumn
    where = "of the token after it" if view.token else "of a token, on average over the text"
    draw_clickable_table(
        drawn[names],
        targets,
        key=f"prompt_latents_{view.by}_{view.token}",
        height=420,
        columns={
            # Half of the page has room for what is said, and for what tells latents apart here.
            "latent": number(format="%d", width=62),
            "description": st.column_config.TextColumn(width=222),
            "activation": number(format="%.3f", width=78, help="Largest activation."),
            "token": st.column_config.TextColumn(
                "strongest at", width=92, help="␣ is a space and ↵ a line break."
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


def _chosen(
    selection: Selection, read: "PromptRead", effects: "AblationEffects | None", text: str
) -> None:
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
            token_rows.draw([row], strongest=float(values.max()), break_lines=True)
    if effects is not None and latent in effects.latents:
        line = effects.increase[effects.latents.tolist().index(latent)]
        st.caption(
            "Without it the model predicts what is orange worse and what is blue better; values in "
            f"nats. Below {LEAST_EFFECT:g} nats nothing is shaded, nor before it first fires."
        )
        # Where nothing stands in front of the text, its first token is not predicted.
        unknown = [float("nan")] * (1 - read.n_leading)
        harm = ExampleRow.from_parts(read.parts[read.n_leading :], [*unknown, *line.tolist()])
        with st.container(border=True):
            token_rows.draw_effects(harm, least=LEAST_EFFECT)
    st.button(
        f"Open the dashboard of latent {latent}",
        key="prompt_dashboard",
        icon=":material/dashboard:",
        on_click=page.open_dashboard,
    )
    title = "This latent and text elsewhere"
    with st.expander(title, icon=":material/open_in_new:", key="prompt_elsewhere"):
        elsewhere.draw(selection, here="latent", typed=text)


def _tokens(
    read: "PromptRead",
    view: PromptView,
    state: PageState[PromptView],
    quantiles: "Distributions | None",
) -> None:
    from core.prompt_latents.ranking import strongest_per_token

    st.markdown("**Strongest latents at each token**")
    st.caption("Click a line to list all latents that are active at that token.")
    table = strongest_per_token(read, k=_PER_TOKEN, known=quantiles, by=view.by)

    by = "strength" if view.by == "quantile" and quantiles is not None else "activation"
    tables.clickable(
        table.assign(token=[visible_token(token) for token in table["token"]]),
        lambda line: state.change(token=int(table["position"].iloc[line])),
        on_none=lambda: state.change(token=0),
        key="prompt_tokens",
        height=min(38 + 35 * len(table), 500),
        column_config={
            "position": st.column_config.NumberColumn("number", width="small"),
            "token": st.column_config.TextColumn(width="small"),
            "active": st.column_config.NumberColumn("active latents", width="small"),
            "latents": st.column_config.ListColumn(f"strongest, with {by}", width="large"),
        },
    )
