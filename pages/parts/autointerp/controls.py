"""Which latents, who explains, who judges, with which settings, and on which text."""

import streamlit as st

from core.autointerp.view import (
    FIRST,
    LIMITS,
    SCORES,
    SWITCHES,
    AutointerpView,
    read_latents,
    write_latents,
)
from core.catalog.entries import SaeEntry
from core.view.corpora import parse_corpus, title_of
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import action, errors, text_choice
from pages.parts.autointerp import VIEW
from pages.parts.latent import index, text_to_read
from pages.parts.latent import session as latent_session
from pages.parts.page_state import show

_CHOICES = {"random": "Random latents that fire", "list": "A list", "this": "This latent"}
_EXPLAINERS = {
    "words": "Words of the examples (offline)",
    "chat": "A chat model",
    "scope": "The model itself (patch scoping)",
}
_JUDGES = {"words": "Matching words (offline)", "chat": "A chat model"}
_SWITCHES = {
    "quantiles": ("Weak examples as well", "Show examples of all strengths, not the strongest."),
    "boosted": ("Boosted tokens", "Tell which next tokens the latent makes likelier."),
    "strengths": ("Strengths", "Give each marked token its activation, from 1 to 10."),
    "kinds": (
        "Kinds of latents",
        "Tell what latents of tokens, word parts and concepts look like.",
    ),
    "thoughts": ("Let it think first", "Ask for thoughts before the explanation; costs more."),
    "same-token": ("Same token, silent", "Show texts with the same tokens but no activation."),
    "neighbours": ("Neighbours' examples", "Show texts on which only similar latents fire."),
    "changed": (
        "Tokens that change",
        "Tell which tokens come more often when the latent is amplified in other texts.",
    ),
}
_SCORES = {
    "fuzzing": ("Right tokens (fuzzing)", "Tell right marks in a text from wrong ones."),
    "neighbours": ("Neighbours", "Tell the latent's examples from those of similar latents."),
    "generation": ("New texts", "A chat model writes texts that should fire; the model is run."),
    "revision": ("Revise", "Show the explainer the new texts that failed, and score again."),
    "simulation": ("Simulation", "Predict every token's activation; needs log-probabilities."),
    "output": (
        "Steered texts",
        "Tell the texts written with this latent made stronger from those of two others; chance is "
        "one in three.",
    ),
}
_OFFLINE = ("fuzzing", "neighbours", "output")
"""Scores that matching words can give as well."""
_DRAW = {
    "n_random": ("How many", "Latents that fire on the text, drawn at random from all."),
    "draw": ("Random seed", "The same seed draws the same latents; another one draws others."),
}
_NUMBERS = {
    "n_top_ex_for_generation": ("Examples to explain with", "The latent's strongest ones."),
    "n_top_ex_for_scoring": ("Strong examples to score with", "Others than those shown."),
    "n_random_ex_for_scoring": ("Random examples to score with", "Labelled by real activations."),
    "buffer": ("Tokens on either side", "Of the middle of each example."),
    "total_tokens": ("Tokens of text", "How much text is searched for examples."),
    "max_tokens_in_explanation": ("Tokens of an explanation", "For chat models."),
    "thinking_tokens": (
        "Room to think",
        "Tokens that a chat model may think before each answer; the answer comes on top. Costs "
        "what is used.",
    ),
    "seed": ("Seed of the examples", "Of random examples, the split into two sets, and controls."),
}


def draw(view: AutointerpView, selection: Selection) -> None:
    """The controls above the run."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        _menu("choose", "Latents", _CHOICES, width=240)
        _latents(view, selection)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        _menu("explainer", "Explained by", _EXPLAINERS)
        _menu("judge", "Judged by", _JUDGES, width=240)
        st.toggle(
            "Controls",
            help="Do the same to neurons, random directions and an SAE with random weights. A "
            "score says something only beside theirs.",
            **VIEW.widget("ai_controls", "controls"),
        )
        with st.popover("Settings", icon=":material/tune:"):
            _settings(view)
    _switches(view)


def _menu(name: str, label: str, options: dict[str, str], width: int = 300) -> None:
    st.selectbox(
        label,
        format_func=options.__getitem__,
        width=width,
        **VIEW.menu(f"ai_{name}", name, list(options)),
    )


def _latents(view: AutointerpView, selection: Selection) -> None:
    if view.choose == "random":
        for name, (label, note) in _DRAW.items():
            low, high = LIMITS[name]
            st.number_input(
                label, low, high, width=150, help=note, **VIEW.widget(f"ai_{name}", name)
            )
    elif view.choose == "list":
        listed = write_latents(view.latents).replace(",", ", ")
        show("ai_latents", listed)
        st.text_input(
            "Latents",
            listed,
            key="ai_latents",
            placeholder="3, 7, 10-14",
            on_change=_list_changed,
            width=420,
            help="Numbers and ranges, with commas between them.",
        )
        problem = st.session_state.pop("ai_list_problem", None)
        if problem:
            st.warning(escape_markdown(problem))
    else:
        st.caption(f"Latent {selection.latent}, as chosen on the left.")


def _list_changed() -> None:
    try:
        VIEW.change(latents=read_latents(st.session_state["ai_latents"]))
    except ValueError as error:
        st.session_state["ai_list_problem"] = f"The list cannot be used: {error}"
        action.refuse()


def _switches(view: AutointerpView) -> None:
    """What can be switched on, as far as it makes a difference with these two."""
    asks = "chat" in (view.explainer, view.judge)
    switches = SWITCHES if view.explainer == "chat" else ("quantiles",)
    scores = [name for name in SCORES if asks or name in _OFFLINE]
    if view.explainer != "chat":
        scores = [name for name in scores if name != "revision"]
    # Eight pills fill a row of their own.
    with st.container(horizontal=view.explainer != "chat", gap="medium"):
        if view.explainer != "scope":
            _pills("switches", "Also show the explainer", switches, _SWITCHES, view.switches)
        _pills("scores", "Also score by", scores, _SCORES, view.scores)


def _pills(
    name: str, label: str, offered: object, titles: dict[str, tuple[str, str]], on: tuple[str, ...]
) -> None:
    key = f"ai_{name}"
    options = list(offered)  # type: ignore[call-overload]
    chosen = [option for option in on if option in options]
    st.session_state[key] = chosen
    notes = "  \n".join("**{}**: {}".format(*titles[option]) for option in options)
    st.pills(
        label,
        options,
        format_func=lambda option: titles[option][0],
        selection_mode="multi",
        default=chosen,
        key=key,
        on_change=_pills_changed,
        args=(name, tuple(options), on),
        help=notes,
    )


def _pills_changed(name: str, offered: tuple[str, ...], before: tuple[str, ...]) -> None:
    chosen = {*st.session_state[f"ai_{name}"]} | ({*before} - {*offered})
    if name == "scores" and "revision" in chosen:
        chosen.add("generation")
    order = SWITCHES if name == "switches" else SCORES
    VIEW.change(**{name: tuple(option for option in order if option in chosen)})


def _settings(view: AutointerpView) -> None:
    for name in (*_NUMBERS, "act_threshold_frac", "no_overlap", *_FLAGS):
        show(f"ai_{name}", getattr(view, name))
    with st.form("ai_settings", border=False):
        left, right = st.columns(2)
        for number, (name, (label, note)) in enumerate(_NUMBERS.items()):
            low, high = LIMITS[name]
            step = {"total_tokens": 10_000, "thinking_tokens": 500}.get(name, 1)
            column = right if number % 2 else left
            column.number_input(
                label, low, high, step=step, value=getattr(view, name), key=f"ai_{name}", help=note
            )
        right.number_input(
            "Active above",
            0.0,
            0.99,
            step=0.01,
            value=view.act_threshold_frac,
            key="ai_act_threshold_frac",
            help="Share of the latent's strongest activation above which a token counts as active.",
        )
        st.toggle(
            "Strongest examples must lie apart",
            value=view.no_overlap,
            key="ai_no_overlap",
            help="By more than the tokens on either side, in one text.",
        )
        st.toggle(
            "Quote three explanations in the prompt",
            value=view.use_examples_in_explanation_prompt,
            key="ai_use_examples_in_explanation_prompt",
            help="For chat models.",
        )
        st.form_submit_button("Apply", type="primary", on_click=_settings_applied)
    st.button("Back to the defaults", on_click=_defaults, key="ai_defaults")


_FLAGS = ("use_examples_in_explanation_prompt",)
_APPLIED = (*_NUMBERS, "act_threshold_frac", "no_overlap", *_FLAGS)


def _settings_applied() -> None:
    VIEW.change(**{name: st.session_state[f"ai_{name}"] for name in _APPLIED})


def _defaults() -> None:
    VIEW.change(**{name: getattr(FIRST, name) for name in _APPLIED})


def text(view: AutointerpView, selection: Selection, entry: SaeEntry) -> None:
    """What is read, in a line, with the menu that changes it."""
    title = escape_markdown(title_of(parse_corpus(view.corpus)))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(
            f"Examples come from: {title}, up to {view.total_tokens:,} tokens.", width="content"
        )
        with st.popover("Read another text", icon=":material/menu_book:"):
            _chooser(view, selection, entry)


def _chooser(view: AutointerpView, selection: Selection, entry: SaeEntry) -> None:
    shown = index.resolve_text(selection, entry, latent_session.current()).corpus
    if shown != view.corpus:
        title = escape_markdown(title_of(parse_corpus(shown)))
        st.button(
            f"As on the latent page: {title}",
            icon=":material/history:",
            key="ai_text_latent",
            on_click=lambda: VIEW.change(corpus=shown),
        )
    current = parse_corpus(view.corpus)
    kind = text_choice.choose_kind(current, key="ai_text")
    proposed = text_to_read.dataset_of(selection, entry) if kind == "hub" else ""
    asked = text_choice.ask_details(kind, current, proposed=proposed, key="ai_text")
    st.caption("How much of it is read stands under Settings.")

    if action.clicked("Use this text", key="ai_text_use", type="primary"):
        with errors.shown_plainly():
            VIEW.change(corpus=text_choice.store_choice(kind, asked).text)
            st.rerun()
