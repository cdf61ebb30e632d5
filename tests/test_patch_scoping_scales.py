"""Measures of scales against finite differences and loops, their ranking, sweeps and figures."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from sae_lens import SAE

from core.models import Model, load_model, run_with_replacements
from core.patch_scoping import scale_tuning
from core.patch_scoping.diagnostics import diagnose
from core.patch_scoping.figure import grid_figure, scale_tuning_figure, taylor_segments
from core.patch_scoping.injection import mean_embedding, random_directions, unit_directions
from core.patch_scoping.prompt import scope_prompt
from core.patch_scoping.sampling import Sampling
from core.patch_scoping.scale_ranking import combined_score, rank_scales, scales_between
from core.patch_scoping.sweep import SweepConfig, sweep

PROMPT = 'What is "<unk>"? The "<unk>" is "'
SCALES = (0.5, 1.0, 3.0, 9.0)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["bridge", "hooked"])
@pytest.mark.parametrize("diagnostic_layer", [2, 3])
def test_derivatives_match_finite_differences(
    tiny_gpt2_dir: object, tiny_sae: SAE, backend: str, diagnostic_layer: int
) -> None:
    model = load_model(
        str(tiny_gpt2_dir),
        device="cpu",
        dtype=torch.float64,
        backend=backend,  # type: ignore[arg-type]
    )
    found = scale_tuning(model, tiny_sae, PROMPT, 5, 1, diagnostic_layer, SCALES)
    step = 1e-3
    near = scale_tuning(
        model,
        tiny_sae,
        PROMPT,
        5,
        1,
        diagnostic_layer,
        [s + d for s in SCALES for d in (-step, 0, step)],
        derivatives=False,
    )
    below, here, above = near["self_similarity"].to_numpy().reshape(-1, 3).T
    np.testing.assert_allclose(found["self_similarity"], here, rtol=1e-12)
    first, second = (above - below) / (2 * step), (above - 2 * here + below) / step**2
    np.testing.assert_allclose(found["first_derivative"], first, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found["second_derivative"], second, rtol=1e-3, atol=1e-7)
    assert np.abs(first).max() > 1e-6


def test_measures_are_those_of_a_plain_loop(any_model: Model, tiny_sae: SAE) -> None:
    table = scale_tuning(any_model, tiny_sae, PROMPT, 5, 1, 2, SCALES)
    prompt = scope_prompt(any_model, PROMPT)
    direction = unit_directions(any_model, tiny_sae, [5])[0]
    tokens = torch.tensor([prompt.tokens])

    def reached(vector: torch.Tensor, stop: int | None) -> torch.Tensor:
        def put(site: torch.Tensor) -> torch.Tensor:
            site = site.clone()
            for place in prompt.positions:
                site[:, place] = vector
            return site

        site = {"blocks.1.hook_resid_pre": put}
        return run_with_replacements(any_model, tokens, site, stop_at_layer=stop)[0, -1]

    q = reached(mean_embedding(any_model), None).softmax(-1)
    for row in table.to_dict("records"):
        vector = direction * row["scale"]
        residual, p = reached(vector, 2), reached(vector, None).softmax(-1)
        cosine = residual @ direction / residual.norm()
        assert row["self_similarity"] == pytest.approx(float(cosine), abs=1e-5)
        assert row["entropy"] == pytest.approx(float(-(p * p.log()).sum()), abs=1e-4)
        assert row["cross_entropy"] == pytest.approx(float(-(p * q.log()).sum()), abs=1e-4)


@pytest.mark.slow
def test_batches_do_not_change_measures(tiny_model: Model) -> None:
    prompt = scope_prompt(tiny_model, PROMPT)
    directions = random_directions(tiny_model, 3)
    where = {"replacement_layer": 0, "diagnostic_layer": 3}
    one, many = (
        diagnose(
            tiny_model, prompt, directions, SCALES, derivatives=True, memory_budget_bytes=b, **where
        )
        for b in (1, 1 << 30)
    )
    for name in ("self_similarity", "first_derivative", "entropy", "cross_entropy", "resting"):
        np.testing.assert_allclose(getattr(one, name), getattr(many, name), atol=2e-5)


def test_scale_zero_and_huge_scales_are_finite(any_model: Model, tiny_sae: SAE) -> None:
    table = scale_tuning(any_model, tiny_sae, PROMPT, 5, 1, 3, [0.0, 1e6])
    assert np.isfinite(table.to_numpy()).all()


def test_ranking() -> None:
    similarity, cross = np.array([0.0, 1.0, 2.0, 3.5]), np.array([1.0, 1.0, 3.0, 2.0])
    wanted = 0.4 * similarity / 3.5 - 0.6 * (cross - 1) / 2
    np.testing.assert_allclose(combined_score(similarity, cross), wanted)
    np.testing.assert_allclose(combined_score(np.ones(3), np.ones(3)), 0)
    table = pd.DataFrame(
        {"scale": [1.0, 2.0, 3.0, 4.0], "self_similarity": similarity, "cross_entropy": cross}
    )
    both = pd.concat([table.assign(latent=1), table.iloc[::-1].assign(latent=2)])
    ranked = rank_scales(both, by=["latent"], keep=2)
    for _, part in ranked.groupby("latent"):
        by_scale = part.set_index("scale")
        assert by_scale["rank"].to_dict() == {2.0: 1, 4.0: 2, 1.0: 3, 3.0: 4}
        assert set(by_scale.index[by_scale["best"]]) == {2.0, 4.0}
    with pytest.raises(ValueError, match="lacks cross_entropy"):
        rank_scales(table.drop(columns="cross_entropy"))


@pytest.mark.parametrize("layers", [(3, 3), (1, 1), (1, 4), (-1, 2)])
def test_layers_in_the_wrong_order(
    tiny_model: Model, tiny_sae: SAE, layers: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="layer"):
        scale_tuning(tiny_model, tiny_sae, PROMPT, 5, *layers, SCALES)


@pytest.mark.slow
def test_a_sweep_is_its_parts(any_model: Model, tiny_sae: SAE) -> None:
    prompts = {"a": scope_prompt(any_model, PROMPT), "b": scope_prompt(any_model, '"<unk>" is "')}
    config = SweepConfig(layers=(0, 1), scales=(1.0, 8.0), max_new_tokens=4, diagnostic_layer=2)
    found = sweep(any_model, tiny_sae, [3, 9], prompts, config)
    assert len(found.table) == 2 * 2 * 2 * 2
    assert len(found.against_null) == 2 * 2
    assert len(found.best()) == len(found.best(by="surest")) == 8
    part = found.table.query("latent == 9 and prompt == 'a' and layer == 1")
    alone = scale_tuning(any_model, tiny_sae, PROMPT, 9, 1, 2, (1.0, 8.0), derivatives=False)
    for name in ("scale", "self_similarity", "entropy", "cross_entropy"):
        np.testing.assert_allclose(part[name], alone[name], atol=1e-4)
    only = sweep(any_model, tiny_sae, [9], {"a": prompts["a"]}, config)
    same = only.table[only.table["layer"] == 1]
    assert part["text"].tolist() == same["text"].tolist()
    figure = grid_figure(only.table, "entropy")
    assert figure.data[0].z.shape == (2, 4)


def test_samples_of_a_sweep_share_their_scale(tiny_model: Model, tiny_sae: SAE) -> None:
    sampling = Sampling(temperature=1.0, n_samples=2)
    config = SweepConfig(layers=(1,), max_new_tokens=3, sampling=sampling, n_controls=0)
    found = sweep(tiny_model, tiny_sae, [3], {"a": scope_prompt(tiny_model, PROMPT)}, config)
    assert found.against_null == {}
    assert found.table.groupby("scale")["rank"].nunique().eq(1).all()
    assert found.table["rank"].max() == len(config.multiples)
    assert len(found.best()) == 1


def test_segments_follow_the_curve() -> None:
    scale = np.array([1.0, 2.0, 4.0])
    table = pd.DataFrame(
        {
            "scale": scale,
            "self_similarity": scale**2,
            "first_derivative": 2 * scale,
            "second_derivative": 2.0,
            "entropy": 1.0,
            "cross_entropy": 1.0,
        }
    )
    x, y = taylor_segments(table, 2)
    kept = ~np.isnan(x)
    np.testing.assert_allclose(y[kept], x[kept] ** 2)
    x, y = taylor_segments(table, 1)
    first = x[:3]
    np.testing.assert_allclose(first, [0.5, 1.0, 1.5])
    np.testing.assert_allclose(y[:3], 1 + 2 * (first - 1))
    figure = scale_tuning_figure(rank_scales(table, keep=1))
    assert [trace.name for trace in figure.data] == [
        "first order",
        "second order",
        "self-similarity",
    ]
    assert list(figure.data[2].marker.symbol).count("star") == 1
    # What is seen is around the points, however far a segment leads.
    steep = rank_scales(table.assign(second_derivative=1e9), keep=1)
    low, high = scale_tuning_figure(steep).layout.yaxis.range
    inside = table["self_similarity"]
    assert low < inside.min() < inside.max() < high < 2 * inside.max()
    assert figure.layout.xaxis.type == "linear"
    far = rank_scales(table.assign(scale=np.geomspace(1, 1000, len(table))), keep=1)
    assert scale_tuning_figure(far).layout.xaxis.type == "log"
    with pytest.raises(ValueError, match="derivatives"):
        taylor_segments(table.assign(first_derivative=np.nan), 1)


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ([2.0, 1.0, 2.0], np.linspace(1, 2, 20)),
        ([0.0, 5.0], np.linspace(0, 5, 20)),
        ([0.0, 1.0, 1000.0], np.geomspace(1, 1000, 20)),
        ([0.0, *range(1, 51)], np.arange(1, 51)),
        (range(14), np.arange(14)),
        ([3.0], [3.0]),
        ([0.0], [0.0]),
    ],
)
def test_scales_to_draw_a_curve_with(scales: Sequence[float], expected: Sequence[float]) -> None:
    np.testing.assert_allclose(scales_between(scales), expected, atol=1e-4)
