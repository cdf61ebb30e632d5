"""Moments of the logits of all latents against scipy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from core import logit_statistics
from core.jobs.progress import JobCancelled, Progress
from core.logit_statistics import LogitMoments, latent_logits, logit_histogram, logit_moments
from core.store import Store


def _weights(n: int = 37, d: int = 12, vocab: int = 501) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(n, d, generator=generator)
    # Cubed: a skewed vocabulary with outliers, and with a mean of its own.
    W_U = torch.randn(d, vocab, generator=generator) ** 3 + 0.4
    return directions, W_U


def _expect(found: LogitMoments, logits: np.ndarray, *, rtol: float) -> None:
    np.testing.assert_allclose(found.mean, logits.mean(1), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.std, logits.std(1), rtol=rtol)
    np.testing.assert_allclose(found.skewness, stats.skew(logits, axis=1), rtol=rtol, atol=rtol)
    kurtosis = stats.kurtosis(logits, axis=1)
    np.testing.assert_allclose(found.kurtosis, kurtosis, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("chunk_size", [1, 7, 1000, None])
def test_moments_are_those_of_scipy(chunk_size: int | None) -> None:
    directions, W_U = _weights()
    exact = (directions.double() @ W_U.double()).numpy()
    _expect(logit_moments(directions, W_U, chunk_size=chunk_size), exact, rtol=2e-5)
    double = logit_moments(directions.double(), W_U.double(), chunk_size=chunk_size)
    _expect(double, exact, rtol=1e-11)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_tiny_and_huge_logits_keep_their_shape(scale: float) -> None:
    directions, W_U = _weights()
    plain, scaled = logit_moments(directions, W_U), logit_moments(directions * scale, W_U)
    np.testing.assert_allclose(scaled.skewness, plain.skewness, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scaled.kurtosis, plain.kurtosis, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scaled.std, plain.std * scale, rtol=1e-4)


def test_a_large_common_shift_changes_nothing_but_the_mean() -> None:
    directions, W_U = _weights()
    shift = directions.sum(0)  # the same for every token
    shifted = logit_moments(directions, W_U + 100 * shift[:, None])
    exact = (directions.double() @ (W_U + 100 * shift[:, None]).double()).numpy()
    _expect(shifted, exact, rtol=2e-3)


def test_flat_and_broken_rows() -> None:
    directions, W_U = _weights()
    directions[3] = 0.0
    directions[5, 2] = torch.nan
    directions[6, 0] = torch.inf
    W_U[-1] = 7.0
    directions[8, :] = 0.0
    directions[8, -1] = 0.3  # the same logit for every token, not 0
    found = logit_moments(directions, W_U)
    for row in (3, 8):
        assert found.std[row] == 0
        assert np.isnan(found.skewness[row])
        assert np.isnan(found.kurtosis[row])
    assert found.mean[8] == pytest.approx(2.1)
    for row in (5, 6):
        for values in vars(found).values():
            assert np.isnan(values[row])
    others = np.setdiff1d(np.arange(37), [3, 5, 6, 8])
    exact = (directions[others].double() @ W_U.double()).numpy()
    rows = LogitMoments(**{name: array[others] for name, array in vars(found).items()})
    _expect(rows, exact, rtol=2e-5)


def test_one_token_and_no_latents() -> None:
    directions, W_U = _weights()
    found = logit_moments(directions, W_U[:, :1])
    assert (found.std == 0).all()
    assert logit_moments(directions[:0], W_U).std.shape == (0,)


def test_stored_once_and_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directions, W_U = _weights()
    store = Store(tmp_path)
    found = logit_moments(directions, W_U, store=store)
    other = logit_moments(directions * 2, W_U, store=store)
    with monkeypatch.context() as patch:
        patch.setattr(logit_statistics, "_moments", None)  # computing again would fail
        again = logit_moments(directions, W_U, store=store)
    np.testing.assert_array_equal(again.skewness, found.skewness)
    np.testing.assert_allclose(other.std, found.std * 2, rtol=1e-5)
    progress = Progress()
    progress.cancel()
    with pytest.raises(JobCancelled):
        logit_moments(directions, W_U, progress=progress)


def test_histogram_counts_every_token() -> None:
    directions, W_U = _weights()
    logits = latent_logits(directions[4], W_U)
    np.testing.assert_allclose(logits, (directions[4] @ W_U).numpy(), rtol=1e-5, atol=1e-5)
    counts, edges = logit_histogram(logits, n_bins=30)
    assert counts.sum() == len(logits)
    for bin_number in (0, 11, 29):
        low, high = edges[bin_number], edges[bin_number + 1]
        inside = (logits >= low) & ((logits <= high) if bin_number == 29 else (logits < high))
        assert counts[bin_number] == inside.sum()
    logits[:3] = np.nan
    assert logit_histogram(logits)[0].sum() == len(logits) - 3


def test_bad_input_is_named() -> None:
    directions, W_U = _weights()
    with pytest.raises(ValueError, match="do not multiply"):
        logit_moments(directions[:, :3], W_U)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        logit_moments(directions, W_U, chunk_size=0)
    with pytest.raises(ValueError, match="finite logits"):
        logit_histogram(np.array([np.nan]))
