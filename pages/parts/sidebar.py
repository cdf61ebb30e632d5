"""The menus that choose a model, an SAE and a latent, and the state of the machine."""

import random
from collections.abc import Callable, Sequence

import streamlit as st

from core import resources
from core.activations.index_figures import recall_alive
from core.catalog.entries import ModelEntry, ReleaseEntry, SaeEntry
from core.catalog.release_words import words_of_release
from core.device import format_bytes, memory_report
from core.hosting import rights
from core.hosting.people import Person
from core.hosting.rights import Action
from core.view.choices import Choices, distinct_labels
from core.view.selection import Selection, to_parameters, with_model, with_release, with_sae
from pages.parts import back_button, keyboard, people, registry, view_state
from pages.parts.page_state import options_of, show
from pages.parts.polling import reserve_room
from pages.parts.view_state import View

_MODEL, _RELEASE, _SAE, _LATENT = "choose_model", "choose_release", "choose_sae", "choose_latent"
_FAMILY = "≣"
"""In front of releases that hold a family of widths: the ends of long names are not seen."""
_ORIGINS = {"demo": "demo", "user": "yours", "hub": "published"}


def draw(view: View, person: Person) -> None:
    """The whole sidebar."""
    with st.sidebar:
        _pages(view.selection)
        if not person.local and rights.allowed(person, Action.SEE_PEOPLE):
            st.page_link(registry.ADMIN.file, label=registry.ADMIN.title, icon=registry.ADMIN.icon)
        if view.selection is None or view.entry is None:
            reserve_room(340)
        else:
            _menus(view.choices, view.selection)
            _latent(view.selection, view_state.width_of(view.entry))
            keyboard.draw(view.selection)
            back_button.draw()
        _machine()
        people.badge(person)


def _pages(selection: Selection | None) -> None:
    """Links that take the selection along, also into a new tab."""
    parameters = to_parameters(selection) if selection is not None else {}
    for tool in registry.TOOLS:
        st.page_link(tool.file, label=tool.title, icon=tool.icon, query_params=parameters)


def _menus(choices: Choices, selection: Selection) -> None:
    labels = {model.name: _model_label(model) for model in choices.models}
    models = distinct_labels(labels, {name: name for name in labels})
    labels = {
        entry.release: _release_label(entry, choices.saes_for(entry.release, selection.model))
        for entry in choices.releases_for(selection.model)
    }
    titles = distinct_labels(labels, {name: name for name in labels})
    saes = [sae.sae_id for sae in choices.saes_for(selection.release, selection.model)]
    # The selection leads; the menus only show it and say when somebody chose something else.
    show(_MODEL, selection.model)
    show(_RELEASE, selection.release)
    show(_SAE, selection.sae_id)
    st.selectbox(
        "Model",
        **options_of(list(models), selection.model),
        format_func=lambda name: models[name],
        key=_MODEL,
        on_change=_chosen,
        args=(_MODEL,),
        help="The language model whose inside is looked at. Type to search. The demo and your own "
        "models come first; the published ones are those that SAEs exist for.",
    )
    st.selectbox(
        "SAE release",
        **options_of(list(titles), selection.release),
        format_func=lambda name: titles[name],
        key=_RELEASE,
        on_change=_chosen,
        args=(_RELEASE,),
        help="SAEs (sparse autoencoders) that were published together, or a folder of yours: where "
        f"they read, and how wide they are. {_FAMILY} marks families: several widths of one site.",
    )
    entries = choices.saes_for(selection.release, selection.model)
    if entries and entries[0].source == "hub":  # the box is too narrow for them
        st.caption(words_of_release(entries))
    st.selectbox(
        "SAE",
        **options_of(saes, selection.sae_id),
        key=_SAE,
        on_change=_chosen,
        args=(_SAE,),
        help="One sparse autoencoder. Its name tells which layer of the model it reads (counted "
        "from 0) and which place in that layer.",
    )


def _latent(selection: Selection, width: int | None) -> None:
    last = None if width is None else width - 1
    show(_LATENT, selection.latent)
    st.number_input(
        "Latent" if last is None else f"Latent (0 to {last})",
        min_value=0,
        max_value=last,
        value=selection.latent,
        step=1,
        key=_LATENT,
        on_change=_chosen,
        args=(_LATENT,),
        help="A latent is one of the directions that the SAE has learnt; ideally it stands for one "
        "idea.",
    )
    with st.container(horizontal=True, gap="small"):
        # Never disabled: the number typed last may be another than the one shown.
        _step("Previous", lambda latent: latent - 1, last)
        _step("Next", lambda latent: latent + 1, last)
        _step("Random", lambda _: _anywhere(width or 1), last)


def _step(label: str, to: Callable[[int], int], last: int | None) -> None:
    st.button(
        label,
        key=f"latent_{label.lower()}",
        on_click=_go_to_latent,
        args=(to, last),
        width="stretch",
    )


def _anywhere(width: int) -> int:
    """A latent at random, of those that were active in a text where one was read."""
    view = view_state.current()
    alive: list[int] = []
    if view.selection is not None and view.entry is not None:
        key = (view.selection.model, *view.selection.sae, view.entry.version)
        alive = recall_alive(resources.store(), key)
    return random.choice(alive) if alive else random.randrange(width)


def _go_to_latent(to: Callable[[int], int], last: int | None) -> None:
    wanted = max(0, to(st.session_state[_LATENT] or 0))
    st.session_state[_LATENT] = wanted if last is None else min(wanted, last)
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


def _release_label(release: ReleaseEntry, saes: Sequence[SaeEntry]) -> str:
    if release.source == "user":
        return f"{release.release} (yours)"
    if release.source == "demo":
        return release.title or release.release
    words = words_of_release(saes)
    mark = f"{_FAMILY} " if "family" in words else ""
    return f"{mark}{release.release} · {words}" if words else release.release


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
