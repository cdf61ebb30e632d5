"""What somebody has used of this server, and what of the store they can give back."""

import streamlit as st

from core import resources
from core.device import format_bytes
from core.hosting.rights import Action
from core.store import Owned
from core.view.markup import escape_markdown, n_of
from pages.parts import action, people

_WORDS = {
    "compute_seconds": ("Seconds of computations", "{:,.0f}".format),
    "upload_bytes": ("Files and texts", format_bytes),
    "store_bytes": ("Added to the store", format_bytes),
    "download_bytes": ("Downloads", format_bytes),
    "tokens": ("Tokens with the server's key", "{:,.0f}".format),
    "dollars": ("Dollars of the server's key", "{:,.4f}".format),
}
_REMOVED = "share_removed"


def draw() -> None:
    """Today's use and the results of whoever looks; nothing on an explorer of one person."""
    person = people.current()
    if person.local or not people.may(Action.RUN):
        return
    desk = resources.desk()
    with st.expander("Your share of this server", key="share_of_server"):
        quotas = resources.policy().quotas
        used, limits = desk.ledger.used(person.account), desk.limits(person)
        of = limits | {"download_bytes": float(quotas.download_bytes_a_day)}
        rows = [
            {"today (UTC)": words, "used": write(used.get(name, 0.0)), "of": _limit(name, of)}
            for name, (words, write) in _WORDS.items()
            if used.get(name) or name in of
        ]
        st.dataframe(rows, hide_index=True, width="stretch")
        held = sum(it.bytes for it in desk.results(person.account))
        st.caption(
            f"Your results take {format_bytes(held)} of the store"
            + ("." if not limits else f", and may take {format_bytes(quotas.store_bytes)}.")
        )
        results(person.account, key="share_results")


def results(account: str, *, key: str) -> None:
    """Results of one account by kind, each with a button that removes them."""
    for gone in st.session_state.pop(_REMOVED, ()):
        action.shown(gone)
    found = resources.desk().results(account)
    if not found:
        st.caption("No results in the store.")
        return
    st.caption(
        "What is removed is computed again when somebody asks for it. Lists, descriptions and "
        "answers that were paid for are not among it."
    )
    for it in found:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                escape_markdown(f"{it.kind}: {n_of(it.entries, 'value')}, {format_bytes(it.bytes)}")
            )
            _remove_button(it, key=f"{key}_{it.kind}")


def _remove_button(one: Owned, *, key: str) -> None:
    def remove() -> str:
        st.session_state[_REMOVED] = [*st.session_state.get(_REMOVED, ()), key]
        freed = resources.desk().remove_results(people.current(), one)
        return f"{format_bytes(freed)} of {one.kind} are free again."

    action.button(f"Remove {one.kind}", remove, key=key, icon=":material/delete:")


def _limit(name: str, limits: dict[str, float]) -> str:
    return _WORDS[name][1](limits[name]) if name in limits else ""
