"""Meta-SAEs: planted atoms, dense autograd beside the sparse steps, nulls, stability, pursuit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.jobs import JobCancelled, Progress
from core.meta_sae import (
    PRESETS,
    MetaConfig,
    decompositions,
    matched_cosines,
    matching_pursuit,
    train_meta_sae,
)
from core.meta_sae.meta import explained_variance
from core.meta_sae.nulls import gaussian_rows, permuted_rows

D, ATOMS, ROWS = 48, 32, 1200
CONFIG = MetaConfig(share=ATOMS / ROWS, k=2, steps=600, batch=256, lr=4e-3)


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that are sums of two of a few atoms, the atoms, and which they are."""
    generator = np.random.default_rng(seed)
    atoms = np.linalg.qr(generator.standard_normal((D, ATOMS)))[0].T
    pairs = np.stack([generator.choice(ATOMS, 2, replace=False) for _ in range(ROWS)])
    rows = atoms[pairs[:, 0]] + atoms[pairs[:, 1]]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), atoms.astype(np.float32), pairs


def test_planted_atoms_are_the_meta_latents() -> None:
    rows, atoms, pairs = planted()
    meta = train_meta_sae(rows, CONFIG)
    matched = matched_cosines(atoms, meta.W_dec)
    assert np.median(matched) > 0.95
    assert (matched > 0.9).mean() > 0.85
    assert meta.explained_variance(rows) > 0.85
    # Which atoms a row is made of is read off its decomposition.
    place = (atoms @ meta.W_dec.T).argmax(1)
    acts = meta.encode(rows).toarray()
    right = np.take_along_axis(acts, place[pairs], 1) > 0
    assert right.mean() > 0.85
    assert (acts > 0).sum(1).mean() == pytest.approx(2, abs=0.1)


def test_a_row_is_decomposed_the_same_whatever_stands_beside_it() -> None:
    rows, _, _ = planted()
    meta = train_meta_sae(rows, replace(CONFIG, steps=40))
    whole, alone = meta.encode(rows).toarray(), meta.encode(rows[7:8]).toarray()
    np.testing.assert_allclose(whole[7:8], alone, rtol=1e-5, atol=1e-6)
    assert (alone > 0).any()


def dense_training(rows: np.ndarray, config: MetaConfig) -> dict[str, torch.Tensor]:
    """The same training by autograd, with a top-k over all pre-activations of a batch."""
    generator = torch.Generator().manual_seed(config.seed)
    data = torch.from_numpy(rows)
    width = config.width(len(data))
    centred = data - data.mean(0)
    start = torch.randn(width, data.shape[1], generator=generator)
    W_dec = (start / start.norm(dim=1, keepdim=True)).requires_grad_()
    W_enc = W_dec.detach().T.clone().requires_grad_()
    b_enc = torch.zeros(width, requires_grad=True)
    adam = torch.optim.Adam([W_enc, b_enc, W_dec], lr=config.lr, betas=(0.9, config.beta2))
    for _ in range(config.steps):
        x = centred[torch.randint(len(data), (config.batch,), generator=generator)]
        scores = torch.relu(x @ W_enc + b_enc)
        flat = scores.flatten()
        best = flat.topk(config.batch * config.k)
        acts = torch.zeros_like(flat).scatter(0, best.indices, best.values).view_as(scores)
        loss = (acts @ W_dec - x).pow(2).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        with torch.no_grad():
            assert W_dec.grad is not None
            W_dec.grad -= (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
        adam.step()
        with torch.no_grad():
            W_dec /= W_dec.norm(dim=1, keepdim=True)
    return {"W_enc": W_enc.detach(), "b_enc": b_enc.detach(), "W_dec": W_dec.detach()}


def test_sparse_steps_are_those_of_dense_autograd() -> None:
    rows, _, _ = planted()
    config = replace(CONFIG, steps=12, batch=64)
    ours, dense = train_meta_sae(rows, config), dense_training(rows, config)
    for name, value in dense.items():
        np.testing.assert_allclose(getattr(ours, name), value.numpy(), atol=2e-4, err_msg=name)
    start = train_meta_sae(rows, replace(config, steps=1))
    assert np.abs(start.W_dec - ours.W_dec).max() > 0.01, "else nothing was trained"


@pytest.mark.slow
def test_nulls_keep_what_they_say_and_the_excess_is_seen() -> None:
    rows, _, _ = planted()
    drawn, dealt = gaussian_rows(rows), permuted_rows(rows)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(rows.T), atol=0.004)
    np.testing.assert_array_equal(np.sort(dealt, 0), np.sort(rows, 0))
    found = decompositions(rows, config=CONFIG)
    assert found.explained.value > found.gaussian + 0.2
    assert found.explained.value > found.permuted + 0.2
    assert found.second_seed == pytest.approx(found.explained.value, abs=0.1)
    assert found.recurring > 0.8
    assert np.nanmedian(found.matched_null) < 0.6
    # Rows without structure have no excess, and nothing recurs.
    noise = gaussian_rows(rows, seed=5)
    nothing = decompositions(noise, config=replace(CONFIG, steps=200))
    assert nothing.excess < 0.05
    assert nothing.recurring < 0.3


def test_pursuit_finds_the_atoms_and_never_the_row_itself() -> None:
    rows, atoms, pairs = planted()
    found = matching_pursuit(rows, 3 * atoms, k=2)
    np.testing.assert_array_equal(np.sort(found.indices.reshape(-1, 2)), np.sort(pairs))
    np.testing.assert_allclose(found @ atoms, rows, atol=1e-5)
    own = matching_pursuit(rows, rows, k=3, without=np.arange(ROWS))
    assert own.diagonal().max() == 0
    assert own.data.min() > 0
    assert explained_variance(rows, own @ rows) < 1
    with pytest.raises(ValueError, match="rows' own space"):
        matching_pursuit(rows, atoms[:, :5])


def test_a_narrower_sae_of_atoms_explains_what_random_directions_do_not() -> None:
    rows, atoms, _ = planted()
    few = decompositions(rows, atoms, config=replace(CONFIG, steps=20))
    assert few.narrower is not None
    assert few.narrower.explained.value > few.narrower.null + 0.2
    assert few.place(7) == 7
    gone = rows.copy()
    gone[7] = 0
    without = decompositions(gone, config=replace(CONFIG, steps=5))
    assert without.place(7) is None
    assert without.place(8) == 7


def test_partners_are_used_once() -> None:
    first = np.eye(3, 4)
    second = np.array([[1, 0.1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]], dtype=float)
    found = matched_cosines(first, second)
    assert found[2] == pytest.approx(1)
    assert found[0] + found[1] == pytest.approx(1 + 0.1 / np.sqrt(1.01))
    assert np.isnan(matched_cosines(np.eye(4), np.eye(2, 4))).sum() == 2


def test_training_repeats_is_stopped_and_refuses_what_it_cannot_use() -> None:
    rows, _, _ = planted()
    short = replace(CONFIG, steps=30)
    one, two = train_meta_sae(rows, short), train_meta_sae(rows, short)
    np.testing.assert_array_equal(one.W_dec, two.W_dec)
    progress = Progress()
    progress.cancel()
    with pytest.raises(JobCancelled):
        decompositions(rows, config=short, progress=progress)
    with pytest.raises(ValueError, match="at least 20"):
        train_meta_sae(rows[:5])
    for wrong in ({"share": 0.0}, {"k": 0}, {"lr": 2.0}):
        with pytest.raises(ValueError, match=r"use a share|must lie"):
            MetaConfig(**wrong)  # type: ignore[arg-type]
    assert PRESETS["saebench"].width(16_384) == 4096
    assert PRESETS["paper"].width(49_152) == 2304
