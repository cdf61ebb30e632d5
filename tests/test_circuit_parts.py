"""Parts of circuits: pinned nodes against a sum over all paths, groups, layout, links."""

import itertools

import numpy as np
import pandas as pd
import pytest

from core.circuits.figure import circuit_figure
from core.circuits.graph import LATENT, LOGIT, TOKEN, Circuit
from core.circuits.layout import LABEL_HEIGHT, LABEL_WIDTH, cut_label, lay_out
from core.circuits.subgraph import GROUP, place_of, rows_of, shown_part
from core.gradients.page_view import LINK

LAYERS = 4
PER_LAYER = 4


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    """Tokens, two layers of latents and one end, with edges also past a layer, all at random."""
    random = np.random.default_rng(3)
    kinds = [TOKEN, LATENT, LATENT, LOGIT]
    rows = [
        {"layer": layer, "kind": kinds[layer], "position": at % 3 * 4, "index": 10 * layer + at}
        for layer in range(LAYERS)
        for at in range(PER_LAYER if layer < LAYERS - 1 else 1)
    ]
    nodes = pd.DataFrame(rows)
    n = len(nodes)
    value = random.normal(size=n) + 3.0
    slopes = random.normal(size=(n, n))  # of each target (first) by each source
    later = nodes["layer"].to_numpy()[:, None] > nodes["layer"].to_numpy()[None, :]
    slopes *= later & (random.random((n, n)) < 0.8)
    gradient, reach = np.zeros(n), np.zeros(n)
    gradient[-1] = reach[-1] = 1.0
    for row in reversed(range(n - 1)):
        gradient[row] = slopes[:, row] @ gradient
        reach[row] = np.abs(slopes[:, row]) @ reach
    target, source = np.nonzero(slopes)
    weight = slopes[target, source] * value[source]
    edges = pd.DataFrame(
        {
            "source": source,
            "target": target,
            "weight": weight,
            "influence": weight * gradient[target],
            "flow": np.abs(weight) * reach[target],
        }
    )
    nodes = nodes.assign(value=value, influence=value * gradient, flow=np.abs(value) * reach)
    layers = ("tokens", "a", "b", "logits")
    return Circuit(nodes, edges, layers, (1.0,) * 4, (0.0,) * 4, tuple(range(9)))


def labels_of(circuit: Circuit) -> list[str]:
    return [f"node {row}" for row in range(len(circuit.nodes))]


def paths_between(circuit: Circuit, source: int, target: int, forbidden: set[int]) -> list[float]:
    """What each path through nodes that are not forbidden contributes to its target."""
    weight = {(int(e.source), int(e.target)): float(e.weight) for e in circuit.edges.itertuples()}
    value = circuit.nodes["value"].tolist()
    between = [row for row in range(len(value)) if row not in forbidden | {source, target}]
    found = []
    for n in range(LAYERS):
        for middle in itertools.permutations(between, n):
            steps = list(itertools.pairwise((source, *middle, target)))
            if all(step in weight for step in steps):
                product = np.prod([weight[step] for step in steps])
                found.append(float(product / np.prod([value[row] for row in middle])))
    return found


def test_pinned_nodes_keep_what_flows_between_them_on_every_path(circuit: Circuit) -> None:
    end = len(circuit.nodes) - 1
    pinned = [0, 2, 5, 9]
    shown = shown_part(circuit, labels_of(circuit), pinned=pinned)
    assert [rows[0] for rows in shown.members] == [*pinned, end]
    edges = {
        (shown.members[int(e.source)][0], shown.members[int(e.target)][0]): e
        for e in shown.circuit.edges.itertuples()
    }
    rows = [*pinned, end]
    n_indirect = 0
    for source, target in itertools.permutations(rows, 2):
        parts = paths_between(circuit, source, target, set(rows))
        if not parts:
            assert (source, target) not in edges
            continue
        n_indirect += len(parts) > 1
        assert edges[source, target].weight == pytest.approx(sum(parts), rel=1e-9)
        reach = circuit.nodes["flow"] / circuit.nodes["value"].abs()
        flow = sum(map(abs, parts)) * reach.iloc[target]
        flow = flow if target != end else sum(map(abs, parts))
        assert edges[source, target].flow == pytest.approx(flow, rel=1e-9)
    assert n_indirect > 3
    # All that a pinned token adds to the end arrives there.
    out = shown.circuit.edges
    total = out.loc[out["source"] == 0, "influence"].sum()
    assert total == pytest.approx(circuit.nodes["influence"].iloc[0], rel=1e-9)


def test_a_group_is_the_sum_of_its_members(circuit: Circuit) -> None:
    members = [4, 6, 7]
    shown = shown_part(circuit, labels_of(circuit), groups=[("axes", members)])
    row = shown.row_of(6)
    assert row is not None
    assert shown.labels[row] == "axes"
    node = shown.circuit.nodes.iloc[row]
    assert node["kind"] == GROUP
    whole = circuit.nodes.iloc[members]
    assert node["value"] == pytest.approx(whole["value"].sum())
    assert node["influence"] == pytest.approx(whole["influence"].sum())
    for own, column in (("source", "target"), ("target", "source")):
        theirs = circuit.edges[circuit.edges[own].isin(members)]
        mine = shown.circuit.edges[shown.circuit.edges[own] == row]
        assert mine["influence"].sum() == pytest.approx(theirs["influence"].sum())
        assert len(mine) == theirs[column].nunique()
    assert len(shown.circuit.nodes) == len(circuit.nodes) - 2
    assert shown.circuit.nodes["kind"].iloc[-1] == LOGIT


def test_groups_that_would_be_wrong_are_refused(circuit: Circuit) -> None:
    labels = labels_of(circuit)
    with pytest.raises(ValueError, match="group nodes of one layer"):
        shown_part(circuit, labels, groups=[("mixed", [1, 5])])
    with pytest.raises(ValueError, match="is in two groups; take it out of 'b'"):
        shown_part(circuit, labels, groups=[("a", [4, 5]), ("b", [5, 6])])


def test_links_carry_pinned_nodes_and_groups(circuit: Circuit) -> None:
    places = tuple(place_of(circuit, row) for row in (1, 5, 6))
    view = LINK.parse({})[0]
    changed = type(view)(pinned=places, groups=(('the "axis", 1', places[1:]),), only_pinned=True)
    read, problems = LINK.parse(LINK.to_parameters(changed))
    assert read == changed
    assert not problems
    assert rows_of(circuit, (*read.pinned, (1, 99, 4))) == (1, 5, 6)
    for parameter, text, said in (
        ("pinned", "1.2", "write layer.position.index"),
        ("pinned", "1.2.x", "not a whole number"),
        ("groups", "[1]", "not a list of names with nodes"),
        ("groups", '[["a", 3]]', "not a list of names with nodes"),
    ):
        _, problems = LINK.parse({parameter: text})
        assert said in problems[0]


@pytest.mark.parametrize(("n", "n_positions"), [(1, 1), (12, 1), (40, 3), (60, 12)])
def test_no_label_covers_another_and_empty_positions_take_no_room(n: int, n_positions: int) -> None:
    random = np.random.default_rng(n)
    nodes = pd.DataFrame(
        {
            "layer": random.integers(0, 4, n),
            "position": random.integers(0, n_positions, n) * 7,  # most positions are empty
            "influence": random.normal(size=n),
        }
    )
    layout = lay_out(nodes, 4)
    x, y = layout.places[:, 0], layout.places[:, 1]
    apart = (np.abs(x[:, None] - x) >= LABEL_WIDTH) | (np.abs(y[:, None] - y) >= LABEL_HEIGHT)
    assert (apart | np.eye(n, dtype=bool)).all()
    assert layout.positions == tuple(sorted(nodes["position"].unique()))
    assert x.max() + LABEL_WIDTH <= layout.width + 1e-9
    assert y.min() - LABEL_HEIGHT / 2 + 1e-9 >= 0
    assert y.max() + LABEL_HEIGHT / 2 <= layout.height
    # Later positions stand further right, later layers higher.
    assert (np.diff(layout.columns) >= LABEL_WIDTH).all()
    assert (np.diff(layout.layers) > 0).all()
    for layer in range(4):
        assert y[nodes["layer"] < layer].max(initial=0) < y[nodes["layer"] == layer].min(
            initial=1e9
        )


def test_labels_are_cut_to_the_room_beside_a_node() -> None:
    assert cut_label("the mean  of\nan axis") == "the mean of an axis"
    assert cut_label("x" * 40) == "x" * 22 + "…"
    assert cut_label("軸" * 40) == "軸" * 10 + "…"


def test_the_picture_names_its_nodes_and_says_what_they_are(circuit: Circuit) -> None:
    labels = labels_of(circuit)
    shown = shown_part(circuit, labels, groups=[("my <b> group", [8, 9])])
    figure = circuit_figure(
        shown.circuit,
        tokens=[f" t{n}" for n in range(9)],
        layer_titles=circuit.layers,
        labels=shown.labels,
        descriptions={4: "words about <axes> of arrays"},
        pinned={4},
    )
    nodes = figure.data[-1]
    assert nodes.text[4] == "<b>10</b><br>words about &lt;axes&gt; of…"
    assert any("my &lt;b&gt; group" in text for text in nodes.text)
    assert [data[0] for data in nodes.customdata] == list(range(len(shown.labels)))
    assert list(figure.layout.xaxis.ticktext) == ["' t0' (0)", "' t4' (4)", "' t8' (8)"]
    assert figure.layout.width >= max(nodes.x) + LABEL_WIDTH
