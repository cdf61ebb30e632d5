"""The index equals dense activations and plain sorting, for every latent."""

import numpy as np
import pytest
import torch
from sae_lens import SAE

from core.activations import (
    IndexConfig,
    LatentIndex,
    build_index,
    collect_latent_examples,
    latent_examples,
    row_activations,
)
from core.activations import encoding as encoding_module
from core.activations.encoding import firings_of
from core.corpus import TokenSet, default_packing, prompt_tokens
from core.models import Model, cache_sites, load_model
from core.saes import encode, load_sae_from_disk, sae_hook_name
from core.settings import REPOSITORY
from tests.builders import SAE_ARCHITECTURES, make_sae
from tests.dense_index import dense_activations, dense_latent, entries_of

DEMO = REPOSITORY / "demo"
SITES = {
    "blocks.1.hook_resid_pre": 32,
    "blocks.1.attn.hook_z": 32,
    "blocks.0.mlp.hook_post": 128,
    "blocks.1.hook_mlp_out": 32,
}


def some_tokens(n_rows: int = 13, context: int = 20, *, seed: int = 0) -> TokenSet:
    """Rows of different lengths, BOS first, padded."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(4, 60, size=(n_rows, context))
    tokens[:, 0] = 0
    lengths = generator.integers(2, context + 1, size=n_rows)
    lengths[0], lengths[1] = context, 2
    tokens[np.arange(context) >= lengths[:, None]] = 1
    return TokenSet.from_rows(tokens, bos_id=0, pad_id=1)


def assert_equals_dense(
    index: LatentIndex, dense: np.ndarray, token_set: TokenSet, *, rtol: float = 0
) -> None:
    config = index.config
    fired = 0
    for latent in range(index.n_latents):
        expected = dense_latent(dense, latent, config)
        fired += expected.count > 0
        assert index.count[latent] == expected.count
        np.testing.assert_allclose(
            index.peak[latent], expected.peak, rtol=rtol, atol=1e-5 * (rtol > 0)
        )
        np.testing.assert_allclose(index.total[latent], expected.total, rtol=1e-5, atol=1e-5)
        _same(entries_of(index.top_values[latent], index.top_places[latent]), expected.top, rtol)
        assert index.band_counts[latent].tolist() == expected.band_counts
        np.testing.assert_allclose(
            index.band_edges[latent], expected.band_edges, rtol=rtol, atol=1e-5 * (rtol > 0)
        )
        for band in range(config.n_quantiles):
            got = entries_of(index.band_values[latent, band], index.band_places[latent, band])
            _same(got, expected.bands[band], rtol)
        shown = latent_examples(index, latent, token_set)
        for place, window in zip(shown.top.places, shown.top.activations, strict=True):
            row, position = divmod(int(place), token_set.context)
            around = np.zeros(config.window, dtype=np.float32)
            for step in range(-config.buffer, config.buffer + 1):
                if 0 <= position + step < token_set.context:
                    around[config.buffer + step] = dense[row, position + step, latent]
            np.testing.assert_allclose(window, around.astype(np.float16), rtol=2e-3, atol=1e-4)
    assert fired > index.n_latents // 4


def _same(got: list[tuple[float, int]], expected: list[tuple[float, int]], rtol: float) -> None:
    assert [place for _, place in got] == [place for _, place in expected]
    np.testing.assert_allclose(
        [v for v, _ in got], [v for v, _ in expected], rtol=rtol, atol=1e-5 * (rtol > 0)
    )


@pytest.mark.parametrize("architecture", SAE_ARCHITECTURES)
def test_every_latent_equals_dense(architecture: str, any_model: Model) -> None:
    sae = make_sae(architecture, d_in=32, d_sae=48, hook_name="blocks.1.hook_resid_pre")
    token_set = some_tokens()
    config = IndexConfig(n_top=4, n_quantiles=5, per_quantile=2, buffer=3)
    (index,) = build_index(any_model, [sae], token_set, config, batch_tokens=60)
    dense = dense_activations(any_model, sae, token_set)
    assert_equals_dense(index, dense, token_set, rtol=1e-4)


@pytest.mark.parametrize("hook_name", SITES)
@pytest.mark.parametrize("one_per_row", [True, False])
def test_other_sites(hook_name: str, one_per_row: bool, tiny_model: Model) -> None:
    sae = make_sae("standard", d_in=SITES[hook_name], d_sae=40, hook_name=hook_name)
    token_set = some_tokens()
    config = IndexConfig(n_top=5, n_quantiles=4, per_quantile=3, buffer=2, one_per_row=one_per_row)
    (index,) = build_index(tiny_model, [sae], token_set, config)
    dense = dense_activations(tiny_model, sae, token_set)
    assert_equals_dense(index, dense, token_set, rtol=1e-4)


def test_transcoder(tiny_model: Model) -> None:
    sae = make_sae("transcoder", d_in=32, d_sae=40, hook_name="blocks.1.ln2.hook_normalized")
    token_set = some_tokens()
    (index,) = build_index(tiny_model, [sae], token_set, IndexConfig(n_top=3, buffer=2))
    dense = dense_activations(tiny_model, sae, token_set)
    assert_equals_dense(index, dense, token_set, rtol=1e-4)


def test_ties_go_to_the_earlier_place(tiny_model: Model) -> None:
    # Equal rows have equal activations, bit for bit, within a batch.
    rows = torch.randint(4, 60, (3, 12), generator=torch.Generator().manual_seed(2))
    rows[:, 0] = 0
    token_set = TokenSet.from_rows(rows[[0, 1, 0, 2, 0, 1]], bos_id=0)
    sae = make_sae("standard", d_in=32, d_sae=40, hook_name="blocks.1.hook_resid_pre")
    config = IndexConfig(n_top=2, n_quantiles=3, per_quantile=2, buffer=1)
    (index,) = build_index(tiny_model, [sae], token_set, config)
    dense = dense_activations(tiny_model, sae, token_set)
    assert_equals_dense(index, dense, token_set)
    tied = (index.top_values[:, 0] == index.top_values[:, 1]) & (index.top_places[:, 1] >= 0)
    assert tied.sum() > 5
    assert (index.top_places[tied, 0] < index.top_places[tied, 1]).all()


@pytest.mark.parametrize("include_bos", [False, True])
def test_bos_counts_by_choice_and_padding_never(include_bos: bool, tiny_model: Model) -> None:
    tokens = some_tokens().tokens
    token_set = TokenSet.from_rows(tokens, bos_id=0, pad_id=1, include_bos=include_bos)
    sae = make_sae("standard", d_in=32, d_sae=40, hook_name="blocks.1.hook_resid_pre")
    (index,) = build_index(tiny_model, [sae], token_set)
    places = np.concatenate([index.top_places.ravel(), index.band_places.ravel()])
    places = places[places >= 0]
    on_bos = places % token_set.context == 0
    assert on_bos.any() == include_bos
    assert (places % token_set.context < token_set.lengths[places // token_set.context]).all()
    assert index.n_tokens == int((token_set.lengths - (0 if include_bos else 1)).sum())
    dense = dense_activations(tiny_model, sae, token_set)
    assert_equals_dense(index, dense, token_set, rtol=1e-4)


def test_several_saes_in_one_pass_are_each_as_alone(tiny_model: Model) -> None:
    saes = [
        make_sae("standard", d_in=32, d_sae=40, hook_name="blocks.1.hook_resid_pre"),
        make_sae("topk", d_in=32, d_sae=64, hook_name="blocks.1.hook_resid_pre", seed=1),
        make_sae("jumprelu", d_in=32, d_sae=32, hook_name="blocks.2.attn.hook_z", seed=2),
    ]
    token_set = some_tokens()
    together = build_index(tiny_model, saes, token_set, batch_tokens=60)
    for sae, index in zip(saes, together, strict=True):
        (alone,) = build_index(tiny_model, [sae], token_set, batch_tokens=60)
        for name, array in alone.to_arrays().items():
            np.testing.assert_array_equal(array, index.to_arrays()[name], err_msg=name)


def test_latent_chunks_change_nothing(tiny_model: Model, tiny_sae: SAE) -> None:
    token_set = some_tokens()
    (whole,) = build_index(tiny_model, [tiny_sae], token_set)
    for chunk in (1, 7, 64):
        (parts,) = build_index(tiny_model, [tiny_sae], token_set, latent_chunk=chunk)
        for name, array in whole.to_arrays().items():
            np.testing.assert_array_equal(array, parts.to_arrays()[name], err_msg=name)


@pytest.mark.parametrize("d_sae", [48, 700, 1111, 4096])
@pytest.mark.parametrize("rescaled", [False, True])
def test_topk_firings_are_those_of_encode(d_sae: int, rescaled: bool) -> None:
    sae = make_sae("topk", d_in=32, d_sae=d_sae, hook_name="blocks.1.hook_resid_pre")
    sae.cfg.k = sae.activation_fn.k = 8  # below the width of a group, for the wider ones
    if rescaled:
        sae.cfg.rescale_acts_by_decoder_norm = True
        sae.W_dec.data *= torch.linspace(0.5, 2, d_sae)[:, None]
    x = torch.randn(90, 32, generator=torch.Generator().manual_seed(0))
    x[3] = 0
    x[4] = -100 * sae.W_enc[:, :5].sum(1)  # few positive pre-activations
    assert encoding_module.is_plain_topk(sae)
    _assert_firings(sae, x)


def test_topk_with_fewer_positive_scores_than_k() -> None:
    sae = make_sae("topk", d_in=4, d_sae=4096, hook_name="blocks.1.hook_resid_pre")
    sae.cfg.k = sae.activation_fn.k = 8
    sae.b_enc.data.fill_(-2.5)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    counts = (encode(sae, x) > 0).sum(1)
    assert ((counts > 0) & (counts < 8)).any()
    assert (counts == 0).any()
    _assert_firings(sae, x)


def test_topk_of_heads(tiny_model: Model, tiny_tokens: torch.Tensor) -> None:
    sae = make_sae("topk", d_in=32, d_sae=1024, hook_name="blocks.1.attn.hook_z")
    sae.cfg.k = sae.activation_fn.k = 6
    site = cache_sites(tiny_model, tiny_tokens, [sae_hook_name(sae)])[sae_hook_name(sae)]
    _assert_firings(sae, site.flatten(0, 1))


def _assert_firings(sae: SAE, x: torch.Tensor) -> None:
    dense = encode(sae, x).numpy()
    rebuilt = np.zeros_like(dense)
    for position, latent, value in firings_of(sae, x, max_bytes=1):
        assert (np.diff(position) >= 0).all()
        assert (value > 0).all()
        rebuilt[position, latent] = value
    np.testing.assert_array_equal(rebuilt > 0, dense > 0)
    np.testing.assert_allclose(rebuilt, dense, rtol=1e-5, atol=1e-6)


def test_contract_takes_plain_rows(any_model: Model, tiny_sae: SAE) -> None:
    tokens = torch.from_numpy(some_tokens().tokens)
    index = collect_latent_examples(
        any_model, tiny_sae, tokens, n_top=3, n_quantiles=4, per_quantile=2, buffer=2, pad_id=1
    )
    token_set = TokenSet.from_rows(tokens, bos_id=0, pad_id=1)
    dense = dense_activations(any_model, tiny_sae, token_set)
    assert_equals_dense(index, dense, token_set, rtol=1e-4)


def test_row_activations_are_the_latents_own(tiny_model: Model, tiny_sae: SAE) -> None:
    token_set = some_tokens()
    dense = dense_activations(tiny_model, tiny_sae, token_set)
    latent = int(np.argmax((dense > 0).sum((0, 1))))
    rows = np.array([5, 2, 5])
    got = row_activations(tiny_model, tiny_sae, token_set, rows, latent)
    np.testing.assert_allclose(got, dense[rows, :, latent], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="no latent 64"):
        row_activations(tiny_model, tiny_sae, token_set, rows, 64)


@pytest.mark.slow
def test_shipped_sae_equals_dense() -> None:
    model = load_model(DEMO / "models/docs-small", device="cpu")
    family = sorted((DEMO / "saes/docs-small-res-splitting").iterdir())
    sae = load_sae_from_disk(min(family, key=lambda f: int(f.name.rsplit("_", 1)[1])), device="cpu")
    text = " ".join(str(line) for line in (np.ndarray.__doc__, np.sum.__doc__, np.einsum.__doc__))
    token_set = prompt_tokens([text], model.tokenizer, default_packing(model, sae, context=128))
    assert token_set.n_tokens > 1000
    index = collect_latent_examples(model, sae, token_set)
    dense = dense_activations(model, sae, token_set)
    fires = (dense > 0).sum((0, 1))
    # Sums of real activations differ in their last bits between batch shapes: near-ties may swap.
    np.testing.assert_allclose(index.count, fires, atol=1)
    np.testing.assert_allclose(index.peak, dense.max((0, 1)), rtol=1e-4, atol=1e-5)
    peaks = -np.sort(-dense.max(1), axis=0)[:20].T
    shown = index.top_places >= 0
    np.testing.assert_allclose(index.top_values[:, : peaks.shape[1]], peaks, rtol=1e-3, atol=1e-2)
    latent, _ = np.nonzero(shown)
    flat = dense.reshape(-1, sae.cfg.d_sae)
    values = flat[index.top_places[shown], latent]
    np.testing.assert_allclose(index.top_values[shown], values, rtol=1e-3, atol=1e-2)
    for band in range(10):
        found = (index.band_places[:, band] >= 0).sum(1)
        np.testing.assert_array_equal(found, np.minimum(index.band_counts[:, band], 5))


def test_refusals(tiny_model: Model, tiny_sae: SAE) -> None:
    token_set = some_tokens()
    with pytest.raises(ValueError, match="no SAE"):
        build_index(tiny_model, [], token_set)
    wide = TokenSet.from_rows(np.full((1, 65), 5))
    with pytest.raises(ValueError, match="smaller context"):
        build_index(tiny_model, [tiny_sae], wide)
    with pytest.raises(ValueError, match="vocabulary"):
        build_index(tiny_model, [tiny_sae], TokenSet.from_rows(np.full((1, 9), 5000)))
    with pytest.raises(ValueError, match="n_quantiles is 17"):
        IndexConfig(n_quantiles=17)
    broken = make_sae("standard", d_in=32, d_sae=40, hook_name="blocks.1.hook_resid_pre")
    broken.b_enc.data[3] = float("inf")
    with pytest.raises(ValueError, match="infinite"):
        build_index(tiny_model, [broken], token_set)
