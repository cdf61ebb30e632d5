"""Circuits: sums where the model is linear, interventions, and pruning against brute force."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.circuits.graph import LATENT, REST, TOKEN, Circuit, Pruning, most_flow
from core.circuits.steps import LatentEnd, LogitEnd, Nodes, step_route
from core.circuits.trace import trace_circuit
from core.gradients.verify import intervene
from core.lease import PlainLease
from core.models import Model, cache_sites
from core.saes import encode, reconstruct
from tests.builders import make_sae

pytestmark = pytest.mark.slow

SITES = ("blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre")
ALL = Pruning(node_share=1.0, edge_share=1.0, most_nodes=10_000)
HELD = {"freeze_attention": True, "freeze_layer_norm": True}


def sae_at(site: str, seed: int) -> SAE:
    return make_sae("standard", d_in=32, d_sae=40, hook_name=site, seed=seed)


@pytest.fixture(scope="module")
def saes() -> list[SAE]:
    return [sae_at(site, seed) for seed, site in enumerate(SITES)]


@pytest.fixture(scope="module")
def tokens(tiny_tokens: Tensor) -> Tensor:
    return tiny_tokens[:1, :5]


@pytest.fixture(scope="module")
def whole(tiny_hooked: Model, saes: list[SAE], tokens: Tensor) -> Circuit:
    """Everything that feeds the likeliest token, nothing pruned."""
    return trace_circuit(PlainLease(tiny_hooked, saes), tokens, LogitEnd(), pruning=ALL)


def edges_into(circuit: Circuit, row: int) -> Any:
    return circuit.edges[circuit.edges["target"] == row]


def test_edges_into_a_node_add_up_where_the_model_is_linear(
    tiny_hooked: Model, tokens: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between these two sites there is attention only, which is linear once patterns are held, and
    # the norm before it once its scale is.
    first = sae_at("blocks.1.hook_resid_pre", 1)
    second = sae_at("blocks.1.hook_resid_mid", 2)
    clean = cache_sites(tiny_hooked, tokens, ["blocks.1.hook_resid_mid"])
    acts = encode(second, clean["blocks.1.hook_resid_mid"])[0, -1]
    latent = int(acts.argmax())
    end = LatentEnd(tokens.shape[1] - 1, latent)
    found = trace_circuit(
        PlainLease(tiny_hooked, [first, second]), tokens, end, pruning=ALL, **HELD
    )
    row = len(found.nodes) - 1
    total = float(edges_into(found, row)["weight"].sum())
    # What the latent's pre-activation comes to without the biases of encoder and attention.
    attention = tiny_hooked.blocks[1].attn
    bias = attention.b_V.flatten() @ attention.W_O.flatten(0, 1) + attention.b_O
    direction = second.W_enc[:, latent]
    constant = float((bias - second.b_dec) @ direction + second.b_enc[latent])
    assert total + constant == pytest.approx(float(acts[latent]), rel=1e-4)
    assert found.nodes["value"].iloc[row] == pytest.approx(float(acts[latent]))
    assert found.kept[:-1] == pytest.approx([1.0] * (len(found.layers) - 1))


def test_sources_add_up_to_what_stands_at_the_site(
    tiny_model: Model, tokens: Tensor, saes: list[SAE]
) -> None:
    site = SITES[1]
    clean = cache_sites(tiny_model, tokens, [site])[site]
    one = np.ones(1)
    end = Nodes(np.array([LATENT], dtype=object), np.array([4]), np.array([0]), one, one, one)
    route = step_route(tiny_model, tokens, saes[1], saes[2], end)
    total = torch.zeros_like(clean)
    for position in range(clean.shape[1]):
        at = route.sources.positions == position
        total[0, position] = (route.sources.rows[at] * route.source_values[at, None]).sum(0)
    torch.testing.assert_close(total, clean)
    # The rest is the SAE's error and its bias.
    rest = route.sources.rows[route.source_indices[:, 2] < 0]
    torch.testing.assert_close(rest, (clean - reconstruct(saes[1], clean))[0] + saes[1].b_dec)


def test_edges_agree_with_interventions(
    tiny_hooked: Model, tokens: Tensor, saes: list[SAE], whole: Circuit
) -> None:
    nodes = whole.nodes
    layer = 2
    targets = nodes[(nodes["layer"] == layer + 1) & (nodes["kind"] == LATENT)].head(3)
    kept = Nodes(
        targets["kind"].to_numpy(),
        targets["position"].to_numpy(),
        targets["index"].to_numpy(),
        targets["value"].to_numpy(),
        np.ones(len(targets)),
        np.ones(len(targets)),
    )
    route = step_route(tiny_hooked, tokens, saes[layer - 1], saes[layer], kept)
    names = {(int(p), int(i)): n for n, (_, p, i) in enumerate(route.source_indices.tolist())}
    checked = 0
    for number, row in enumerate(targets.index):
        strongest = edges_into(whole, row).head(4)
        for edge in strongest.itertuples():
            source = nodes.iloc[edge.source]
            place = names[(int(source["position"]), int(source["index"]))]
            step = 1e-3
            before, after = intervene(
                route,
                torch.tensor([place]),
                torch.tensor([number]),
                step * route.source_values[[place]],
            )
            actual = float(after - before) / step
            assert actual == pytest.approx(edge.weight, rel=0.03, abs=2e-3)
            checked += 1
    assert checked >= 8


def brute_force_paths(circuit: Circuit) -> list[tuple[float, tuple[int, ...]]]:
    """Weight of every path from every node to the end: activation times the gradients on it."""
    nodes, last = circuit.nodes, len(circuit.nodes) - 1
    into: dict[int, list[tuple[int, float]]] = {}
    for edge in circuit.edges.itertuples():
        slope = edge.weight / nodes["value"].iloc[edge.source]
        into.setdefault(edge.target, []).append((edge.source, slope))
    found = []
    stack = [(last, 1.0, (last,))]
    while stack:
        node, slope, path = stack.pop()
        found.append((float(nodes["value"].iloc[node]) * slope, path))
        if nodes["kind"].iloc[node] != REST:
            for source, further in into.get(node, []):
                stack.append((source, slope * further, (source, *path)))
    return found


@pytest.fixture(scope="module")
def small(tiny_hooked: Model, saes: list[SAE], tokens: Tensor) -> Circuit:
    """Few enough nodes for all paths to be written down."""
    return trace_circuit(
        PlainLease(tiny_hooked, saes[1:]), tokens, LogitEnd(), pruning=Pruning(1.0, 1.0, 9)
    )


def test_flow_and_influence_are_sums_over_all_paths(small: Circuit) -> None:
    paths = brute_force_paths(small)
    for row, node in small.nodes.iterrows():
        own = [weight for weight, path in paths if path[0] == row]
        assert node["flow"] == pytest.approx(sum(abs(it) for it in own), rel=1e-5)
        assert node["influence"] == pytest.approx(sum(own), rel=1e-4, abs=1e-6 * node["flow"])
    for edge in small.edges.sample(40, random_state=0).itertuples():
        through = [w for w, path in paths if path[:2] == (edge.source, edge.target)]
        assert edge.flow == pytest.approx(sum(abs(it) for it in through), rel=1e-5)
        assert edge.influence == pytest.approx(sum(through), rel=1e-4, abs=1e-6 * edge.flow)


def names_of(circuit: Circuit, path: tuple[int, ...]) -> list[tuple[Any, ...]]:
    columns = ["layer", "kind", "position", "index"]
    return [tuple(circuit.nodes.loc[row, columns]) for row in path]


def test_pruning_keeps_the_strongest_paths(
    tiny_hooked: Model, saes: list[SAE], tokens: Tensor, small: Circuit
) -> None:
    pruned = trace_circuit(
        PlainLease(tiny_hooked, saes[1:]), tokens, LogitEnd(), pruning=Pruning(0.7, 1.0, 9)
    )
    assert len(pruned.nodes) < len(small.nodes)
    left = {tuple(it) for it in names_of(pruned, tuple(range(len(pruned.nodes))))}
    paths = sorted(brute_force_paths(small), key=lambda it: -abs(it[0]))
    for first_layer in range(3):
        of_layer = [it for it in paths if small.nodes["layer"].iloc[it[1][0]] == first_layer]
        weight, path = of_layer[0]
        assert set(names_of(small, path)) <= left, (first_layer, weight)


def test_most_flow_against_brute_force() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        flow = generator.exponential(size=7)
        flow[generator.integers(7)] = 0
        share = float(generator.uniform(0.1, 1))
        kept = most_flow(flow, share)
        sizes = [
            n
            for n in range(8)
            for chosen in itertools.combinations(range(7), n)
            if flow[list(chosen)].sum() >= share * flow.sum() * (1 - 1e-9)
        ]
        assert kept.sum() == min(sizes)
        assert flow[kept].sum() >= share * flow.sum() * (1 - 1e-9)
        assert most_flow(flow, share, 2).sum() == min(2, kept.sum())
    assert not most_flow(np.zeros(3), 1.0).any()


def test_a_circuit_of_the_demo_kind(whole: Circuit, tokens: Tensor, tiny_hooked: Model) -> None:
    assert whole.layers == ("tokens", "F0", "F1", "F2", "logit")
    assert set(whole.nodes["kind"]) == {TOKEN, LATENT, REST, "logit"}
    logits = tiny_hooked(tokens)[0, -1]
    end = whole.nodes.iloc[-1]
    assert end["index"] == int(logits.argmax())
    assert end["value"] == pytest.approx(float(logits.max()))
    first = whole.nodes.iloc[0]
    assert whole.node(0, int(first["position"]), int(first["index"])) == 0
    assert whole.node(0, 0, -7) is None
    assert whole.edges["flow"].is_monotonic_decreasing


PARTS = (
    "blocks.0.attn.hook_z",
    "blocks.0.hook_mlp_out",
    "blocks.1.attn.hook_z",
    "blocks.1.hook_mlp_out",
)


@pytest.mark.parametrize("end_site", ["blocks.2.hook_resid_pre", "logit"])
def test_what_flows_past_attention_and_mlps_adds_up(
    any_model: Model, tokens: Tensor, end_site: str
) -> None:
    # With patterns and scales held and an SAE on all heads and MLPs, all is linear in what their
    # latents, what these leave over, and the tokens write to the stream.
    chain = [sae_at(site, seed) for seed, site in enumerate(PARTS)]
    if end_site == "logit":
        chain += [sae_at(f"blocks.2.{it}", 7) for it in ("attn.hook_z", "hook_mlp_out")]
        end: Any = LogitEnd()
    else:
        last = sae_at(end_site, 9)
        clean = cache_sites(any_model, tokens, [end_site])[end_site]
        latent = int(encode(last, clean)[0, -1].argmax())
        chain.append(last)
        end = LatentEnd(tokens.shape[1] - 1, latent)
    found = trace_circuit(PlainLease(any_model, chain), tokens, end, pruning=ALL, **HELD)
    row = len(found.nodes) - 1
    into = edges_into(found, row)
    layers = set(found.nodes["layer"].iloc[into["source"]])
    assert layers == set(range(len(found.layers) - 1))
    # What is left are constants: the biases of heads' outputs, of the reader, and of the decoders
    # of norms. MLP outputs hold their own bias, and so does the sum of the embeddings.
    total = float(into["weight"].sum())
    value = float(found.nodes["value"].iloc[row])
    biases = sum(any_model.blocks[n].attn.b_O for n in range(2 + (end_site == "logit")))
    if end_site == "logit":
        scale = cache_sites(any_model, tokens, ["ln_final.hook_scale"])["ln_final.hook_scale"]
        token = int(found.nodes["index"].iloc[row])
        direction = any_model.W_U[:, token]
        direction = (direction - direction.mean()) / scale[0, -1, 0]
        constant = float(biases @ direction + any_model.b_U[token])
    else:
        direction = last.W_enc[:, latent]
        constant = float((biases - last.b_dec) @ direction + last.b_enc[latent])
    assert total + constant == pytest.approx(value, rel=2e-4, abs=2e-4)
    # Without what flows past, it would not.
    beside = found.nodes["layer"].iloc[into["source"]].to_numpy() < len(found.layers) - 2
    assert abs(float(into["weight"][beside].sum())) > 0.02 * abs(value)


def test_a_path_past_an_sae_agrees_with_an_intervention(tiny_hooked: Model, tokens: Tensor) -> None:
    first, heads, last = (
        sae_at(site, seed)
        for seed, site in enumerate(
            ("blocks.1.hook_resid_pre", "blocks.1.attn.hook_z", "blocks.2.hook_resid_pre")
        )
    )
    sites = [it.cfg.metadata.hook_name for it in (first, heads, last)]
    clean = cache_sites(tiny_hooked, tokens, sites)
    latent = int(encode(last, clean[sites[2]])[0, -1].argmax())
    end = LatentEnd(tokens.shape[1] - 1, latent)
    found = trace_circuit(PlainLease(tiny_hooked, [first, heads, last]), tokens, end, pruning=ALL)
    into = edges_into(found, len(found.nodes) - 1)
    past = into[found.nodes["layer"].iloc[into["source"]].to_numpy() == 1]
    past = past[found.nodes["kind"].iloc[past["source"]].to_numpy() == LATENT]
    assert len(past) > 3
    for edge in past.sort_values("flow", ascending=False).head(4).itertuples():
        node = found.nodes.iloc[edge.source]
        changed = []
        for step in (-1e-3, 1e-3):
            stream = clean[sites[0]].clone()
            direction = first.W_dec[int(node["index"])] * node["value"]
            stream[0, int(node["position"])] += step * direction
            # What the heads find is kept: that is told by the SAE in between.
            logits = {}

            def keep(activations: Tensor, hook: Any, logits: dict[str, Tensor] = logits) -> None:
                logits["stream"] = activations

            tiny_hooked.run_with_hooks(
                tokens,
                fwd_hooks=[
                    (sites[0], lambda x, hook, stream=stream: stream),
                    (sites[1], lambda x, hook: clean[sites[1]]),
                    (sites[2], keep),
                ],
            )
            read = logits["stream"][0, -1]
            changed.append(float((read - last.b_dec) @ last.W_enc[:, latent]))
        actual = (changed[1] - changed[0]) / 2e-3
        assert actual == pytest.approx(edge.weight, rel=0.03, abs=2e-3)


def test_what_it_refuses(tiny_hooked: Model, saes: list[SAE], tokens: Tensor) -> None:
    with pytest.raises(ValueError, match="no SAE"):
        trace_circuit(PlainLease(tiny_hooked, []), tokens, LogitEnd())
    with pytest.raises(ValueError, match="comes before"):
        trace_circuit(PlainLease(tiny_hooked, saes[::-1]), tokens, LogitEnd())
    with pytest.raises(ValueError, match="one at a time"):
        trace_circuit(PlainLease(tiny_hooked, saes), tokens.repeat(2, 1), LogitEnd())
    with pytest.raises(ValueError, match="not in the vocabulary"):
        trace_circuit(PlainLease(tiny_hooked, saes), tokens, LogitEnd(10**6))
    with pytest.raises(ValueError, match="no latent 4000"):
        trace_circuit(PlainLease(tiny_hooked, saes), tokens, LatentEnd(0, 4000))
    clean = cache_sites(tiny_hooked, tokens, [SITES[2]])[SITES[2]]
    silent = int((encode(saes[2], clean)[0, 3] == 0).nonzero()[0, 0])
    with pytest.raises(ValueError, match="not active"):
        trace_circuit(PlainLease(tiny_hooked, saes), tokens, LatentEnd(3, silent))
    for wrong in ({"node_share": 0.0}, {"edge_share": 1.5}, {"most_nodes": 0}):
        with pytest.raises(ValueError, match=r"leave nothing|use a share"):
            Pruning(**wrong)
