"""Windows by the index are those of reading the whole text, as far as they are used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import SAE

from core.activations.build import build_statistics
from core.activations.index import finish
from core.activations.stored_index import index_key, save_index
from core.activations.text_index import CONFIG
from core.autointerp import AutoInterpConfig
from core.autointerp.examples import split_windows
from core.autointerp.gather import gather_windows
from core.autointerp.indexed import windows_by_index
from core.corpus.token_set import TokenSet
from core.lease import PlainLease
from core.models import Model
from core.store import Store

N_ROWS = 240


@pytest.fixture(scope="module")
def token_set() -> TokenSet:
    rows = torch.randint(4, 290, (N_ROWS, 33), generator=torch.Generator().manual_seed(8))
    rows[:, 0] = 0
    return TokenSet.from_rows(rows, bos_id=0)


@pytest.fixture(scope="module")
def lease(tiny_model: Model, tiny_sae: SAE) -> PlainLease:
    return PlainLease(tiny_model, [tiny_sae])


@pytest.fixture(scope="module")
def store(
    lease: PlainLease, token_set: TokenSet, tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """Holds the index of the text."""
    kept = Store(tmp_path_factory.mktemp("indexed"))
    (state,) = build_statistics(lease, token_set, CONFIG)
    key = index_key(
        model_fingerprint=lease.model_fingerprint,
        sae_fingerprint=lease.sae_fingerprints[0],
        tokens_digest=token_set.digest,
        config=CONFIG,
    )
    save_index(kept, key, finish(state))
    return kept


def config(latents: list[int], **fields: object) -> AutoInterpConfig:
    settings = {"buffer": 4, "total_tokens": N_ROWS * 33, "n_top_ex_for_generation": 6}
    return AutoInterpConfig(latents, **(settings | fields))  # type: ignore[arg-type]


def test_a_latent_is_explained_and_scored_with_the_same_examples(
    lease: PlainLease, store: Store, token_set: TokenSet, tiny_model: Model
) -> None:
    known = 0
    for latent in range(12):
        cfg = config([latent])
        found = windows_by_index(lease, store, token_set, cfg, [latent])
        if found is None:
            continue
        known += 1
        (whole,) = gather_windows(lease, token_set, cfg)
        for mine, theirs in zip(
            split_windows(found, cfg, tiny_model),
            split_windows(whole, cfg, tiny_model),
            strict=True,
        ):
            assert [it.toks for it in mine[latent]] == [it.toks for it in theirs[latent]]
            for one, other in zip(mine[latent], theirs[latent], strict=True):
                np.testing.assert_allclose(one.acts, other.acts, rtol=1e-4, atol=1e-5)
    assert known >= 6, "the index hardly ever determined the examples"


def test_only_rows_that_the_index_names_are_read(
    lease: PlainLease, store: Store, token_set: TokenSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.autointerp import gather

    read: set[int] = set()
    batches = gather.token_set_batches

    def noted(*given: object) -> object:
        for rows, tokens in batches(*given):  # type: ignore[arg-type]
            read.update(rows.tolist())
            yield rows, tokens

    monkeypatch.setattr(gather, "token_set_batches", noted)
    windows_by_index(lease, store, token_set, config([3]), [3])
    assert 0 < len(read) <= CONFIG.n_top + 12


def test_without_what_it_needs_the_text_is_read(
    lease: PlainLease, store: Store, token_set: TokenSet, tmp_path: Path
) -> None:
    assert windows_by_index(lease, Store(tmp_path), token_set, config([3]), [3]) is None
    part = config([3], total_tokens=20 * 33)
    assert windows_by_index(lease, store, token_set, part, [3]) is None
    spread = config([3], across_quantiles=True)
    assert windows_by_index(lease, store, token_set, spread, [3]) is None
    many = list(range(40))
    assert windows_by_index(lease, store, token_set, config(many), many) is None
    # More examples than the index has texts of.
    long = config([3], n_top_ex_for_generation=60)
    assert windows_by_index(lease, store, token_set, long, [3]) is None
