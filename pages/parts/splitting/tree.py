"""Where a latent comes from and what it splits into: the tree, and three ways to find relatives."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.descriptions.table import Descriptions
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import errors, plots, typed
from pages.parts.splitting import chart, search, session

if TYPE_CHECKING:
    from core.splitting.map_data import MapData
    from core.splitting.text_evidence import Evidence

_BY = {"cosine": "Direction", "firing": "What fires where it fires"}
_WAYS = {
    "examples": "Its top examples",
    "text": "A text of yours",
    "descriptions": "Descriptions",
}
_TEXT = "The array is sorted along the given axis, and the sorted array is returned."


def draw(
    data: "MapData",
    selection: Selection,
    row: int | None,
    descriptions: Mapping[str, Descriptions],
    texts: Sequence[str],
    evidence: "Mapping[str, Evidence]",
    *,
    dark: bool,
) -> None:
    """Tree and lists for the chosen latent."""
    if row is None:
        st.caption("Choose a latent on the map first.")
        return
    label, latent = data.latent(row)
    by = session.choice(
        "Related by",
        _BY,
        field="related_by",
        key="tree_by",
        help="Direction: a child's parent is the latent of the narrower SAE whose decoder "
        "direction is most similar. Firing: the latent that most probably fires where the child "
        "does, on the sample of text.",
    )
    with errors.shown_plainly():
        _tree(data, label, latent, by, descriptions, evidence, dark=dark)
    st.markdown("**Relatives in the other SAEs**")
    way = session.choice("Found through", _WAYS, field="found_through", key="tree_way")
    with errors.shown_plainly():
        if way == "text":
            _through_text(data, selection, texts)
        elif way == "descriptions":
            _through_descriptions(data, label, row, descriptions, texts)
        else:
            _through_examples(data, label, latent, texts, evidence)


def _tree(
    data: "MapData",
    label: str,
    latent: int,
    by: str,
    descriptions: Mapping[str, Descriptions],
    evidence: "Mapping[str, Evidence]",
    *,
    dark: bool,
) -> None:
    from core.splitting.firing_children import DENSE
    from core.splitting.tree import cosine_tree, firing_tree
    from core.splitting.tree_figure import tree_figure

    if by == "firing" and not evidence:
        st.info("This needs the sample of text to be read first (see below the map).")
        return
    if by == "firing":
        firings = {name: found.firings.latents for name, found in evidence.items()}
        tree = firing_tree(firings, label, latent)
    else:
        tree = cosine_tree(data.family, label, latent)
    if len(tree.nodes) == 1:
        st.info(_alone(by == "firing" and evidence[label].frequency[latent] > DENSE))
    figure = tree_figure(
        tree,
        descriptions={name: list(described.texts) for name, described in descriptions.items()},
        tokens=data.boosted_by_label,
        frequencies={name: found.frequency.tolist() for name, found in evidence.items()},
        dark=dark,
    )

    def chosen() -> None:
        event: Any = st.session_state["splitting_tree"]
        for point in event.selection.get("points", ()):
            place = point.get("customdata")
            place = place[0] if isinstance(place, list) else place
            if isinstance(place, int) and 0 <= place < len(tree.nodes):
                node = tree.nodes.iloc[place]
                target = data.row(str(node["sae"]), int(node["latent_idx"]))
                if target is not None:
                    chart.choose(data, target)

    plots.draw(
        figure,
        key="splitting_tree",
        theme=None,
        on_select=chosen,
        selection_mode="points",
        config={"displaylogo": False},
    )
    st.caption(f"Numbers on the links: {tree.measure}. A click on a box chooses that latent.")


def _alone(dense: bool) -> str:
    if not dense:
        return "No latent of the other SAEs is related closely enough by this measure."
    return (
        "This latent fires so often that others fire beside it by chance; what fires where it "
        "fires says nothing. Its relatives by direction can still be seen."
    )


def _through_examples(
    data: "MapData",
    label: str,
    latent: int,
    texts: Sequence[str],
    evidence: "Mapping[str, Evidence]",
) -> None:
    from core.splitting.cofiring import cofiring, peak_positions

    if label not in evidence:
        st.info("This needs the sample of text to be read first (see below the map).")
        return
    own = evidence[label].firings
    rows_of_text = own.places // own.context
    peaks = peak_positions(own.latents, latent, n_top=20, documents=rows_of_text)
    if len(peaks) == 0:
        st.info("This latent does not fire on the sample of text.")
        return
    st.caption(
        f"Latents of the other SAEs that fire at its {len(peaks)} strongest examples (one a text), "
        "and how far they agree on the whole sample. Jaccard: positions where both fire, of those "
        "where either does. Share explained: of what all latents of that SAE write along the "
        "chosen direction where it fires, the part that this one writes."
    )
    scaled = [other for other in evidence if other in data.per_input and other != label]
    if scaled:
        st.caption(
            f"Of {', '.join(map(escape_markdown, scaled))}, which normalise each input, what "
            "latents write is compared in units of the input's scale."
        )
    found = []
    for other, seen in evidence.items():
        if other == label:
            continue
        at_peaks = cofiring(
            own.latents, seen.firings.latents, latent, positions=peaks, min_firings=1
        )
        decoder = data.family[other]
        # Rows of a map are what a unit of activation writes.
        along = (decoder.W_dec @ data.family[label].direction(latent)).numpy()
        everywhere = cofiring(
            own.latents, seen.firings.latents, latent, projections=along, min_firings=1
        )
        merged = at_peaks.merge(everywhere, on="latent_idx", suffixes=("_peaks", ""))
        found += [
            (data.row(other, int(row.latent_idx)), row)
            for row in merged.nlargest(8, ["n_joint_peaks", "jaccard"]).itertuples()
        ]
    kept = [(place, row) for place, row in found if place is not None]
    search.latent_table(
        data,
        texts,
        [place for place, _ in kept],
        key="relatives_examples",
        extra={
            "of its examples": [f"{row.n_joint_peaks}/{len(peaks)}" for _, row in kept],
            "Jaccard": [round(float(row.jaccard), 3) for _, row in kept],
            "P(chosen | this)": [round(float(row.p_parent_given_child), 2) for _, row in kept],
            "share explained": [round(float(row.share_explained), 2) for _, row in kept],
        },
    )


def _through_text(data: "MapData", selection: Selection, texts: Sequence[str]) -> None:
    from core.splitting.cofiring import pairs_in_text
    from core.splitting.text_evidence import fires_in_text

    labels = list(data.family)
    text = typed.area("Text", _TEXT, key="tree_text", most=5000, height=90)
    left, right = st.columns(2)
    narrow = left.selectbox("Narrow SAE", labels[:-1] or labels, key="tree_narrow")
    wider = [label for label in labels if data.family[label].width > data.family[narrow].width]
    wide = right.selectbox("Wide SAE", wider or labels, key="tree_wide")
    if not text.strip():
        return
    members = [data.members[narrow], data.members[wide]]
    names = [member.entry.key for member in members]
    ours, theirs = fires_in_text(resources.engine().lease(selection.model, names), text)
    pairs = pairs_in_text(ours.latents, theirs.latents)
    if pairs.empty:
        st.info("No two latents fire together on two tokens of this text; try a longer one.")
        return
    st.caption(
        "Pairs that fire on the same tokens of this text, the most similar patterns first. The "
        "list shows the wide one; its narrow partner is in front."
    )
    rows = [(data.row(wide, int(row.wide_idx)), row) for row in pairs.head(50).itertuples()]
    kept = [(place, row) for place, row in rows if place is not None]
    search.latent_table(
        data,
        texts,
        [place for place, _ in kept],
        key="relatives_text",
        extra={
            "narrow latent": [int(row.narrow_idx) for _, row in kept],
            "both fire on": [int(row.n_joint) for _, row in kept],
            "overlap": [round(float(row.overlap), 2) for _, row in kept],
        },
    )


def _through_descriptions(
    data: "MapData",
    label: str,
    row: int,
    descriptions: Mapping[str, Descriptions],
    texts: Sequence[str],
) -> None:
    from core.splitting.similar_descriptions import similar_descriptions

    query = texts[row]
    if not query:
        st.info("This latent has no description to compare with.")
        return
    others = {
        name: list(described.texts) for name, described in descriptions.items() if name != label
    }
    found = similar_descriptions(query, others, k=8)
    rows = [
        (data.row(relative.sae, int(relative.latent_idx)), relative)
        for relative in found.itertuples()
    ]
    kept = [(place, relative) for place, relative in rows if place is not None]
    st.caption("Latents whose descriptions use the same words (TF-IDF), the most similar first.")
    search.latent_table(
        data,
        texts,
        [place for place, _ in kept],
        key="relatives_descriptions",
        extra={"similarity": [round(float(relative.similarity), 2) for _, relative in kept]},
    )
