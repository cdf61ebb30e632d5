"""The menus that choose a model, an SAE and a latent, and the state of the machine."""

import random

import streamlit as st

from core import resources
from core.catalog.entries import ModelEntry, ReleaseEntry
from core.device import format_bytes, memory_report
from core.view.choices import Choices
from core.view.selection import Selection, to_parameters, with_model, with_release, with_sae
from pages.parts import registry, view_state
from pages.parts.polling import reserve_room
from pages.parts.view_state import View

_MODEL, _RELEASE, _SAE, _LATENT = "choose_model", "choose_release", "choose_sae", "choose_latent"
_ORIGINS = {"demo": "demo", "user": "yours", "hub": "published"}


def draw(view: View) -> None:
    """The whole sidebar."""
    with st.sidebar:
        _pages(view.selection)
        if view.selection is None or view.entry is None:
            reserve_room(340)
        else:
            _menus(view.choices, view.selection)
            _latent(view.selection, view_state.width_of(view.entry))
        _machine()


def _pages(selection: Selection | None) -> None:
    """Links that take the selection along, also into a new tab."""
    parameters = to_parameters(selection) if selection is not None else {}
    for tool in registry.TOOLS:
        st.page_link(tool.file, label=tool.title, icon=tool.icon, query_params=parameters)


def _menus(choices: Choices, selection: Selection) -> None:
    models = {model.name: model for model in choices.models}
    titles = {it.release: _release_label(it) for it in choices.releases_for(selection.model)}
    saes = [it.sae_id for it in choices.saes_for(selection.release, selection.model)]
    # The selection leads; the menus only show it and say when somebody chose something else.
    st.session_state[_MODEL] = selection.model
    st.session_state[_RELEASE] = selection.release
    st.session_state[_SAE] = selection.sae_id
    st.selectbox(
        "Model",
        list(models),
        format_func=lambda name: _model_label(models[name]),
        key=_MODEL,
        on_change=_chosen,
        args=(_MODEL,),
        help="The language model whose inside is looked at. Type to search. The demo and your own "
        "models come first; the published ones are those that SAEs exist for.",
    )
    st.selectbox(
        "SAE release",
        list(titles),
        format_func=lambda name: titles[name],
        key=_RELEASE,
        on_change=_chosen,
        args=(_RELEASE,),
        help="SAEs (sparse autoencoders) that were published together, or a folder of yours.",
    )
    st.selectbox(
        "SAE",
        saes,
        key=_SAE,
        on_change=_chosen,
        args=(_SAE,),
        help="One sparse autoencoder. Its name tells which layer of the model it reads (counted "
        "from 0) and which place in that layer.",
    )


def _latent(selection: Selection, width: int | None) -> None:
    last = None if width is None else width - 1
    st.session_state[_LATENT] = selection.latent
    st.number_input(
        "Latent" if last is None else f"Latent (0 to {last})",
        min_value=0,
        max_value=last,
        step=1,
        key=_LATENT,
        on_change=_chosen,
        args=(_LATENT,),
        help="A latent is one of the directions that the SAE has learnt; ideally it stands for one "
        "idea.",
    )
    with st.container(horizontal=True, gap="small"):
        at_end = last is not None and selection.latent >= last
        _step("Previous", selection.latent - 1, disabled=selection.latent == 0)
        _step("Next", selection.latent + 1, disabled=at_end)
        anywhere = random.randrange(width) if width else 0
        _step("Random", anywhere, disabled=not width)


def _step(label: str, latent: int, *, disabled: bool) -> None:
    st.button(
        label,
        key=f"latent_{label.lower()}",
        on_click=_go_to_latent,
        args=(latent,),
        disabled=disabled,
        width="stretch",
    )


def _go_to_latent(latent: int) -> None:
    st.session_state[_LATENT] = latent
    _chosen(_LATENT)


def _chosen(menu: str) -> None:
    view = view_state.current()
    value, selection = st.session_state[menu], view.selection
    if selection is None or value is None:
        return
    if menu == _MODEL:
        selection = with_model(view.choices, selection, value)
    elif menu == _RELEASE:
        selection = with_release(view.choices, selection, value)
    elif menu == _SAE:
        selection = with_sae(view.choices, selection, value)
    else:
        selection = Selection(selection.model, *selection.sae, latent=int(value))
    view_state.choose(selection)


def _model_label(model: ModelEntry) -> str:
    name = model.title if model.source == "user" else model.name
    return f"{name} ({_ORIGINS[model.source]})"


def _release_label(release: ReleaseEntry) -> str:
    if release.source == "user":
        return f"{release.release} (yours)"
    return release.title or release.release


def _machine() -> None:
    libraries = resources.warm_up().libraries
    ready = libraries.done() and libraries.exception() is None
    st.divider()
    lines = [f"Running on **{resources.engine().device}**" if ready else "Starting…"]
    for memory in memory_report():
        if memory.name == "this process":
            lines.append(f"The explorer uses {format_bytes(memory.used)}")
        else:
            name = "Memory" if memory.name == "host" else memory.name
            lines.append(
                f"{name}: {format_bytes(memory.free)} of {format_bytes(memory.total)} free"
            )
    st.caption("  \n".join(lines))
