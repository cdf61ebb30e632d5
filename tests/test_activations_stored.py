"""Indexes and firings through the store, and what they say on display."""

import numpy as np
import pandas as pd
import pytest
from sae_lens import SAE
from scipy.stats import skew

from core.activations import (
    Firings,
    IndexConfig,
    LatentIndex,
    build_index,
    collect_firings,
    index_key,
    latent_examples,
    open_index,
    open_part,
    open_summary,
    save_index,
    stored_index,
)
from core.corpus import TokenSet
from core.jobs.progress import JobCancelled, Progress
from core.lease import PlainLease
from core.models import Model
from core.store import ARRAYS, Key, Store
from core.store.fingerprint import fingerprint_of_model, fingerprint_of_sae
from tests.builders import make_sae
from tests.dense_index import dense_activations
from tests.test_activations_exact import some_tokens


@pytest.fixture(scope="module")
def indexed(tiny_model: Model, tiny_sae: SAE) -> tuple[LatentIndex, TokenSet, np.ndarray]:
    token_set = some_tokens()
    (index,) = build_index(tiny_model, [tiny_sae], token_set, IndexConfig(n_top=4, buffer=2))
    return index, token_set, dense_activations(tiny_model, tiny_sae, token_set)


def test_store_round_trip_in_parts(
    indexed: tuple[LatentIndex, TokenSet, np.ndarray],
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, _, _ = indexed
    monkeypatch.setattr(stored_index, "_PART", 24)  # 64 latents: three parts, the last one shorter
    store = Store(str(tmp_path))
    names = {"model_fingerprint": "m", "sae_fingerprint": "s", "tokens_digest": "t"}
    key = index_key(**names, config=index.config)
    assert open_summary(store, key) is None
    assert open_index(store, key) is None
    assert open_part(store, key, 30) is None
    save_index(store, key, index)
    pd.testing.assert_frame_equal(open_summary(store, key), index.summary())
    whole = open_index(store, key)
    assert whole is not None
    assert whole.config == index.config
    for name, array in index.to_arrays().items():
        np.testing.assert_array_equal(whole.to_arrays()[name], array, err_msg=name)
    part = open_part(store, key, 50)
    assert part is not None
    assert (part.first_latent, part.n_latents) == (48, 16)
    np.testing.assert_array_equal(part.top_values[2], index.top_values[50])
    assert part.summary()["latent"].tolist() == list(range(48, 64))
    with pytest.raises(ValueError, match="48 to 63"):
        part.part(40, 50)
    assert index_key(**names, config=IndexConfig(seed=1)).digest != key.digest


def test_windows_of_the_strongest(indexed: tuple[LatentIndex, TokenSet, np.ndarray]) -> None:
    index, token_set, _ = indexed
    windows = index.windows(token_set, 2, 3)
    assert windows.shape == (64, 4, 6)
    for latent in range(64):
        for slot in range(4):
            place = int(index.top_places[latent, slot])
            row, position = divmod(place, token_set.context)
            expected = []
            for step in range(-2, 4):
                inside = 0 <= position + step < token_set.lengths[row] and place >= 0
                expected.append(int(token_set.tokens[row, position + step]) if inside else -1)
            assert windows[latent, slot].tolist() == expected


def test_summary_equals_dense(indexed: tuple[LatentIndex, TokenSet, np.ndarray]) -> None:
    index, token_set, dense = indexed
    summary = index.summary()
    flat = dense[token_set.mask]
    assert len(flat) == index.n_tokens
    for latent, row in enumerate(summary.itertuples()):
        values = flat[:, latent][flat[:, latent] > 0].astype(np.float64)
        assert row.frequency == pytest.approx(len(values) / len(flat))
        if len(values) == 0:
            assert np.isnan(row.log10_frequency)
            continue
        assert row.log10_frequency == pytest.approx(np.log10(len(values) / len(flat)))
        assert row.mean == pytest.approx(values.mean(), rel=1e-4, abs=1e-5)
        assert row.std == pytest.approx(values.std(), rel=1e-2, abs=1e-2)
        if len(values) > 20:
            assert row.skew == pytest.approx(skew(values), abs=0.15)


def test_bands_hold_all_firings(indexed: tuple[LatentIndex, TokenSet, np.ndarray]) -> None:
    index, token_set, _ = indexed
    np.testing.assert_array_equal(index.band_counts.sum(1), index.count)
    np.testing.assert_array_equal(index.histogram.sum(1), index.count)
    latent = int(index.count.argmax())
    shown = latent_examples(index, latent, token_set)
    assert shown.bands[0].high == shown.top.values[0]
    for band in shown.bands:
        assert len(band.examples.values) == min(5, band.count)
        assert ((band.examples.values >= band.low) & (band.examples.values <= band.high)).all()
    middle = index.config.buffer
    np.testing.assert_array_equal(
        shown.top.tokens[:, middle], token_set.tokens.reshape(-1)[shown.top.places]
    )


def test_firings_are_the_dense_ones_on_the_same_positions(
    any_model: Model, tmp_path: object
) -> None:
    token_set = some_tokens()
    saes = [
        make_sae("standard", d_in=32, d_sae=40, hook_name="blocks.1.hook_resid_pre"),
        make_sae("topk", d_in=32, d_sae=640, hook_name="blocks.1.hook_resid_pre"),
        make_sae("gated", d_in=32, d_sae=32, hook_name="blocks.2.attn.hook_z"),
    ]
    found = collect_firings(PlainLease(any_model, saes), token_set, batch_tokens=60)
    places = np.flatnonzero(token_set.mask)
    for sae, firings in zip(saes, found, strict=True):
        dense = dense_activations(any_model, sae, token_set)[token_set.mask]
        np.testing.assert_array_equal(firings.places, places)
        np.testing.assert_array_equal(firings.tokens, token_set.tokens[token_set.mask])
        np.testing.assert_allclose(firings.latents.toarray(), dense, rtol=1e-4, atol=1e-5)
        assert (firings.latents.data > 0).all()
        assert firings.latents.has_sorted_indices
        assert firings.latents.dtype == np.float32
        np.testing.assert_allclose(firings.frequency(), (dense > 0).mean(0))
        store, key = Store(str(tmp_path)), Key("firings", 1, {"d_sae": sae.cfg.d_sae})
        back = store.get_or_compute(key, firings.to_arrays, ARRAYS)
        again = Firings.from_arrays(back)
        assert (again.latents != firings.latents).nnz == 0
        assert (again.n_positions, again.d_sae) == firings.latents.shape
        np.testing.assert_array_equal(again.places, firings.places)


def test_firings_of_a_part_are_spread_evenly(tiny_model: Model, tiny_sae: SAE) -> None:
    token_set = some_tokens(40, 12)
    (firings,) = collect_firings(PlainLease(tiny_model, [tiny_sae]), token_set, max_tokens=80)
    rows = np.unique(firings.places // token_set.context)
    assert 60 <= firings.n_positions <= 120
    assert rows.min() < 10
    assert rows.max() > 30
    # Whole rows: every position of theirs that counts.
    assert firings.n_positions == token_set.mask[rows].sum()
    stopped = Progress()
    stopped.cancel()
    with pytest.raises(JobCancelled):
        collect_firings(PlainLease(tiny_model, [tiny_sae], progress=stopped), token_set)
    with pytest.raises(ValueError, match="max_tokens is 0"):
        collect_firings(PlainLease(tiny_model, [tiny_sae]), token_set, max_tokens=0)


def test_fingerprints_tell_what_changes_results(tiny_model: Model, tiny_sae: SAE) -> None:
    other = make_sae("topk", d_in=32, d_sae=64, hook_name="blocks.1.hook_resid_pre")
    before = fingerprint_of_sae(other)
    assert before != fingerprint_of_sae(tiny_sae)
    other.cfg.k = 3
    changed = fingerprint_of_sae(other)
    assert changed != before
    other.b_enc.data[0] += 1
    assert fingerprint_of_sae(other) != changed
    assert fingerprint_of_model(tiny_model) == fingerprint_of_model(tiny_model)
