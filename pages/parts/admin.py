"""The parts of the administrator's page."""

import time

import streamlit as st

from core import resources
from core.device import format_bytes
from core.hosting import rights as table_of_rights
from core.hosting.people import Role
from core.hosting.rights import Action
from core.jobs import JobState
from pages.parts import action, people, share

_DRAINING = "this server is about to be restarted; try again in some minutes."


def drain() -> None:
    """Whether new jobs are taken, and a button for the other."""
    draining = resources.jobs().draining
    st.subheader("Restarting in peace")
    st.caption(
        "While the server drains, what runs goes on and nothing new is started; readers see a "
        "sign. Restart it when nothing is running any more: what is stored is kept, and a text "
        "that was being read goes on from its last checkpoint when somebody asks for it again."
    )

    def turn() -> str:
        people.require(Action.ADMINISTER)
        for manager in (resources.jobs(), resources.loads()):
            if draining:
                manager.go_on()
            else:
                manager.drain(_DRAINING)
        what = "take jobs again" if draining else "drain"
        resources.audit().write(people.current(), what)
        return "New jobs are taken again." if draining else "Nothing new is started from now on."

    action.button("Take jobs again" if draining else "Drain", turn, key="admin_drain")


def jobs() -> None:
    """Who runs what."""
    st.subheader("Jobs")
    rows = [
        {
            "job": view.title,
            "state": view.state.value,
            "who": ", ".join(view.owners),
            "seconds": _seconds(view.started_at, view.finished_at),
            "done": None if view.fraction is None else round(100 * view.fraction),
            "place": None if view.place is None else view.place.number,
            "starts in s": None if view.place is None else _whole(view.place.seconds),
        }
        for manager in (resources.jobs(), resources.loads())
        for view in manager.jobs()
        if not view.key.startswith("plan:")
    ]
    if not rows:
        st.caption("No job since the start of this server.")
        return
    order = [state.value for state in (JobState.RUNNING, JobState.QUEUED)]
    rows.sort(key=lambda row: order.index(row["state"]) if row["state"] in order else 2)
    st.dataframe(rows, hide_index=True, width="stretch")
    st.caption("Jobs are stopped in the list of running tasks, on the home page.")


def memory() -> None:
    """What is loaded, with a button that unloads it."""
    st.subheader("Memory")
    libraries = resources.warm_up().libraries
    if not libraries.done() or libraries.exception() is not None:
        st.caption("Nothing is loaded yet.")
        return
    loaded = resources.engine().loaded()
    if not loaded:
        st.caption("Nothing is loaded.")
        return
    st.dataframe(
        [
            {
                "what": it.name,
                "kind": it.kind,
                "size": format_bytes(it.n_bytes),
                "device": it.device,
                "in use": it.in_use,
                "last used": time.strftime("%H:%M:%S", time.gmtime(it.used_at)),
            }
            for it in loaded
        ],
        hide_index=True,
        width="stretch",
    )
    for model in dict.fromkeys(it.model for it in loaded):

        def unload(model: str = model) -> str:
            people.require(Action.ADMINISTER)
            freed = resources.engine().unload(model)
            resources.audit().write(people.current(), "unload", what=model, bytes=freed)
            return f"{model} and its SAEs are unloaded: {format_bytes(freed)} are free again."

        action.button(f"Unload {model}", unload, key=f"admin_unload_{model}")


def used() -> None:
    """What each account used today, and the limits."""
    st.subheader("Used today (UTC)")
    desk = resources.desk()
    accounts = desk.ledger.accounts()
    if accounts:
        rows = [{"who": it, **desk.ledger.used(it)} for it in accounts]
        st.dataframe(rows, hide_index=True, width="stretch")
    else:
        st.caption("Nobody has used anything today.")
    quotas, key = resources.policy().quotas, resources.policy().server_key
    st.caption(
        f"A person may have {quotas.jobs_at_once} jobs at a time and, in a day, "
        f"{quotas.compute_seconds_a_day:,.0f} seconds of computations, "
        f"{format_bytes(quotas.upload_bytes_a_day)} of files, "
        f"{format_bytes(quotas.store_bytes_a_day)} of the store, and of the server's key "
        f"\\${key.dollars_a_day:g} and {key.tokens_a_day:,} tokens "
        f"({', '.join(key.roles) or 'nobody'}). Administrators have no limits but that of the key "
        f"and, as everybody, {format_bytes(quotas.download_bytes_a_day)} of downloads a day. A "
        f"person's results may take {format_bytes(quotas.store_bytes)} of the store in all."
    )
    usage = resources.store().usage()
    st.caption(
        f"The store holds {format_bytes(usage.recomputable.bytes)} of results and "
        f"{format_bytes(usage.paid.bytes)} of what is never evicted."
    )


def results() -> None:
    """Whose results take how much of the store, each with a button that removes them."""
    st.subheader("Results in the store")
    held: dict[str, int] = {}
    for it in resources.desk().results():
        held[it.account] = held.get(it.account, 0) + it.bytes
    if not held:
        st.caption(
            "No results of anybody's; what was computed before there was a policy is nobody's."
        )
        return
    accounts = sorted(held, key=lambda it: -held[it])
    rows = [{"who": it, "size": format_bytes(held[it])} for it in accounts]
    st.dataframe(rows, hide_index=True, width="stretch")
    whose = st.selectbox("Whose results", accounts, key="admin_results_of")
    share.results(whose, key="admin_results")


def rights() -> None:
    """Which role may do what."""
    with st.expander("Who may do what", key="admin_rights"):
        roles = [role for role in Role if role is not Role.NOBODY]
        rows = [
            {"may": it.value, **{role.name.lower(): role in may for role in roles}}
            for it, may in table_of_rights.table().items()
        ]
        st.dataframe(rows, hide_index=True, width="stretch")


def _seconds(began: float | None, ended: float | None) -> float | None:
    if began is None:
        return None
    return round((time.time() if ended is None else ended) - began, 1)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
