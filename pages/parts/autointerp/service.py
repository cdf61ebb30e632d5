"""The chat service of this session. A typed key stays in the session's memory and goes nowhere."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from core.view.autointerp.view import AutointerpView
from core.view.markup import escape_markdown
from pages.parts.autointerp import state

if TYPE_CHECKING:
    from core.llm import ChatEndpoint
    from core.view.autointerp.record import Record
    from core.view.autointerp.running import Service
    from core.view.autointerp.service import Typed

_TYPED = "autointerp_typed"
_FIELDS = ("url", "key", "prompt_price", "completion_price", "dollars", "calls")


def draw(view: AutointerpView) -> "Service | None":
    """The fields, and the service that they name; None where it is not known yet."""
    from core.view.autointerp.running import Service

    typed = _typed()
    endpoint = _endpoint(typed, view.chat_model)
    with st.expander(
        "Chat service", icon=":material/forum:", expanded=endpoint is None, key="ai_service"
    ):
        _fields(typed, view)
        if endpoint is None:
            st.caption(
                "No service is set up on this server. Type a key for OpenAI's, or the address of "
                "any service that speaks its protocol, such as one on your own machine."
            )
        else:
            shown = f"Questions go to {endpoint.url}, to the model {endpoint.model}."
            st.caption(escape_markdown(shown))
    if endpoint is None:
        return None
    return Service(endpoint, typed.budget, typed.price)


def current(record: "Record") -> "Service | None":
    """The service of this session for another question to a record's model, without drawing."""
    from core.view.autointerp.running import Service

    typed = _typed()
    endpoint = _endpoint(typed, record["chat_model"])
    return None if endpoint is None else Service(endpoint, typed.budget, typed.price)


def _fields(typed: "Typed", view: AutointerpView) -> None:
    for name in _FIELDS:
        st.session_state[f"ai_service_{name}"] = getattr(typed, name)
    st.session_state["ai_chat_model"] = view.chat_model
    left, middle, right = st.columns(3)
    left.text_input(
        "Model",
        key="ai_chat_model",
        placeholder="gpt-4o-mini",
        max_chars=120,
        on_change=lambda: state.change(chat_model=st.session_state["ai_chat_model"].strip()),
    )
    middle.text_input(
        "Address",
        key="ai_service_url",
        placeholder="https://api.openai.com/v1",
        on_change=_changed,
        help="Up to /v1. A key that this server holds is never sent to an address typed here.",
    )
    right.text_input(
        "Key",
        key="ai_service_key",
        type="password",
        on_change=_changed,
        autocomplete="off",
        help="For this session only: it is not stored, logged, exported or put into links. Empty "
        "for the key of this server's environment or secrets.",
    )
    one, two, three, four = st.columns(4)
    one.number_input(
        "Dollars per million tokens sent",
        0.0,
        key="ai_service_prompt_price",
        on_change=_changed,
        help="Prices change, so none is built in: type the one of the day. Left at 0, the cost is "
        "not known and the budget counts questions alone.",
    )
    two.number_input("… and received", 0.0, key="ai_service_completion_price", on_change=_changed)
    three.number_input(
        "Budget in dollars",
        0.0,
        key="ai_service_dollars",
        on_change=_changed,
        disabled=typed.price is None,
        help="The run stops before a question that could exceed it. Needs the prices.",
    )
    four.number_input(
        "Budget in questions",
        0,
        1_000_000,
        key="ai_service_calls",
        on_change=_changed,
        help="The run stops after so many, repeated ones included. Stored answers do not count.",
    )


def _typed() -> "Typed":
    from core.view.autointerp.service import Typed

    return Typed(**st.session_state.get(_TYPED, {}))


def _changed() -> None:
    # Not the widgets' own state: Streamlit drops that when another page is shown.
    state_ = st.session_state
    typed = {name: state_[f"ai_service_{name}"] for name in _FIELDS}
    typed |= {name: str(typed[name]).strip() for name in ("url", "key")}
    state_[_TYPED] = typed


def _endpoint(typed: "Typed", model: str) -> "ChatEndpoint | None":
    from core.view.autointerp.service import endpoint_of

    try:
        return endpoint_of(typed, model, environment=os.environ, secrets=_secrets())
    except ValueError as error:
        st.warning(escape_markdown(str(error)))
        return None


def _secrets() -> Mapping[str, str]:
    """Streamlit's secrets that name a service; none without a file of secrets."""
    try:
        names = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
        return {name: str(st.secrets[name]) for name in names if name in st.secrets}
    except (StreamlitSecretNotFoundError, FileNotFoundError):
        return {}
