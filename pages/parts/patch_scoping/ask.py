"""What is asked: the model that explains, the question, the layers, the scales, the sampling."""

from collections.abc import Sequence
from typing import Literal

import streamlit as st

from core.catalog.entries import ModelEntry
from core.patch_scoping.view import (
    DEFAULT_SCALES,
    OWN,
    QUESTIONS,
    ScopeView,
    parse_scales,
)
from core.view.choices import distinct_labels
from pages.parts import action, typed
from pages.parts.page_state import show
from pages.parts.patch_scoping import VIEW

_QUESTIONS = {
    "definition": "What does it mean?",
    "repeat": "Repeat it four times",
    "few words": "Describe it in a few words",
    "free": "What comes to mind?",
    OWN: "A question of my own",
}
_UNITS = {"typical": "× typical norm", "absolute": "as norms"}
_CHOICES = {
    "auto": "Automatic",
    "surest": "Text the model is surest of",
    "likeliest": "Likeliest text",
    "combined": "Combined score of the scale",
    "agreed": "Text that the others agree with",
}
CHOICE_WORDS = {
    "surest": "the text whose words the model is surest of",
    "likeliest": "the likeliest text as a whole",
    "combined": "the text at the scale with the best combined score",
    "agreed": "the text that those at the other scales agree with most",
}
"""How a way of choosing is explained under the text that it chose."""
_SAMPLING = ("temperature", "top_p", "penalty", "samples", "seed", "new_tokens")


def draw(
    speakers: Sequence[ModelEntry],
    speaker: str,
    view: ScopeView,
    *,
    layers: Sequence[int],
    n_layers: int | None,
) -> None:
    """The rows of widgets above the answer; `n_layers` is None until the model is loaded."""
    titles = distinct_labels(
        {model.name: _title(model) for model in speakers},
        {model.name: model.name for model in speakers},
    )
    left, middle, right = st.columns([2, 2, 3])
    with left:
        _select("Model that explains", titles, "speaker", speaker, help=_SPEAKER_HELP)
    with middle:
        _select(
            "Question", {name: _QUESTIONS[name] for name in QUESTIONS}, "template", view.template
        )
    with right:
        _layers(layers, n_layers)
    if view.template == OWN:
        _own()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        show("scope_scales", view.scales)
        st.text_input(
            "Scales",
            value=view.scales,
            key="scope_scales",
            on_change=_scales_typed,
            help='How strongly the latent is put in: a list such as "0.5 1 2", or a range such as '
            '"0 to 3 in 7" (seven scales from 0 to 3).',
            width=220,
        )
        st.segmented_control(
            "Scales are given",
            list(_UNITS),
            required=True,
            format_func=_UNITS.__getitem__,
            help="The typical norm is the median length of the vectors that the model itself has "
            "at this place of the prompt.",
            **VIEW.choices("scope_unit", "unit"),
        )
        _select("Best text", _CHOICES, "choose", view.choose, help=_CHOOSE_HELP, width=240)
        with st.popover("Sampling", icon=":material/tune:"):
            _sampling(view)
    problem = st.session_state.pop("scope_scales_problem", None)
    if problem:
        st.warning(problem, icon=":material/edit:")


_SPEAKER_HELP = (
    "The latent is put into a question to this model. A model tuned to follow instructions answers "
    "better; the SAE may belong to the model that it was tuned from."
)
_CHOOSE_HELP = (
    "Which of the texts stands above the table. Automatic: the likeliest text on the demo, whose "
    "model was tuned to answer this question; elsewhere the combined score of the authors of this "
    "method, 0.4 × self-similarity - 0.6 × cross-entropy, each spread from 0 to 1 over the scales."
)


def _title(model: ModelEntry) -> str:
    name = model.title if model.source == "user" else model.name  # of a folder, not all its path
    return f"{name} (tuned)" if model.base_model else f"{name} (base model)"


def _select(
    label: str,
    titles: dict[str, str],
    field: str,
    chosen: str,
    *,
    help: str | None = None,
    width: int | Literal["stretch"] = "stretch",
) -> None:
    st.selectbox(
        label,
        format_func=lambda name: titles.get(name, name),
        help=help,
        width=width,
        **VIEW.menu(f"scope_{field}", field, list(titles), value=chosen),
    )


def _layers(layers: Sequence[int], n_layers: int | None) -> None:
    st.session_state["scope_layers"] = list(layers)
    st.multiselect(
        "Put in before layer",
        range(n_layers) if n_layers else list(layers),
        default=list(layers),
        key="scope_layers",
        on_change=_layers_chosen,
        disabled=n_layers is None,
        help="The latent's direction takes the place of the word before this layer, counted from "
        "0. Early layers read best; several can be compared.",
    )


def _layers_chosen() -> None:
    chosen = tuple(sorted(st.session_state["scope_layers"]))
    if chosen:
        VIEW.change(layers=chosen)


def _own() -> None:
    left, right = st.columns(2)
    typed.area(
        "Your question, with {X} where the latent stands",
        height=80,
        most=2000,
        placeholder="What is {X} used for?",
        **VIEW.widget("scope_prompt", "prompt"),
        place=left,
    )
    typed.area(
        "The beginning of the answer (may be empty)",
        height=80,
        most=2000,
        placeholder='"{X}" is used for "',
        help="If it ends with a quotation mark, so does the text.",
        **VIEW.widget("scope_prefill", "prefill"),
        place=right,
    )


def _scales_typed() -> None:
    text = st.session_state["scope_scales"].strip() or DEFAULT_SCALES
    try:
        parse_scales(text)
    except ValueError as error:
        st.session_state["scope_scales_problem"] = str(error)
        action.refuse()
        return
    VIEW.change(scales=" ".join(text.split()))


def _sampling(view: ScopeView) -> None:
    for name in _SAMPLING:
        show(f"scope_{name}", getattr(view, name))
    with st.form("scope_sampling", border=False):
        left, right = st.columns(2)
        left.number_input(
            "Temperature",
            0.0,
            10.0,
            step=0.1,
            value=view.temperature,
            key="scope_temperature",
            help="0 takes the likeliest token each time.",
        )
        right.number_input(
            "Top-p",
            0.01,
            1.0,
            step=0.05,
            value=view.top_p,
            key="scope_top_p",
            help="Tokens are drawn from the likeliest ones that together have this probability.",
        )
        left.number_input(
            "Frequency penalty",
            -10.0,
            10.0,
            step=0.5,
            value=view.penalty,
            key="scope_penalty",
            help="Taken off the score of a token for each time it was used in the text already.",
        )
        right.number_input(
            "Texts a scale",
            1,
            20,
            value=view.samples,
            key="scope_samples",
            help="With temperature 0 all of them are the same.",
        )
        left.number_input(
            "Seed",
            0,
            2**31 - 1,
            value=view.seed,
            key="scope_seed",
            help="The same seed gives the same texts.",
        )
        right.number_input(
            "Longest text (tokens)", 1, 500, value=view.new_tokens, key="scope_new_tokens"
        )
        st.form_submit_button("Apply", type="primary", on_click=_sampling_applied)


def _sampling_applied() -> None:
    VIEW.change(**{name: st.session_state[f"scope_{name}"] for name in _SAMPLING})
