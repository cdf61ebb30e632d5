"""The circuit tab: what feeds a token's score or a latent, traced back through the layers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.gradients import sae_choices
from core.gradients.page_view import GradientView
from core.view.markup import exact_markdown, visible_token
from core.view.selection import Selection
from pages.parts import downloads, job_results, latent_links, look, plots, weights, wide
from pages.parts.gradients import cell, circuit_pins, controls, descriptions, heatmap

if TYPE_CHECKING:
    from core.circuits.request import CircuitResult
    from core.circuits.subgraph import Shown

KEY = "grad_circuit"
ROOM = 760
_HOW = (
    "From the bottom up: the prompt's tokens, the latents of each SAE, and what is explained. Blue "
    "adds to it, red takes away from it; the thicker a line, the more. Numbers are latents, with "
    "the beginning of their descriptions; click one to see what it is. Positions without nodes are "
    "left out."
)


def draw(selection: Selection, entries: Sequence[SaeEntry], view: GradientView) -> None:
    """The whole tab."""
    from core.circuits.graph import Pruning
    from core.circuits.request import CircuitRequest, chain_note, trace
    from core.gradients.prompt import example_prompt, short_prompt_note

    example = example_prompt(resources.catalog().model(selection.model).source, view.tab)
    prompt = controls.prompt(view, example)
    chain = _chain(selection, entries, view)
    explained = st.container()
    _settings()
    request = CircuitRequest(
        model=selection.model,
        prompt=prompt,
        chain=chain,
        end=view.end,
        pruning=Pruning(view.node_share, view.edge_share, view.most_nodes),
        freeze_attention=view.hold_attention,
        freeze_layer_norm=view.hold_norms,
    )
    if not weights.ready(selection.model, chain):
        return
    engine, store = resources.engine(), resources.store()
    saes = [entry.key for entry in chain]
    result: CircuitResult | None = job_results.recent_or_last(
        request.key,
        "Tracing a circuit",
        lambda progress: trace(
            engine.lease(request.model, saes, progress=progress), store, request
        ),
        asked=request,
        place="grad_circuit_last",
        subject=(request.model, request.prompt),
        link=latent_links.address("gradients", selection, tab="circuit"),
        room=ROOM,
    ).result
    if result is None:
        return
    with explained:
        _end(result, view)
    for note in (short_prompt_note(result.tokens, n_leading=result.n_leading), chain_note(chain)):
        if note:
            st.info(note)
    _drawn(result, selection, view)


def _chain(
    selection: Selection, entries: Sequence[SaeEntry], view: GradientView
) -> tuple[SaeEntry, ...]:
    chosen = next(entry for entry in entries if entry.key == selection.sae)
    found = [sae_choices.find(entries, name) for name in view.chain]
    chain = [entry for entry in found if entry is not None] or list(
        sae_choices.default_chain(entries, chosen)
    )
    chain.sort(key=sae_choices.depth)
    titles = sae_choices.menu(entries)
    st.multiselect(
        "Through the latents of",
        list(titles),
        format_func=lambda name: titles[name],
        help="The circuit goes through these SAEs in the order in which the model passes them.",
        **controls.choices(
            "grad_chain",
            "chain",
            value=[sae_choices.name_of(entry) for entry in chain],
            read=tuple,
        ),
    )
    return tuple(chain)


def _end(result: "CircuitResult", view: GradientView) -> None:
    titles = {choice.end: choice.title for choice in result.ends}
    # Nothing chosen means the likeliest token, which is the first of the list.
    end = view.end if view.end in titles else result.request.end or result.ends[0].end
    st.selectbox(
        "Explain",
        format_func=lambda end: titles[end],
        help="A likely next token, or a latent of the last SAE that is active at the last token.",
        **controls.menu("grad_end", "end", list(titles), value=end),
    )


def _settings() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        _slider("Flow that nodes must carry", "node_share")
        _slider("Flow that edges must carry", "edge_share")
        with st.container(width=180):
            controls.number("Most nodes a layer", "most_nodes", 1, 60)
        with st.popover("What is held", icon=":material/tune:"):
            controls.flag(
                "Hold attention patterns",
                "hold_attention",
                "Where each head looks then stays as it was, and only what it carries counts.",
            )
            controls.flag(
                "Hold the scales of layer norms",
                "hold_norms",
                "What the norms divide by then stays as it was. Otherwise contributions to a score "
                "nearly cancel, because norms undo what all directions have in common.",
            )


def _slider(label: str, field: str) -> None:
    st.slider(
        label,
        0.05,
        1.0,
        step=0.05,
        width=260,
        **controls.widget(f"grad_{field}", field),
        help="The strongest are kept until they carry this share of all that flows to what is "
        "explained, within each layer.",
    )


def _drawn(result: "CircuitResult", selection: Selection, view: GradientView) -> None:
    from core.circuits.figure import circuit_figure
    from core.circuits.request import descriptions_of, missing_note
    from core.circuits.subgraph import rows_of

    known = descriptions.known_descriptions(selection.model, result.saes, result.request.chain)
    texts = descriptions_of(result, known)
    circuit_pins.draw(result, view, texts)
    shown = circuit_pins.shown(result, view)
    own = result.circuit.node(*view.node) if len(view.node) == 3 else None
    chosen = shown.row_of(own)
    held = rows_of(result.circuit, view.pinned)
    figure = circuit_figure(
        shown.circuit,
        tokens=result.tokens,
        layer_titles=result.titles,
        labels=shown.labels,
        descriptions={row: _said(shown.members[row], texts) for row in range(len(shown.labels))},
        chosen=chosen,
        pinned={row for row, rows in enumerate(shown.members) if not set(rows).isdisjoint(held)},
        dark=look.is_dark(),
    )
    with wide.container("circuit"):
        plots.draw(
            heatmap.without_background(figure),
            key=KEY,
            theme=None,
            width=wide.width_of(figure),
            on_select=lambda: _clicked(result, shown),
            selection_mode="points",
            config=heatmap.camera("circuit"),
        )
    st.caption(f"{_HOW} {missing_note(result)}")
    if chosen is not None and len(shown.members[chosen]) > 1:
        _members(result, shown, chosen, texts)
    elif own is not None:
        _node(result, selection, own, texts, view)
    st.subheader("The connections as a list")
    listed = result.frame(shown)
    st.dataframe(listed.head(200), hide_index=True, height=320)
    st.caption(
        "Weight: activation times gradient, which is what the source contributes to the target. "
        "Influence: what that contributes to the end. Flow: all that passes here on its way to the "
        "end, whether it adds or takes away."
    )
    downloads.figure(figure, "circuit", title="Circuit", key="grad_circuit_page")
    downloads.table(lambda: listed, "circuit", key="grad_circuit_table")
    descriptions.draw(selection.model, known, result.request.chain)


def _said(rows: Sequence[int], texts: Mapping[int, str]) -> str:
    """What stands beside a node: its description, or how many nodes it stands for."""
    return texts.get(rows[0], "") if len(rows) == 1 else f"{len(rows)} nodes"


def _members(result: "CircuitResult", shown: "Shown", row: int, texts: Mapping[int, str]) -> None:
    """The nodes of a group."""
    rows, name = list(shown.members[row]), shown.labels[row]
    part = result.circuit.nodes.iloc[rows]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{exact_markdown(name)}**: {len(rows)} nodes drawn as one")
            circuit_pins.ungroup_button(name, key="grad_ungroup_here")
        st.dataframe(
            {
                "node": [result.labels[one] for one in rows],
                "description": [texts.get(one, "") for one in rows],
                "activation": part["value"].to_numpy(),
                "adds to the end": part["influence"].to_numpy(),
            },
            hide_index=True,
            column_config={"description": st.column_config.TextColumn(width="large")},
        )


def _node(
    result: "CircuitResult",
    selection: Selection,
    row: int,
    texts: dict[int, str],
    view: GradientView,
) -> None:
    nodes = result.circuit.nodes
    node = nodes.iloc[row]
    layer = int(node["layer"])
    entry = result.entry(layer)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{exact_markdown(result.labels[row])}**")
            if node["kind"] != "logit":
                circuit_pins.pin_button(view, (layer, int(node["position"]), int(node["index"])))
            st.button("Close", key="grad_close_node", on_click=lambda: controls.change(node=()))
        st.caption(
            f"Activation {node['value']:.3g}; it adds {node['influence']:.3g} to what is explained."
        )
        if entry is None:
            text = visible_token(result.tokens[int(node["position"])])
            st.markdown(f"The token **{exact_markdown(text)}** of the prompt, or what comes next.")
            return
        if node["kind"] != "latent":
            st.markdown("What the latents of this SAE leave unexplained at this position.")
            return
        left, right = st.columns(2)
        with left:
            same = nodes[(nodes["layer"] == layer) & (nodes["index"] == node["index"])]
            strength = {
                int(place): float(value)
                for place, value in zip(same["position"], same["value"], strict=True)
            }
            cell.latent(
                result.parts,
                strength,
                Selection(selection.model, *entry.key, latent=int(node["index"])),
                entry,
                texts.get(row, ""),
            )
        with right:
            _neighbours(result, row)


def _neighbours(result: "CircuitResult", row: int) -> None:
    edges = result.circuit.edges
    for title, own, other in (
        ("What feeds it", "target", "source"),
        ("What it feeds", "source", "target"),
    ):
        part = edges[edges[own] == row]
        st.caption(title if len(part) else f"{title}: nothing that was kept.")
        if len(part):
            st.dataframe(
                {
                    "node": [result.labels[end] for end in part[other]],
                    "contribution": part["weight"].round(3).to_numpy(),
                },
                hide_index=True,
            )


def _clicked(result: "CircuitResult", shown: "Shown") -> None:
    from core.circuits.subgraph import place_of

    event: Any = st.session_state[KEY].selection
    for point in event.get("points", ()):
        data: Any = point.get("customdata") or ()
        if data:
            # A group is named by its first member, so that the link stays right without it.
            controls.change(node=place_of(result.circuit, shown.members[int(data[0])][0]))
            return
