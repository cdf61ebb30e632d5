"""The circuit tab: what feeds a token's score or a latent, traced back through the layers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.gradients import sae_choices
from core.gradients.page_view import GradientView
from core.view.markup import exact_markdown, visible_token
from core.view.selection import Selection
from pages.parts import downloads, latent_links, weights, work
from pages.parts.gradients import cell, controls, descriptions, heatmap

if TYPE_CHECKING:
    from core.circuits.request import CircuitResult

KEY = "grad_circuit"
ROOM = 760
_HOW = (
    "From the bottom up: the prompt's tokens, the latents of each SAE, and what is explained. Blue "
    "adds to it, red takes away from it; the thicker a line, the more. Numbers are latents; click "
    "one to see what it is."
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
    _settings(view)
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
    result: CircuitResult | None = work.recent_result(
        request.key,
        "Tracing a circuit",
        lambda progress: trace(
            engine.lease(request.model, saes, progress=progress), store, request
        ),
        link=latent_links.address("gradients", selection, tab="circuit"),
        room=ROOM,
    )
    if result is None:
        return
    with explained:
        _end(result)
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
    titles = {sae_choices.name_of(entry): sae_choices.title_of(entry) for entry in entries}
    st.session_state["grad_chain"] = [sae_choices.name_of(entry) for entry in chain]
    st.multiselect(
        "Through the latents of",
        list(titles),
        format_func=lambda name: titles[name],
        key="grad_chain",
        on_change=lambda: controls.change(chain=tuple(st.session_state["grad_chain"])),
        help="The circuit goes through these SAEs in the order in which the model passes them.",
    )
    return tuple(chain)


def _end(result: "CircuitResult") -> None:
    titles = {choice.end: choice.title for choice in result.ends}
    # Nothing chosen means the likeliest token, which is the first of the list.
    st.session_state["grad_end"] = result.request.end or result.ends[0].end
    st.selectbox(
        "Explain",
        list(titles),
        format_func=lambda end: titles[end],
        key="grad_end",
        on_change=lambda: controls.change(end=st.session_state["grad_end"]),
        help="A likely next token, or a latent of the last SAE that is active at the last token.",
    )


def _settings(view: GradientView) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        _slider("Flow that nodes must carry", "node_share", view)
        _slider("Flow that edges must carry", "edge_share", view)
        with st.container(width=180):
            controls.number("Most nodes a layer", "most_nodes", view, 1, 60)
        with st.popover("What is held", icon=":material/tune:"):
            controls.flag(
                "Hold attention patterns",
                "hold_attention",
                view,
                "Where each head looks then stays as it was, and only what it carries counts.",
            )
            controls.flag(
                "Hold the scales of layer norms",
                "hold_norms",
                view,
                "What the norms divide by then stays as it was. Otherwise contributions to a score "
                "nearly cancel, because norms undo what all directions have in common.",
            )


def _slider(label: str, field: str, view: GradientView) -> None:
    key = f"grad_{field}"
    st.session_state[key] = getattr(view, field)
    st.slider(
        label,
        0.05,
        1.0,
        step=0.05,
        key=key,
        width=260,
        on_change=lambda: controls.change(**{field: st.session_state[key]}),
        help="The strongest are kept until they carry this share of all that flows to what is "
        "explained, within each layer.",
    )


def _drawn(result: "CircuitResult", selection: Selection, view: GradientView) -> None:
    from core.circuits.figure import circuit_figure
    from core.circuits.request import descriptions_of, missing_note

    known = descriptions.known(selection.model, result.saes, result.request.chain)
    texts = descriptions_of(result, known)
    chosen = result.circuit.node(*view.node) if len(view.node) == 3 else None
    figure = circuit_figure(
        result.circuit,
        tokens=result.tokens,
        layer_titles=result.titles,
        labels=result.labels,
        descriptions=texts,
        chosen=chosen,
        dark=st.context.theme.type == "dark",
    )
    st.plotly_chart(
        heatmap.on_page(figure),
        key=KEY,
        theme=None,
        on_select=lambda: _clicked(result),
        selection_mode="points",
        config=heatmap.camera("circuit") | {"scrollZoom": True},
    )
    st.caption(f"{_HOW} {missing_note(result)}")
    if chosen is not None:
        _node(result, selection, chosen, texts)
    st.subheader("The connections as a list")
    st.dataframe(result.frame().head(200), hide_index=True, height=320)
    st.caption(
        "Weight: activation times gradient, which is what the source contributes to the target. "
        "Influence: what that contributes to the end. Flow: all that passes here on its way to the "
        "end, whether it adds or takes away."
    )
    downloads.figure(figure, "circuit", title="Circuit", key="grad_circuit_page")
    downloads.table(result.frame, "circuit", key="grad_circuit_table")
    descriptions.draw(selection.model, known, result.request.chain)


def _node(result: "CircuitResult", selection: Selection, row: int, texts: dict[int, str]) -> None:
    nodes = result.circuit.nodes
    node = nodes.iloc[row]
    layer = int(node["layer"])
    entry = result.entry(layer)
    with st.container(border=True):
        title, close = st.columns([6, 1])
        title.markdown(f"**{exact_markdown(result.labels[row])}**")
        close.button("Close", key="grad_close_node", on_click=lambda: controls.change(node=()))
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


def _clicked(result: "CircuitResult") -> None:
    event: Any = st.session_state[KEY].selection
    for point in event.get("points", ()):
        data: Any = point.get("customdata") or ()
        if data:
            node = result.circuit.nodes.iloc[int(data[0])]
            place = (int(node["layer"]), int(node["position"]), int(node["index"]))
            controls.change(node=place)
            return
