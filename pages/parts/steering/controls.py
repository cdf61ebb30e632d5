"""What is steered: prompt, latents, mode, strengths, place, and how texts are drawn."""

import streamlit as st

from core.patch_scoping.view import parse_scales
from core.steering.intervention import MODES, PLACES
from core.steering.view import DEFAULT_UNIT, UNITS, SteerView, default_strengths, fits
from core.view.selection import Selection
from pages.parts import action, following, typed
from pages.parts.page_state import options_of, show
from pages.parts.steering import VIEW

_SAMPLING = ("temperature", "top_p", "penalty", "samples", "seed", "new_tokens", "randoms")
_MODE_HELP = (
    "Add: so many units of the latent are added. Set: the latent has this activation. At least: "
    "it has this activation or more. Remove: it is 0. Multiply and cap act on the part of the "
    "stream that lies along the latent's direction. Add and keep the length: as add, then "
    "everything is made as long as it was. What the SAE does not reconstruct is always kept."
)
_UNIT_HELP = (
    "Largest activation: that of the latent in the text that was read with this SAE. Length of the "
    "stream: what is written is so many times as long as what stands there. KL: the strength is "
    "solved for so that next-token predictions change by so many nats, on the prompt and what the "
    "unsteered model writes after it; only this unit makes latents comparable."
)
_PLACE_HELP = (
    "Everywhere leaves a beginning-of-text token alone. After the prompt begins at the prompt's "
    "last token, which predicts the first new one."
)


def draw(view: SteerView, selection: Selection) -> None:
    """The rows of widgets above the answer."""
    typed.area(
        "Prompt",
        height=80,
        most=4000,
        **VIEW.widget("steer_prompt", "prompt", read=following.noting("steering")),
    )
    show("steer_mode", view.mode)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        typed.line(
            "Latents",
            placeholder=str(selection.latent),
            help='The selected latent, or several such as "3, 10-20" or "20 random".',
            width=190,
            most=2000,
            **VIEW.widget("steer_latents", "latents", read=str.strip),
        )
        st.selectbox(
            "What is done",
            **options_of(list(MODES), view.mode),
            format_func=MODES.__getitem__,
            help=_MODE_HELP,
            width=230,
            key="steer_mode",
            on_change=_mode_chosen,
        )
        if view.mode != "ablate":
            _strengths(view)
        st.selectbox(
            "Where",
            format_func=PLACES.__getitem__,
            help=_PLACE_HELP,
            width=210,
            **VIEW.menu("steer_place", "place", list(PLACES)),
        )
        if view.place == "tokens":
            st.text_input(
                "Tokens",
                placeholder="1, 3-5",
                help="Numbers of tokens of the prompt, from 0, a beginning-of-text token included; "
                "they stand under the answer.",
                width=110,
                **VIEW.widget("steer_positions", "positions", read=str.strip),
            )
        if view.place == "where":
            st.number_input(
                "Latent that fires",
                0,
                None,
                width=150,
                **VIEW.widget("steer_gate", "gate"),
            )
        with st.popover("Texts", icon=":material/tune:"):
            _sampling(view)
    if "," in view.latents or "-" in view.latents or "random" in view.latents or view.together:
        st.toggle(
            "Steer these latents at once, rather than each by itself",
            **VIEW.widget("steer_together", "together"),
        )
    problem = st.session_state.pop("steer_strengths_problem", None)
    if problem:
        st.warning(problem, icon=":material/edit:")


def _strengths(view: SteerView) -> None:
    strengths = view.strengths or default_strengths(view)
    show("steer_strengths", strengths)
    st.text_input(
        "Factors" if view.mode == "scale" else "Strengths",
        strengths,
        key="steer_strengths",
        on_change=_strengths_typed,
        help='A list such as "0.5 1 2", or a range such as "0 to 4 in 9"; below 0 is away.',
        width=150,
    )
    if view.mode == "scale":
        return
    # One that a link asks for and the mode has no strength in stays, to be changed.
    units = [it for it in UNITS if fits(it, view.mode) or it == view.unit]
    st.selectbox(
        "Strengths are given",
        format_func=UNITS.__getitem__,
        help=_UNIT_HELP,
        width=210,
        **VIEW.menu("steer_unit", "unit", units, strengths=""),
    )


def _mode_chosen() -> None:
    mode, unit = st.session_state["steer_mode"], VIEW.current().unit
    VIEW.change(mode=mode, unit=unit if fits(unit, mode) else DEFAULT_UNIT, strengths="")


def _strengths_typed() -> None:
    text = st.session_state["steer_strengths"].strip()
    try:
        if text:
            parse_scales(text)
    except ValueError as error:
        st.session_state["steer_strengths_problem"] = str(error).replace("scale", "strength")
        action.refuse()
        return
    VIEW.change(strengths=" ".join(text.split()))


def _sampling(view: SteerView) -> None:
    for name in _SAMPLING:
        show(f"steer_{name}", getattr(view, name))
    st.session_state["steer_chat"] = view.chat
    with st.form("steer_sampling", border=False):
        left, right = st.columns(2)
        left.number_input(
            "Temperature",
            0.0,
            10.0,
            step=0.1,
            value=view.temperature,
            key="steer_temperature",
            help="0 takes the likeliest token each time.",
        )
        right.number_input("Top-p", 0.01, 1.0, step=0.05, value=view.top_p, key="steer_top_p")
        left.number_input(
            "Frequency penalty", -10.0, 10.0, step=0.5, value=view.penalty, key="steer_penalty"
        )
        right.number_input(
            "Texts of each row",
            1,
            20,
            value=view.samples,
            key="steer_samples",
            help="With temperature 0 all of them are the same.",
        )
        left.number_input("Seed", 0, 2**31 - 1, value=view.seed, key="steer_seed")
        right.number_input(
            "Longest text (tokens)", 1, 500, value=view.new_tokens, key="steer_new_tokens"
        )
        left.number_input(
            "Random directions",
            1,
            8,
            value=view.randoms,
            key="steer_randoms",
            help="Beside each latent and strength; as long as what the latent writes.",
        )
        st.toggle("Chat format, where the model has one", value=view.chat, key="steer_chat")
        st.form_submit_button("Apply", type="primary", on_click=_sampling_applied)


def _sampling_applied() -> None:
    VIEW.change(**{name: st.session_state[f"steer_{name}"] for name in (*_SAMPLING, "chat")})
