"""Induction: on a model that does it (the demo's), and on the pieces that measure it."""

import numpy as np
import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.gradients.heads import head_scores, induction_layers
from core.gradients.induction import (
    BoxShare,
    Induction,
    box_positions,
    find_induction,
)
from core.gradients.repeated_tokens import repeated_tokens
from core.lease import PlainLease
from core.models import Model, cache_sites, load_model
from core.saes import encode, load_sae_from_disk, sae_hook_name
from core.settings import REPOSITORY
from tests.builders import make_sae

DEMO = REPOSITORY / "demo"


@pytest.fixture(scope="module")
def demo_model() -> Model:
    return load_model(DEMO / "models/docs-small", device="cpu")


@pytest.fixture(scope="module")
def demo_saes(demo_model: Model) -> list[SAE]:
    """The demo's attention SAEs at its strongest previous-token and induction heads."""
    found = head_scores(demo_model, repeated_tokens(demo_model, 10, n_prompts=4))
    pair = induction_layers(found, range(demo_model.cfg.n_layers))
    assert pair is not None
    return [
        load_sae_from_disk(DEMO / f"saes/docs-small-hook-z/blocks.{it}.hook_z", device="cpu")
        for it in pair
    ]


@pytest.fixture(scope="module")
def demo_induction(demo_model: Model, demo_saes: list[SAE]) -> Induction:
    lease = PlainLease(demo_model, demo_saes)
    return find_induction(lease, repeated_tokens(demo_model, 10, n_prompts=3))


def test_the_demo_does_induction(demo_induction: Induction) -> None:
    assert len(demo_induction.latents) > 0
    assert demo_induction.boxes.ratio > 1.5
    assert demo_induction.boxes.ratio > 1.5 * demo_induction.control_boxes.ratio
    assert set(demo_induction.partners["to_latent"]) <= set(demo_induction.latents["latent"])
    assert demo_induction.gradients.abs().max() > 0


def test_figures_add_up(demo_induction: Induction, demo_saes: list[SAE], demo_model: Model) -> None:
    found, second = demo_induction, demo_saes[1]
    to, source = found.targets, found.sources
    places = [[tuple(it) for it in axis.tolist()] for axis in (to, source)]
    gradients = found.gradients.numpy()
    inside = total = causal = cells = 0.0
    boxes = set(box_positions(found.length))
    for i, j in np.ndindex(*found.gradients.shape):
        (to_prompt, to_position, _), (prompt, position, _) = places[0][i], places[1][j]
        size = abs(float(gradients[i, j]))
        if to_prompt != prompt or position > to_position:
            assert size == 0
            continue
        is_inside = (position, to_position) in boxes
        total, causal = total + size, causal + 1
        inside, cells = inside + size * is_inside, cells + is_inside
    assert found.boxes.share == pytest.approx(inside / total, rel=1e-4)
    assert found.boxes.chance == pytest.approx(cells / causal)
    site = sae_hook_name(second)
    acts = encode(second, cache_sites(demo_model, found.tokens, [site])[site])
    acts = acts[:, found.length + 1 :] > 0
    for row in found.latents.itertuples():
        assert row.fraction_true == pytest.approx(float(acts[..., row.latent].float().mean()))
        assert row.throughout or row.gain >= 0.25
    pair = found.partners.iloc[0]
    wanted = to[:, 2] == int(pair["to_latent"])
    columns = source[:, 2] == int(pair["from_latent"])
    slopes = [
        float(found.gradients[i, j])
        for i in wanted.nonzero()[:, 0].tolist()
        for j in columns.nonzero()[:, 0].tolist()
        if to[i, 0] == source[j, 0] and (int(source[j, 1]), int(to[i, 1])) in boxes
    ]
    assert pair["boxes"] == len(slopes)
    assert pair["gradient"] == pytest.approx(np.mean(slopes), rel=1e-4)


def test_repeated_tokens(tiny_model: Model) -> None:
    tokens = repeated_tokens(tiny_model, 7, n_prompts=3, seed=4)
    assert tokens.shape == (3, 15)
    assert (tokens[:, 0] == 0).all()
    assert torch.equal(tokens[:, 1:8], tokens[:, 8:])
    assert int(tokens[:, 1:].min()) >= 4
    assert all(len(row[1:8].unique()) == 7 for row in tokens)
    assert torch.equal(tokens, repeated_tokens(tiny_model, 7, n_prompts=3, seed=4))
    assert not torch.equal(tokens, repeated_tokens(tiny_model, 7, n_prompts=3, seed=5))
    other = repeated_tokens(tiny_model, 7, seed=4, repeated=False)
    assert torch.equal(other[0, :8], tokens[0, :8])
    assert not torch.isin(other[0, 8:], other[0, :8]).any()
    for length in (1, 32):
        with pytest.raises(ValueError, match="can repeat 2 to 31"):
            repeated_tokens(tiny_model, length)


def test_boxes_link_a_token_to_its_successor() -> None:
    words = ["BOS", *"ABCD", *"ABCD"]
    for first_b, second_a in box_positions(4):
        # What stands before the first B stands at the second A.
        assert words[first_b - 1] == words[second_a]
    assert len(box_positions(4)) == 4


def test_head_scores(any_model: Model) -> None:
    tokens = repeated_tokens(any_model, 5, n_prompts=2)
    found = head_scores(any_model, tokens)
    assert len(found) == 12
    pattern = cache_sites(any_model, tokens, ["blocks.1.attn.hook_pattern"])
    pattern = pattern["blocks.1.attn.hook_pattern"]
    row = found[(found["layer"] == 1) & (found["head"] == 2)].iloc[0]
    previous = np.mean([[float(p[2, q, q - 1]) for q in range(1, 11)] for p in pattern])
    induction = np.mean([[float(p[2, q, q - 4]) for q in range(6, 11)] for p in pattern])
    assert row["previous_token"] == pytest.approx(previous, rel=1e-4)
    assert row["induction"] == pytest.approx(induction, rel=1e-4)


def test_on_a_model_without_induction(any_model: Model) -> None:
    saes = [
        make_sae("topk", d_in=32, d_sae=48, hook_name=f"blocks.{i}.attn.hook_z", seed=i)
        for i in (1, 2)
    ]
    lease, tokens = PlainLease(any_model, saes), repeated_tokens(any_model, 6, n_prompts=2)
    found = find_induction(lease, tokens, min_fraction=0.5)
    assert not torch.isin(found.control_tokens[0, 7:], found.tokens[0]).any()
    assert torch.equal(found.control_tokens[:, :7], found.tokens[:, :7])
    assert found.boxes.ratio < 3
    none = find_induction(lease, tokens, min_gain=2)
    strict = none.latents[none.latents["throughout"]]
    assert len(strict) == len(none.latents)


def test_own_tokens(any_model: Model, tiny_tokens: Tensor) -> None:
    saes = [
        make_sae("topk", d_in=32, d_sae=48, hook_name=f"blocks.{i}.attn.hook_z", seed=i)
        for i in (1, 2)
    ]
    tokens = repeated_tokens(any_model, 5)[0]
    found = find_induction(PlainLease(any_model, saes), tokens, min_fraction=0.2)
    assert found.length == 5
    assert torch.equal(found.tokens[0], tokens)


def test_what_it_refuses(any_model: Model) -> None:
    attention = make_sae("topk", d_in=32, d_sae=48, hook_name="blocks.1.attn.hook_z")
    stream = make_sae("topk", d_in=32, d_sae=48, hook_name="blocks.2.hook_resid_pre")
    tokens = repeated_tokens(any_model, 5)
    with pytest.raises(ValueError, match="hook_z"):
        find_induction(PlainLease(any_model, [attention, stream]), tokens)
    with pytest.raises(ValueError, match="min_fraction"):
        find_induction(PlainLease(any_model, [attention] * 2), tokens, min_fraction=0)


def test_share_without_gradients() -> None:
    assert np.isnan(BoxShare(float("nan"), 0.0).ratio)


def test_without_bos_in_front(any_model: Model) -> None:
    """For SAEs that were trained without: the same halves and boxes, one place earlier."""
    early, late = (
        make_sae(
            "standard",
            d_in=32,
            d_sae=16,
            hook_name=f"blocks.{layer}.attn.hook_z",
            seed=layer,
            prepend_bos=False,
        )
        for layer in (0, 1)
    )
    tokens = repeated_tokens(any_model, 5, saes=[early, late], n_prompts=2)
    with_bos = repeated_tokens(any_model, 5, n_prompts=2)
    assert torch.equal(tokens, with_bos[:, 1:])
    assert torch.equal(tokens[:, :5], tokens[:, 5:])
    boxes = box_positions(5, n_leading=0)
    assert boxes == [(b - 1, a - 1) for b, a in box_positions(5)]
    for first_b, second_a in boxes:
        assert tokens[0, first_b - 1] == tokens[0, second_a], "a box sits behind the earlier copy"
    pattern = cache_sites(any_model, tokens, ["blocks.1.attn.hook_pattern"])
    at = pattern["blocks.1.attn.hook_pattern"]
    plain = torch.stack([at[:, :, a, b] for b, a in boxes]).mean((0, 1))
    scores = head_scores(any_model, tokens).set_index(["layer", "head"])["induction"]
    np.testing.assert_allclose(scores.loc[1].to_numpy(), plain, atol=1e-6)
    found = find_induction(PlainLease(any_model, [early, late]), tokens, min_gain=-1.0)
    assert torch.equal(found.tokens, tokens)
    assert not torch.isin(found.control_tokens[0, 5:], tokens[0]).any()
    assert set(found.targets[:, 1].tolist()) <= set(range(5, 10))
    inside = found.boxes.chance
    assert inside > 0
