"""Predicted against actual changes, where they must agree, and where they must not."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.gradients.reconstruction import sae_fit
from core.gradients.route import Route
from core.gradients.to_latents import latent_route, token_route
from core.gradients.to_logits import logit_route
from core.gradients.verify import Cell, Verification, changes, strongest_cells
from core.models import Model, load_model
from core.saes import decode, encode, sae_hook_name
from tests.builders import make_sae
from tests.gradient_references import run_hooked

D_MODEL = 32


def verify(route: Route, gradients: Tensor, cells: Sequence[Cell], **options: Any) -> Verification:
    """Of all cells in one go."""
    return Verification.of(changes(route, gradients, cells, **options))


def sae_at(site: str, architecture: str, seed: int = 0) -> SAE:
    return make_sae(
        architecture, d_in=D_MODEL, d_sae=48, hook_name=site, seed=seed, dtype="float64"
    )


@pytest.fixture(scope="module")
def double_model(tiny_gpt2_dir: Path) -> Model:
    return load_model(tiny_gpt2_dir, device="cpu", backend="hooked", dtype=torch.float64)


@pytest.fixture(scope="module")
def saes() -> tuple[SAE, SAE]:
    return (
        sae_at("blocks.0.attn.hook_z", "standard"),
        sae_at("blocks.2.hook_resid_pre", "jumprelu", 1),
    )


@pytest.fixture(scope="module")
def few_tokens() -> Tensor:
    """Token ids [2, 6]."""
    tokens = torch.randint(4, 290, (2, 6), generator=torch.Generator().manual_seed(1))
    tokens[:, 0] = 0
    return tokens


@pytest.fixture(scope="module")
def routes(double_model: Model, few_tokens: Tensor, saes: tuple[SAE, SAE]) -> list[Route]:
    return [
        latent_route(few_tokens, *saes, double_model).route,
        latent_route(few_tokens, *saes, double_model, freeze_attention=True).route,
        token_route(few_tokens, saes[1], double_model).route,
        logit_route(few_tokens[:1], saes[1], double_model, 6).route,
    ]


def test_tiny_steps_come_out_as_predicted(routes: list[Route]) -> None:
    for route in routes:
        gradients = route.gradients()
        found = verify(route, gradients, strongest_cells(gradients.numpy(), 20), step_fraction=1e-6)
        cells = found.cells
        assert len(cells) == 20
        assert (cells["predicted_step"].abs() > 0).all()
        largest = cells["predicted_step"].abs().max()
        assert (cells["actual_step"] - cells["predicted_step"]).abs().max() < 1e-4 * largest
        assert found.step.correlation > 0.9999
        assert found.step.same_sign == 1
        assert found.step.median_error < 1e-3


def test_ablation_is_what_a_run_without_the_latent_gives(
    double_model: Model, few_tokens: Tensor, saes: tuple[SAE, SAE]
) -> None:
    first, second = saes
    latents = latent_route(few_tokens, *saes, double_model)
    gradients = latents.route.gradients()
    cells = verify(latents.route, gradients, strongest_cells(gradients.numpy(), 6)).cells
    read, target = sae_hook_name(first), sae_hook_name(second)
    clean, _ = run_hooked(double_model, few_tokens, {}, [read])
    acts = encode(first, clean[read])

    def later(acts: Tensor) -> Tensor:
        out = decode(first, acts, like=clean[read])
        reached = run_hooked(double_model, few_tokens, {read: lambda x: out}, [target])[0][target]
        return encode(second, reached)

    before = later(acts)
    for cell in cells.itertuples():
        without = acts.clone()
        without[cell.batch, cell.from_position, cell.from_index] = 0
        at = cell.batch, cell.to_position, cell.to_index
        actual = float(later(without)[at] - before[at])
        assert cell.actual_ablation == pytest.approx(actual, rel=1e-6, abs=1e-9)
        assert cell.predicted_ablation == pytest.approx(-cell.gradient * cell.from_value)
        assert cell.died_ablation == (float(later(without)[at]) == 0)


def test_memory_does_not_matter(routes: list[Route]) -> None:
    for route in routes[::2]:
        gradients = route.gradients()
        cells = strongest_cells(gradients.numpy(), 9)
        whole = verify(route, gradients, cells).cells
        pieces = verify(route, gradients, cells, memory_budget_bytes=1).cells
        torch.testing.assert_close(
            torch.tensor(whole["actual_ablation"].to_numpy()),
            torch.tensor(pieces["actual_ablation"].to_numpy()),
        )


def test_a_wrong_gradient_is_found_out(routes: list[Route]) -> None:
    route = routes[0]
    gradients = route.gradients()
    cells = strongest_cells(gradients.numpy(), 20)
    flipped = verify(route, -gradients, cells, step_fraction=1e-6)
    assert flipped.step.same_sign == 0
    assert flipped.step.correlation < -0.9999
    assert "badly" in flipped.verdict
    right = verify(route, gradients, cells, step_fraction=1e-6)
    assert "20 changes closely" in right.verdict


def test_targets_that_die_are_told_apart(routes: list[Route]) -> None:
    route = routes[0]
    gradients = route.gradients()
    found = verify(route, gradients, strongest_cells(gradients.numpy(), 40))
    died = found.cells["died_ablation"]
    assert 0 < found.ablation.n_died == died.sum() < 40
    gone = found.cells[died]
    torch.testing.assert_close(
        torch.tensor(gone["actual_ablation"].to_numpy()), -torch.tensor(gone["to_value"].to_numpy())
    )
    alive = found.cells[~died]
    assert found.ablation.correlation_alive == pytest.approx(
        alive["predicted_ablation"].corr(alive["actual_ablation"])
    )
    assert f"{found.ablation.n_died} that fall silent" in found.verdict


def test_strongest_cells() -> None:
    gradients = torch.tensor([[0.0, -3.0], [1.0, 0.0]])
    assert strongest_cells(gradients.numpy()) == [(0, 1), (1, 0)]
    assert strongest_cells(gradients.numpy(), 1) == [(0, 1)]
    assert strongest_cells(np.zeros((0, 3))) == []


def test_what_it_refuses(routes: list[Route]) -> None:
    route = routes[0]
    gradients = route.gradients()
    with pytest.raises(ValueError, match="no cells"):
        verify(route, gradients, [])
    with pytest.raises(ValueError, match="do not belong"):
        verify(route, gradients[:-1], [(0, 0)])
    with pytest.raises(ValueError, match="outside"):
        verify(route, gradients, [(0, len(route.sources))])
    with pytest.raises(ValueError, match="step of 0"):
        verify(route, gradients, [(0, 0)], step_fraction=0)


def test_report(double_model: Model, few_tokens: Tensor, saes: tuple[SAE, SAE]) -> None:
    latents = latent_route(few_tokens, *saes, double_model)
    true = {tuple(it) for it in latents.acts_next.indices.tolist()}
    recon = {tuple(it) for it in latents.acts_next_recon.indices.tolist()}
    report = latents.report
    assert (report.n_true, report.n_reconstructed) == (len(true), len(recon))
    assert report.n_mismatched == len(true ^ recon)
    assert report.mismatch == pytest.approx(len(true ^ recon) / len(true | recon))
    assert report.is_poor == (report.warning is not None)


def test_fit_of_a_reconstruction() -> None:
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    assert sae_fit(x, x).relative_error == 0
    assert sae_fit(x, x).explained_variance == 1
    # The first position does not count.
    spoilt = x.clone()
    spoilt[:, 0] = 1e3
    assert sae_fit(x, spoilt).relative_error == 0
    mean = x[:, 1:].mean((0, 1)).expand_as(x)
    assert sae_fit(x, mean).explained_variance == pytest.approx(0, abs=1e-6)
    assert sae_fit(x, 0 * x).relative_error == pytest.approx(1)
    alone = sae_fit(x[:1, :1], 0 * x[:1, :1])
    assert alone.relative_error == pytest.approx(1)
    assert math.isnan(alone.explained_variance)
