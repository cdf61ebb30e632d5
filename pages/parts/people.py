"""Who looks at this page, and the door where they may not."""

import secrets

import streamlit as st

from core import resources
from core.asking import Asking
from core.hosting import rights
from core.hosting.headers import MARK, MARK_HEADER
from core.hosting.people import LOCAL, Person, Role, email_of, email_of_claims, groups_of
from core.hosting.rights import Action
from core.view.markup import escape_markdown

_SESSION, _WAS = "people_session", "people_was"


def current() -> Person:
    """The person of this session. Raises ValueError where the server cannot know who that is."""
    policy = resources.policy()
    if not policy.hosted:
        return LOCAL
    session = st.session_state.setdefault(_SESSION, secrets.token_hex(4))
    email, groups = _from_login() if policy.identity.source == "oidc" else _from_proxy()
    return policy.person(email, groups, session=session)


def may(action: Action) -> bool:
    """Whether the person of this session may do this."""
    return rights.allowed(current(), action)


def require(action: Action) -> None:
    """Raises NotAllowed, with a sentence that says who may."""
    rights.require(current(), action)


def require_text(text: str, proposed: str) -> None:
    """Raises NotAllowed for a text of somebody's own, from whoever may have none read."""
    if text != proposed:
        require(Action.TYPE_TEXT)


def begin() -> Person:
    """The person, to be asked once a run: another one in the same session starts afresh."""
    person = current()
    if not person.local and st.session_state.get(_WAS, person.id) != person.id:
        st.session_state.clear()
    st.session_state[_WAS] = person.id
    return person


def asking_of(person: Person) -> Asking:
    """What the page's own thread may do for this person."""
    return Asking(may_fetch=rights.allowed(person, Action.DOWNLOAD))


def door(person: Person) -> None:
    """What stands in the place of a page for somebody who may see none."""
    st.title("SAE Latent Explorer")
    if person.id.startswith("visitor "):
        st.info("This explorer is for people on its list. Log in to see whether you are.")
        _log_in(person)
        return
    st.error(
        f"{escape_markdown(person.id)} is not on the list of this server; ask its administrator.",
        icon=":material/error:",
    )
    _log_out()


def badge(person: Person) -> None:
    """Who one is, at the end of the sidebar; nothing on an explorer of one person."""
    if person.local:
        return
    if person.id.startswith("visitor "):
        st.caption("You are not logged in and see what was computed before.")
        _log_in(person)
        return
    role = "an administrator" if person.role is Role.ADMIN else f"a {person.role.name.lower()}"
    st.caption(f"You are {escape_markdown(person.id)}, {role} of this server.")
    _log_out()


def _log_in(person: Person) -> None:
    identity = resources.policy().identity
    if identity.source == "oidc":
        st.button("Log in", key="log_in", on_click=st.login, args=(identity.provider or None,))
    else:
        st.caption("The proxy in front of this server logs people in; open its page of logging in.")


def _log_out() -> None:
    if resources.policy().identity.source == "oidc":
        st.button("Log out", key="log_out", on_click=st.logout)


def _from_login() -> tuple[str, tuple[str, ...]]:
    claims = st.user.to_dict()
    email = email_of_claims(claims)
    return email, groups_of(claims.get(resources.policy().identity.groups_claim)) if email else ()


def _from_proxy() -> tuple[str, tuple[str, ...]]:
    identity, headers = resources.policy().identity, st.context.headers
    if not secrets.compare_digest(headers.get(MARK_HEADER, ""), MARK):
        raise ValueError(
            "This server was started without the part that tells the headers of its proxy from "
            "those of a visitor; start it with `streamlit run hosted.py`."
        )
    email = email_of(headers.get(identity.user_header))
    return email, groups_of(headers.get(identity.groups_header)) if email else ()
