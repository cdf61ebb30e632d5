"""Segments linearised by hand: equal to autograd, and left alone where they would not be."""

from typing import Any

import pytest
import torch
from torch import Tensor

from core.gradients.jacobian import Entries, jacobian
from core.gradients.linearise import linearise
from core.gradients.route import Filling
from core.gradients.segment import LOGIT_SITE, Segment, open_segment
from core.gradients.to_latents import latent_route
from core.gradients.to_logits import logit_route
from core.jobs.progress import JobCancelled, Progress
from core.models import Model
from tests.builders import make_sae

pytestmark = pytest.mark.slow

PAIRS = [
    ("blocks.0.hook_resid_pre", "blocks.2.hook_resid_pre"),
    ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post"),
    ("blocks.0.hook_resid_mid", "blocks.2.hook_resid_mid"),
    ("blocks.0.attn.hook_z", "blocks.2.attn.hook_z"),
    ("blocks.0.hook_attn_out", "blocks.1.hook_attn_out"),
    ("blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"),
    ("blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"),
    ("blocks.1.hook_resid_pre", LOGIT_SITE),
    ("blocks.1.attn.hook_z", LOGIT_SITE),
]


def cotangents(segment: Segment, clean: dict[str, Tensor], item: int, n: int = 7) -> Entries:
    """Random rows at random positions of one prompt."""
    generator = torch.Generator().manual_seed(5)
    target = clean["target"]
    positions = torch.randint(target.shape[1], (n,), generator=generator).sort().values
    rows = torch.randn(n, target[0, 0].numel(), generator=generator)
    return Entries(torch.full((n,), item), positions, rows)


def by_autograd(segment: Segment, base: Tensor, rows: Entries) -> Tensor:
    """A pass a row, [rows, pos, d]."""
    item = rows.items[:1]
    x = base[item].clone().requires_grad_(True)
    y = segment.run(x, item)
    found = []
    for row, position in zip(rows.rows, rows.positions, strict=True):
        total = (y.flatten(2)[0, position] * row).sum()
        found.append(torch.autograd.grad(total, x, retain_graph=True)[0][0].flatten(1))
    return torch.stack(found)


@pytest.mark.parametrize("frozen", [(), ("freeze_attention",), ("freeze_layer_norm",)])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_equal_to_autograd(
    source: str,
    target: str,
    frozen: tuple[str, ...],
    any_model: Model,
    tiny_hooked: Model,
    tiny_tokens: Tensor,
) -> None:
    held = dict.fromkeys(frozen, True)
    segment, clean = open_segment(any_model, tiny_tokens, source, target, **held)
    # Off the clean run, where the SAE's reconstruction stands as well.
    noise = torch.randn(clean["source"].shape, generator=torch.Generator().manual_seed(1))
    base = clean["source"] + 0.1 * noise
    for item in range(2):
        known = linearise(segment, base[item : item + 1], torch.tensor([item]))
        if known is None:
            # On a bridge this site is what the MLP reads, and not the stream that flows past it.
            assert source == "blocks.0.hook_resid_mid"
            assert any_model is not tiny_hooked
            continue
        rows = cotangents(segment, clean, item)
        mine, reference = known(rows.rows, rows.positions), by_autograd(segment, base, rows)
        cut = mine.shape[1]
        assert not reference[:, cut:].any()
        assert reference.abs().max() > 1e-3
        error = (mine - reference[:, :cut]).abs().max()
        assert error <= 1e-5 * reference.abs().max()


def test_a_model_of_another_kind_goes_the_general_way(
    tiny_hooked: Model, tiny_tokens: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = "blocks.0.hook_resid_pre", "blocks.2.hook_resid_pre"
    segment, clean = open_segment(tiny_hooked, tiny_tokens[:1], *sites)
    item = torch.tensor([0])
    rows = cotangents(segment, clean, 0)
    reader = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    ends = Entries(item, item, reader)
    expected = jacobian(segment, clean["source"], ends, rows, mode="reverse")
    assert linearise(segment, clean["source"], item) is not None

    # Its scores are divided by something else than its configuration says.
    monkeypatch.setattr(tiny_hooked.cfg, "attn_scale", 3.0)
    assert linearise(segment, clean["source"], item) is None
    again = jacobian(segment, clean["source"], ends, rows, mode="reverse")
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-5)
    monkeypatch.undo()
    monkeypatch.setattr(tiny_hooked.cfg, "positional_embedding_type", "rotary")
    assert linearise(segment, clean["source"], item) is None
    monkeypatch.undo()
    # Without heads in between there is nothing to win.
    near = "blocks.1.hook_resid_mid", "blocks.1.hook_resid_post"
    segment, clean = open_segment(tiny_hooked, tiny_tokens[:1], *near)
    assert linearise(segment, clean["source"], item) is None


@pytest.mark.parametrize("few", ["targets", "sources"])
def test_filled_in_many_turns(few: Any, tiny_model: Model, tiny_tokens: Tensor) -> None:
    first, second = (
        make_sae("topk", d_in=32, d_sae=64, hook_name=f"blocks.{i}.hook_resid_pre", seed=i)
        for i in (1, 2)
    )
    # Few sources are pushed forwards, few targets pulled back.
    narrow = {few: torch.arange(0, 40, 5)}

    def opened() -> Any:
        return latent_route(tiny_tokens, first, second, tiny_model).route.restrict(**narrow)

    expected = opened().gradients()
    filling = Filling(opened())
    turns = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.gradients.jacobian.passes_at_once", lambda *args: 3)
        while not filling.is_full:
            filling.go_on(opened(), seconds=0.0)
            turns += 1
            assert turns < 50
        assert turns > 2
        torch.testing.assert_close(filling.values, expected, atol=1e-5, rtol=1e-5)
        stopped = Progress()
        stopped.cancel()
        fresh = Filling(opened())
        with pytest.raises(JobCancelled):
            fresh.go_on(opened(), stopped, seconds=0.0)


def test_nothing_to_fill(tiny_model: Model, tiny_tokens: Tensor) -> None:
    sae = make_sae("standard", d_in=32, d_sae=16, hook_name="blocks.1.hook_resid_pre")
    sae.b_enc.data -= 1e4
    filling = Filling(logit_route(tiny_tokens[:1], sae, tiny_model, 3).route)
    assert filling.is_full
    assert filling.values.shape == (3, 0)
