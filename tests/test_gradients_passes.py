"""How the Jacobian is computed: in any chunks, within memory, stoppable, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from core.gradients import (
    latent_to_latent_gradients,
    latent_to_logit_gradients,
    token_to_latent_gradients,
)
from core.gradients.jacobian import jacobian, passes_at_once
from core.gradients.route import strongest
from core.gradients.to_latents import latent_route
from core.jobs.progress import JobCancelled, Progress
from core.models import Model, load_model
from tests.builders import make_sae, write_tiny_gpt2
from tests.gradient_references import logit_jacobian

D_MODEL = 32


@pytest.fixture(scope="module")
def saes() -> tuple[SAE, SAE]:
    """Two SAEs of the residual stream, before layers 1 and 2."""
    first, second = (
        make_sae(
            kind, d_in=D_MODEL, d_sae=64, hook_name=f"blocks.{layer}.hook_resid_pre", seed=layer
        )
        for layer, kind in ((1, "standard"), (2, "topk"))
    )
    return first, second


@pytest.mark.parametrize(
    ("mode", "budget", "any_model"),
    [
        ("forward", 1, "hooked"),
        ("reverse", 1, "hooked"),
        ("forward", 40_000, "hooked"),
        ("reverse", 40_000, "bridge"),
        ("auto", 1 << 30, "hooked"),
    ],
    indirect=["any_model"],
)
def test_any_budget(
    mode: Any, budget: int, any_model: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]
) -> None:
    few = {"max_from": 9, "max_to": 9}
    whole = latent_to_latent_gradients(tiny_tokens, *saes, any_model, **few)[0]
    seen: list[tuple[float, float | None]] = []

    class Recording(Progress):
        def update(self, done: float, total: float | None = None, **words: str) -> None:  # type: ignore[override]
            seen.append((done, total))

    part = latent_to_latent_gradients(
        tiny_tokens,
        *saes,
        any_model,
        mode=mode,
        memory_budget_bytes=budget,
        progress=Recording(),
        **few,
    )[0]
    torch.testing.assert_close(part, whole, atol=1e-5, rtol=1e-5)
    assert seen[-1][0] == seen[-1][1]
    assert len(seen) == 2 if budget > 1e6 else len(seen) > 4


def test_batch_is_its_prompts_one_by_one(
    tiny_hooked: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]
) -> None:
    both, prev, _, recon = latent_to_latent_gradients(tiny_tokens, *saes, tiny_hooked)
    of_to, of_from = recon.indices[:, 0], prev.indices[:, 0]
    assert not both[of_to == 0][:, of_from == 1].any()
    assert not both[of_to == 1][:, of_from == 0].any()
    for item in range(2):
        alone = latent_to_latent_gradients(tiny_tokens[item], *saes, tiny_hooked)[0]
        block = both[of_to == item][:, of_from == item]
        torch.testing.assert_close(block, alone, atol=1e-5, rtol=1e-5)


def test_nothing_flows_back_in_time(
    tiny_hooked: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]
) -> None:
    gradients, prev, _, recon = latent_to_latent_gradients(tiny_tokens[:1], *saes, tiny_hooked)
    back = recon.indices[:, None, 1] < prev.indices[None, :, 1]
    assert not gradients[back].any()
    across = recon.indices[:, None, 1] > prev.indices[None, :, 1]
    assert gradients[across].abs().max() > 1e-3


def test_restricted(tiny_hooked: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]) -> None:
    whole, prev, next_, recon = latent_to_latent_gradients(tiny_tokens, *saes, tiny_hooked)
    part, prev_kept, next_kept, recon_kept = latent_to_latent_gradients(
        tiny_tokens, *saes, tiny_hooked, positions=[3, 5, 8], max_from=11, max_to=7
    )
    assert part.shape == (7, 11)
    rows = strongest(recon.indices, recon.values, positions=[3, 5, 8], most=7)
    columns = strongest(prev.indices, prev.values, positions=[3, 5, 8], most=11)
    torch.testing.assert_close(part, whole[rows][:, columns], atol=1e-5, rtol=1e-5)
    assert torch.equal(recon_kept.indices, recon.indices[rows])
    assert torch.equal(prev_kept.indices, prev.indices[columns])
    assert torch.equal(next_kept.dense, next_.dense)
    left_out = torch.ones(len(prev), dtype=torch.bool).index_fill(0, columns, False)
    eligible = torch.isin(prev.indices[:, 1], torch.tensor([3, 5, 8]))
    assert prev.values[columns].min() >= prev.values[left_out & eligible].max()


def test_attribution(tiny_hooked: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]) -> None:
    few = {"max_from": 9, "max_to": 9}
    plain, prev, *_ = latent_to_latent_gradients(tiny_tokens, *saes, tiny_hooked, **few)
    times = latent_to_latent_gradients(tiny_tokens, *saes, tiny_hooked, kind="attribution", **few)
    torch.testing.assert_close(times[0], plain * prev.values)


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else [result]
        sizes = [it.numel() for it in results if isinstance(it, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_no_dense_cotangent(mode: Any, tiny_hooked: Model, tiny_tokens: Tensor) -> None:
    d_sae = 8192
    first, second = (
        make_sae(
            "topk",
            d_in=D_MODEL,
            d_sae=d_sae,
            hook_name=f"blocks.{layer}.hook_resid_pre",
            seed=layer,
        )
        for layer in (1, 2)
    )
    for sae in (first, second):
        sae.activation_fn.k = 8
    tokens = tiny_tokens[:1]
    with LargestTensor() as largest:
        gradients = latent_to_latent_gradients(tokens, first, second, tiny_hooked, mode=mode)[0]
    pos = tokens.shape[1]
    weights = d_sae * D_MODEL
    assert gradients.shape == (8 * pos, 8 * pos)
    # Once [pos, d_sae] for the latents themselves, and the weights: nothing of a pass's batch.
    assert largest.numel <= max(weights, pos * d_sae)
    assert largest.numel < len(gradients) * pos * d_sae / 10
    assert largest.numel < d_sae**2 / 50


def test_cancelled(tiny_model: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]) -> None:
    progress = Progress()
    progress.cancel()
    with pytest.raises(JobCancelled):
        latent_to_latent_gradients(tiny_tokens, *saes, tiny_model, progress=progress)


def test_inside_no_grad_and_inference_mode(
    any_model: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]
) -> None:
    few = {"max_from": 9, "max_to": 9}
    plain = latent_to_latent_gradients(tiny_tokens, *saes, any_model, **few)[0]
    for mode in (torch.no_grad, torch.inference_mode):
        for direction in ("forward", "reverse"):
            with mode():
                again = latent_to_latent_gradients(
                    tiny_tokens, *saes, any_model, mode=direction, **few
                )[0]
            torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-5)
    assert not any_model.hook_dict["blocks.1.hook_resid_pre"].fwd_hooks


def test_parameters_that_want_gradients(
    tiny_gpt2_dir: Path, tiny_hooked: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]
) -> None:
    model = load_model(tiny_gpt2_dir, device="cpu", backend="hooked")
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    tokens = tiny_tokens[:1]
    torch.testing.assert_close(
        latent_to_latent_gradients(tokens, *saes, model, mode="reverse")[0],
        latent_to_latent_gradients(tokens, *saes, tiny_hooked, mode="reverse")[0],
        atol=1e-4,
        rtol=1e-4,
    )
    assert all(parameter.grad is None for parameter in model.parameters())


def test_half_precision(tiny_gpt2_dir: Path, tiny_tokens: Tensor, saes: tuple[SAE, SAE]) -> None:
    exact = load_model(tiny_gpt2_dir, device="cpu")
    coarse = load_model(tiny_gpt2_dir, device="cpu", dtype="bfloat16")
    for mode in ("forward", "reverse"):
        rows = [
            latent_to_latent_gradients(tiny_tokens[:1], *saes, it, mode=mode)
            for it in (exact, coarse)
        ]
        both = {tuple(it) for it in rows[0][3].indices.tolist()}
        shared = [n for n, it in enumerate(rows[1][3].indices.tolist()) if tuple(it) in both]
        assert rows[1][0].dtype == torch.float32
        assert len(shared) > 0.8 * len(both)
        assert rows[1][0].abs().max() < 2 * rows[0][0].abs().max()


def test_one_token_and_one_prompt(
    any_model: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]
) -> None:
    gradients, prev, _, recon = latent_to_latent_gradients(tiny_tokens[0, :1], *saes, any_model)
    assert gradients.shape == (len(recon), len(prev))
    assert prev.sparse[1].shape[1] == 3


def test_no_active_latents(any_model: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]) -> None:
    silent = make_sae("standard", d_in=D_MODEL, d_sae=16, hook_name="blocks.1.hook_resid_pre")
    silent.b_enc.data -= 1e4
    assert latent_to_latent_gradients(tiny_tokens, silent, saes[1], any_model)[0].shape[1] == 0
    later = make_sae("standard", d_in=D_MODEL, d_sae=16, hook_name="blocks.2.hook_resid_pre")
    later.b_enc.data -= 1e4
    route = latent_route(tiny_tokens, saes[0], later, any_model)
    assert route.route.gradients().shape == (0, len(route.acts_prev))
    assert "No later latent is active" in str(route.report.warning)
    assert token_to_latent_gradients(tiny_tokens, later, any_model)[0].shape == (2, 9, 0)
    assert latent_to_logit_gradients(tiny_tokens[:1], silent, any_model, 3)[0].shape == (3, 0)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.zeros(1, 0, dtype=torch.long), "prompt is empty"),
        (torch.zeros(1, 65, dtype=torch.long), "65 tokens and the model takes 64"),
        (torch.zeros(1, 3), "give token ids"),
        (torch.tensor([[0, 300]]), "0 to 299"),
        (torch.tensor([[0, -1]]), "this model's own tokenizer"),
    ],
)
def test_prompts_it_cannot_take(
    tokens: Tensor, words: str, tiny_model: Model, saes: tuple[SAE, SAE]
) -> None:
    for run in (
        lambda: latent_to_latent_gradients(tokens, *saes, tiny_model),
        lambda: token_to_latent_gradients(tokens, saes[0], tiny_model),
        lambda: latent_to_logit_gradients(tokens, saes[0], tiny_model, 3),
    ):
        with pytest.raises(ValueError, match=words):
            run()


def test_what_it_refuses(any_model: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]) -> None:
    with pytest.raises(ValueError, match="comes before"):
        latent_to_latent_gradients(tiny_tokens, saes[1], saes[0], any_model)
    other = make_sae("standard", d_in=16, d_sae=16, hook_name="blocks.2.hook_resid_pre")
    with pytest.raises(ValueError, match="reads 16 numbers"):
        latent_to_latent_gradients(tiny_tokens, saes[0], other, any_model)
    with pytest.raises(ValueError, match="one at a time"):
        latent_to_logit_gradients(tiny_tokens, saes[0], any_model, 3)
    with pytest.raises(ValueError, match="vocabulary"):
        latent_to_logit_gradients(tiny_tokens[:1], saes[0], any_model, 301)
    with pytest.raises(ValueError, match="vocabulary"):
        latent_to_logit_gradients(tiny_tokens[:1], saes[0], any_model, token_ids=[300])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"mode": "sideways"}, "Unknown mode"),
        ({"kind": "both"}, "Unknown kind"),
        ({"memory_budget_bytes": 0}, "more than 0"),
        ({"max_to": 0}, "ask for 1"),
        ({"positions": [-1]}, "count from 0"),
    ]
    for options, words in wrong:
        with pytest.raises(ValueError, match=words):
            latent_to_latent_gradients(tiny_tokens, *saes, any_model, **options)


def test_parts_that_cannot_be_frozen(
    tiny_hooked: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE], monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = {name: it for name, it in tiny_hooked.hook_dict.items() if "hook_pattern" not in name}
    monkeypatch.setattr(tiny_hooked, "hook_dict", hooks)
    with pytest.raises(ValueError, match="cannot be frozen"):
        latent_to_latent_gradients(tiny_tokens, *saes, tiny_hooked, freeze_attention=True)


def test_the_cheaper_direction(
    tiny_model: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE], monkeypatch: pytest.MonkeyPatch
) -> None:
    route = latent_route(tiny_tokens[:1], *saes, tiny_model).route
    used: list[str] = []
    monkeypatch.setattr(
        "core.gradients.jacobian.torch.func.vmap",
        lambda *args: used.append("forward") or torch.vmap(*args),
    )
    few = route.restrict(sources=torch.arange(2))
    jacobian(route.segment, route.base, few.sources, route.targets)
    assert used
    used.clear()
    few = route.restrict(targets=torch.arange(2))
    jacobian(route.segment, route.base, route.sources, few.targets)
    assert not used


def test_logits_of_chosen_tokens(
    any_model: Model, tiny_tokens: Tensor, saes: tuple[SAE, SAE]
) -> None:
    whole = latent_to_logit_gradients(tiny_tokens[:1], saes[0], any_model)
    some = latent_to_logit_gradients(tiny_tokens[:1], saes[0], any_model, token_ids=[7, 290])
    torch.testing.assert_close(some[0], whole[0][[7, 290]], atol=1e-5, rtol=1e-4)
    assert some[3] == [7, 290]


def test_a_cap_on_logits(tiny_gpt2_dir: Path, tiny_tokens: Tensor, saes: tuple[SAE, SAE]) -> None:
    model = load_model(tiny_gpt2_dir, device="cpu", backend="hooked")
    model.cfg.output_logits_soft_cap = 3.0
    gradients, logits, _, ids, _ = latent_to_logit_gradients(tiny_tokens[:1], saes[0], model, 4)
    assert logits.abs().max() < 3
    reference = logit_jacobian(tiny_tokens[:1], saes[0], model)[0]
    torch.testing.assert_close(gradients, reference[ids], atol=1e-5, rtol=1e-4)


def test_long_prompts_stay_within_the_budget(tmp_path: Path) -> None:
    model = load_model(write_tiny_gpt2(tmp_path / "wide", d_model=64, n_ctx=128), device="cpu")
    first, second = (
        make_sae("topk", d_in=64, d_sae=256, hook_name=f"blocks.{i}.hook_resid_pre", seed=i)
        for i in (1, 2)
    )
    tokens = torch.randint(4, 290, (1, 128), generator=torch.Generator().manual_seed(0))
    segment = latent_route(tokens, first, second, model).route.segment
    budgets = [1 << 20, 1 << 24, 1 << 30]
    at_once = [passes_at_once(segment, 128, budget) for budget in budgets]
    assert at_once == sorted(at_once)
    assert at_once[0] < at_once[-1]
    with LargestTensor() as largest:
        latent_to_latent_gradients(
            tokens, first, second, model, max_to=40, max_from=40, memory_budget_bytes=1 << 24
        )
    assert largest.numel * 4 <= 1 << 24
