"""The chat service of this session. A typed key stays in the session's memory and goes nowhere."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from core import resources
from core.hosting.rights import Action
from core.view.markup import escape_markdown
from pages.parts import people
from pages.parts import typed as boxes
from pages.parts.autointerp import VIEW
from pages.parts.page_state import PageState, show

if TYPE_CHECKING:
    from core.autointerp.record import Record
    from core.autointerp.service import Service, Typed
    from core.llm import ChatEndpoint

_TYPED = "autointerp_typed"
_FIELDS = ("url", "key", "prompt_price", "completion_price", "dollars", "calls")


def draw(chat_model: str, *, page: PageState[Any] = VIEW) -> "Service | None":
    """The fields, and the service that they name; None where it is not known yet.

    `page` is whose view has the field `chat_model`.
    """
    typed = _typed()
    endpoint = _endpoint(typed, chat_model)
    with st.expander(
        "Chat service", icon=":material/forum:", expanded=endpoint is None, key="ai_service"
    ):
        _fields(typed, page)
        if endpoint is None:
            st.caption(
                "No service is set up on this server. Type a key for OpenAI's, or the address of "
                "any service that speaks its protocol, such as one on your own machine."
            )
        else:
            shown = f"Questions go to {endpoint.url}, to the model {endpoint.model}."
            st.caption(escape_markdown(shown))
    return _service(typed, endpoint)


def current(record: "Record") -> "Service | None":
    """The service of this session for another question to a record's model, without drawing."""
    typed = _typed()
    return _service(typed, _endpoint(typed, record["chat_model"]))


def _service(typed: "Typed", endpoint: "ChatEndpoint | None") -> "Service | None":
    """The service with whoever pays; None, with the reason, for those who may ask nothing."""
    from core.autointerp.service import Service

    person = people.current()
    if endpoint is None or person.local:
        return None if endpoint is None else Service(endpoint, typed.budget, typed.price)
    try:
        if typed.key or typed.url:
            people.require(Action.OWN_KEY)
            return Service(endpoint, typed.budget, typed.price)
        payer = resources.desk().purse(person, endpoint.model)
    except ValueError as refused:
        st.info(escape_markdown(str(refused)), icon=":material/block:")
        return None
    return Service(endpoint, replace(typed.budget, dollars=typed.dollars), payer.price, payer)


def _fields(typed: "Typed", page: PageState[Any]) -> None:
    for name in _FIELDS:
        show(f"ai_service_{name}", getattr(typed, name))
    left, middle, right = st.columns(3)
    boxes.line(
        "Model",
        placeholder="gpt-4o-mini",
        most=120,
        **page.widget("ai_chat_model", "chat_model", read=str.strip),
        place=left,
    )
    middle.text_input(
        "Address",
        value=typed.url,
        key="ai_service_url",
        placeholder="https://api.openai.com/v1",
        on_change=_changed,
        disabled=not people.may(Action.NAME_ENDPOINT),
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
        value=typed.prompt_price,
        key="ai_service_prompt_price",
        on_change=_changed,
        help="Prices change, so none is built in: type the one of the day. Left at 0, the cost is "
        "not known and the budget counts questions alone.",
    )
    two.number_input(
        "… and received",
        0.0,
        value=typed.completion_price,
        key="ai_service_completion_price",
        on_change=_changed,
    )
    three.number_input(
        "Budget in dollars",
        0.0,
        value=typed.dollars,
        key="ai_service_dollars",
        on_change=_changed,
        disabled=typed.price is None,
        help="The run stops before a question that could exceed it. Needs the prices.",
    )
    four.number_input(
        "Budget in questions",
        0,
        1_000_000,
        value=typed.calls,
        key="ai_service_calls",
        on_change=_changed,
        help="The run stops after so many, repeated ones included. Stored answers do not count.",
    )


def _typed() -> "Typed":
    from core.autointerp.service import Typed

    typed = Typed(**st.session_state.get(_TYPED, {}))
    # Whatever a browser sends: where others may name no address, there is none.
    return typed if people.may(Action.NAME_ENDPOINT) else replace(typed, url="")


def _changed() -> None:
    # Not the widgets' own state: Streamlit drops that when another page is shown.
    state_ = st.session_state
    typed = {name: state_[f"ai_service_{name}"] for name in _FIELDS}
    typed |= {name: str(typed[name]).strip() for name in ("url", "key")}
    state_[_TYPED] = typed


def _endpoint(typed: "Typed", model: str) -> "ChatEndpoint | None":
    from core.autointerp.service import endpoint_of

    try:
        return endpoint_of(
            typed, model, environment=os.environ, secrets=_secrets(), reach=resources.reach()
        )
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
