"""Which SAEs are on the map, how it is laid out, and what its colours mean."""

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.splitting.members import Member
from core.splitting.view import DEFAULT, MapView
from pages.parts.page_state import options_of, show
from pages.parts.splitting import session

_COLOURS = {
    "width": "Width of the SAE",
    "cluster": "Cluster",
    "frequency": "How often it fires",
    "similarity": "Similarity to the chosen latent",
    "output": "Output score (steering)",
    "input": "Input score (steering)",
}
_SETTINGS = (
    "n_neighbors",
    "min_dist",
    "seed",
    "n_neighbors_cluster",
    "min_dist_cluster",
    "min_cluster_size",
)


def draw(members: Sequence[Member], shown: Sequence[str], view: MapView) -> DeltaGenerator:
    """The controls above the map; the room beside them, for the search."""
    titles = {member.label: member.title for member in members}
    show("map_saes", list(shown))
    show("map_colour", view.colour)
    st.multiselect(
        "SAEs on the map",
        list(titles),
        format_func=lambda label: titles[label],
        default=list(shown),
        key="map_saes",
        on_change=_saes_chosen,
        help="SAEs that read the same place of the model, so that their latents can be compared: "
        "one map is made of all that are chosen.",
    )
    left, right = st.columns(2, vertical_alignment="bottom", gap="medium")
    with left.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.selectbox(
            "Colour",
            **options_of(list(_COLOURS), view.colour),
            format_func=_COLOURS.__getitem__,
            key="map_colour",
            on_change=_colour_chosen,
            width=185,
        )
        st.toggle(
            "Clusters",
            help="Groups of latents with similar directions: HDBSCAN on a 10-dimensional UMAP.",
            **session.widget(
                "map_clusters",
                "clusters",
                colour="width" if view.colour == "cluster" else view.colour,
            ),
        )
        with st.popover("Settings", icon=":material/tune:"):
            _hide_dead()
            _settings(view)
    return right


def _hide_dead() -> None:
    st.toggle(
        "Hide dead latents",
        help="Leave out latents that never fire, by what was published with their SAE, or else "
        "on the sample of text.",
        **session.widget("map_hide_dead", "hide_dead"),
    )


def _settings(view: MapView) -> None:
    for name in _SETTINGS:
        show(f"map_{name}", getattr(view, name))
    with st.form("map_settings", border=False):
        st.markdown("**Map** (2 dimensions, cosine distance)")
        left, right = st.columns(2)
        left.number_input(
            "Neighbours",
            2,
            200,
            value=view.n_neighbors,
            key="map_n_neighbors",
            help="Few show local structure, many the overall arrangement.",
        )
        right.number_input(
            "Least distance",
            0.0,
            1.0,
            step=0.01,
            value=view.min_dist,
            key="map_min_dist",
            help="How tightly points may be packed.",
        )
        st.markdown("**Clusters** (10 dimensions)")
        left, right = st.columns(2)
        left.number_input(
            "Neighbours", 2, 200, value=view.n_neighbors_cluster, key="map_n_neighbors_cluster"
        )
        right.number_input(
            "Least distance",
            0.0,
            1.0,
            step=0.01,
            value=view.min_dist_cluster,
            key="map_min_dist_cluster",
        )
        left, right = st.columns(2)
        left.number_input(
            "Least size",
            2,
            1000,
            value=view.min_cluster_size,
            key="map_min_cluster_size",
            help="Fewest latents that make a cluster; the rest is called noise.",
        )
        right.number_input(
            "Seed",
            0,
            2**31 - 1,
            value=view.seed,
            key="map_seed",
            help="The same seed gives the same map.",
        )
        st.form_submit_button("Apply", type="primary", on_click=_settings_applied)
    st.button("Back to the defaults", on_click=_defaults, key="map_defaults")


def _saes_chosen() -> None:
    chosen = tuple(st.session_state["map_saes"])
    if chosen:
        session.choose_saes(chosen)


def _colour_chosen() -> None:
    colour = st.session_state["map_colour"]
    session.change(colour=colour, clusters=session.current().clusters or colour == "cluster")


def _settings_applied() -> None:
    session.change(**{name: st.session_state[f"map_{name}"] for name in _SETTINGS})


def _defaults() -> None:
    session.change(**{name: getattr(DEFAULT, name) for name in _SETTINGS})
