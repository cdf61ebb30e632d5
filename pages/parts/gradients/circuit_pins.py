"""Pinning nodes of a circuit, and drawing several of them as one; all of it is in the link."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from core.gradients.circuit_link import MOST_GROUPS, MOST_NAME, MOST_PINNED, Place
from core.gradients.page_view import GradientView
from core.view.markup import escape_markdown
from pages.parts.gradients import controls

if TYPE_CHECKING:
    from core.circuits.request import CircuitResult
    from core.circuits.subgraph import Shown

_NAME, _NODES, _PROBLEM = "grad_group_name", "grad_group_nodes", "grad_group_problem"
_SHORT = 60


def shown(result: "CircuitResult", view: GradientView) -> "Shown":
    """What is drawn: all or the pinned nodes, groups as one."""
    from core.circuits.subgraph import rows_of, shown_part

    circuit = result.circuit
    pinned = rows_of(circuit, view.pinned)
    return shown_part(
        circuit,
        result.labels,
        pinned=pinned if view.only_pinned and pinned else None,
        groups=[(name, rows_of(circuit, places)) for name, places in view.groups],
    )


def draw(result: "CircuitResult", view: GradientView, texts: Mapping[int, str]) -> None:
    """The row of widgets above the picture."""
    from core.circuits.subgraph import place_of, rows_of

    circuit = result.circuit
    titles = {
        place_of(circuit, row): _title(result.labels[row], texts.get(row, ""))
        for row in range(len(circuit.nodes) - 1)
    }
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.multiselect(
            "Pinned nodes",
            list(titles),
            format_func=lambda place: titles[place],
            max_selections=MOST_PINNED,
            placeholder="Choose here, or click a node and pin it",
            help="What you keep an eye on. Pinned nodes have a rim and can be drawn alone; they "
            "are in the link.",
            **controls.choices(
                "grad_pinned",
                "pinned",
                value=[place for place in view.pinned if place in titles],
                read=tuple,
            ),
        )
        controls.flag(
            "Only pinned nodes",
            "only_pinned",
            "Draw the pinned nodes and the end alone. What flows from one to another through nodes "
            "that are not drawn becomes a line between the two.",
        )
        with st.popover("Group nodes", icon=":material/workspaces:"):
            _group(result, view, titles)
    missing = len(view.pinned) - len(rows_of(circuit, view.pinned))
    if missing:
        st.caption(
            f"{missing} of the pinned nodes carry too little here to be drawn: raise the flow that "
            "nodes must carry, or explain what they were pinned for."
        )
    if view.only_pinned and not rows_of(circuit, view.pinned):
        st.caption("No node is pinned, so all are drawn.")


def pin_button(view: GradientView, place: Place) -> None:
    """Pins or unpins a node."""
    held = place in view.pinned
    st.button(
        "Unpin" if held else "Pin",
        key="grad_pin",
        icon=":material/keep_off:" if held else ":material/keep:",
        on_click=_pin,
        args=(place,),
        disabled=not held and len(view.pinned) >= MOST_PINNED,
    )


def ungroup_button(name: str, *, key: str) -> None:
    """Draws a group's nodes one by one again."""
    st.button(f"Ungroup {escape_markdown(name)}", key=key, on_click=_ungroup, args=(name,))


def _group(result: "CircuitResult", view: GradientView, titles: Mapping[Place, str]) -> None:
    taken = {place for _, places in view.groups for place in places}
    free = [place for place in titles if place not in taken]
    first = [place for place in view.pinned if place in free]
    layers = {place[0] for place in first}
    with st.form("grad_group", border=False):
        st.text_input("Name of the group", key=_NAME, max_chars=MOST_NAME)
        st.multiselect(
            "Its nodes",
            free,
            first if len(layers) == 1 else [],
            format_func=lambda place: titles[place],
            key=_NODES,
            help="Nodes of one layer: their activations and contributions are added up.",
        )
        st.form_submit_button("Group", type="primary", on_click=_make_group, args=(result,))
    problem = st.session_state.pop(_PROBLEM, None)
    if problem:
        st.error(escape_markdown(problem), icon=":material/error:")
    for number, (name, _) in enumerate(view.groups):
        ungroup_button(name, key=f"grad_ungroup_{number}")


def _make_group(result: "CircuitResult") -> None:
    from core.circuits.subgraph import check_group, rows_of

    # What the fields hold now; what the page knew when it was drawn may be older.
    name = " ".join(st.session_state[_NAME].split())
    places = tuple(st.session_state[_NODES])
    groups = controls.current().groups
    try:
        if not name or name in [other for other, _ in groups]:
            raise ValueError("Give the group a name of its own.")
        if len(groups) >= MOST_GROUPS:
            raise ValueError(f"There are {MOST_GROUPS} groups already; ungroup one first.")
        check_group(result.circuit, rows_of(result.circuit, places))
    except ValueError as error:
        st.session_state[_PROBLEM] = str(error)
        return
    st.session_state[_NAME] = ""
    controls.change(groups=(*groups, (name, places)))


def _ungroup(name: str) -> None:
    controls.change(groups=tuple(it for it in controls.current().groups if it[0] != name))


def _pin(place: Place) -> None:
    held = controls.current().pinned
    left = tuple(other for other in held if other != place)
    controls.change(pinned=left if place in held else (*held, place))


def _title(label: str, text: str) -> str:
    short = text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
    return f"{label}: {short}" if short else label
