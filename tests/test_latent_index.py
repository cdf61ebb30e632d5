"""The pass behind the latent page: equal to brute force, resumable, shared; what is read of it."""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from core.activations import (
    IndexConfig,
    build_index,
    open_index,
    pass_memory,
    stored_index,
    text_index,
)
from core.activations import build as build_module
from core.activations.stored_index import open_summary
from core.activations.text_index import IndexRequest, OpenIndex, make_index, was_ever_made
from core.catalog import Catalog
from core.corpus.documents import Corpus, Document
from core.engine import Engine
from core.jobs.progress import JobCancelled
from core.latent.dashboard import nearest, read_dashboard
from core.latent.examples import example_rows, read_rows, rows_of
from core.lease import Lease
from core.logit_statistics import logit_effects
from core.models import cache_sites
from core.saes import encode, sae_hook_name
from core.settings import Settings
from core.store import Store, StoreError
from core.store.tier import Tier
from tests.demo_bundle import write_demo

HOOK = "blocks.1.hook_resid_pre"
RELEASE = "docs-small-res"
SAE = (RELEASE, HOOK, "")
BATCH = 256
LATENTS = (0, 7, 13, 63)


def text(number: int) -> str:
    words = (
        "array",
        "axis",
        "the river",
        "in 1998",
        "Mary",
        "returns",
        "\u05e9\u05dc\u05d5\u05dd",
        "🙂",
    )
    generator = np.random.default_rng(number)
    return " ".join(generator.choice(words, size=int(generator.integers(2, 90))))


CORPUS = Corpus(
    "Some texts",
    "digest of some texts",
    lambda: iter([Document(f"text {number}", text(number)) for number in range(60)]),
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("latent-index")
    settings = Settings(cache_dir=folder / "cache", demo_dir=write_demo(folder / "demo"))
    return Engine(Catalog(settings), device="cpu")


@pytest.fixture(autouse=True)
def small_batches() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(text_index, "BATCH_TOKENS", BATCH)
    patch.setattr(text_index, "_CHECKPOINT_SECONDS", 0.0)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("latent-store"))


@pytest.fixture
def opened(engine: Engine, store: Store) -> OpenIndex:
    return make_index(lease_of(engine, request()), store, request())[0]


def lease_of(engine: Engine, wanted: IndexRequest) -> Lease:
    names = [(release, sae_id) for release, sae_id, _ in wanted.saes]
    return engine.lease(wanted.model, names)


def request(*saes: tuple[str, str, str], include_bos: bool = False) -> IndexRequest:
    return IndexRequest("docs-small", saes or (SAE,), CORPUS, 4000, include_bos)


def dense(engine: Engine, found: OpenIndex) -> np.ndarray:
    """All activations [rows, context, d_sae], 0 where a position does not count."""
    token_set, rows = found.token_set, []
    with engine.use("docs-small", [(RELEASE, HOOK)]) as (model, (sae,)):
        for row in range(token_set.n_rows):
            tokens = torch.from_numpy(token_set.tokens[row : row + 1].astype(np.int64))
            site = cache_sites(model, tokens, [sae_hook_name(sae)])[sae_hook_name(sae)]
            rows.append(encode(sae, site)[0].numpy())
    return np.where(token_set.mask[..., None], np.stack(rows), 0)


def test_the_pass_equals_brute_force(engine: Engine, store: Store, opened: OpenIndex) -> None:
    assert opened.token_set.n_rows > 64  # more than one stretch
    activations = dense(engine, opened)
    fires = activations > 0
    np.testing.assert_array_equal(opened.summary["count"], fires.sum((0, 1)))
    np.testing.assert_allclose(opened.summary["max"], activations.max((0, 1)), rtol=1e-5)
    whole = open_index(store, opened.key)
    assert whole is not None
    for latent in range(64):
        peaks = np.sort(activations[..., latent].max(1))[::-1][:20]
        kept = whole.top_values[latent]
        np.testing.assert_allclose(kept, np.maximum(peaks, 0), rtol=1e-4, atol=1e-6)


def test_the_pass_equals_that_of_core_activations_bit_for_bit(
    engine: Engine, store: Store, opened: OpenIndex
) -> None:
    with engine.use("docs-small", [(RELEASE, HOOK)]) as (model, (sae,)):
        (plain,) = build_index(model, [sae], opened.token_set, IndexConfig(), batch_tokens=BATCH)
    ours = open_index(store, opened.key)
    assert ours is not None
    for name, array in plain.to_arrays().items():
        np.testing.assert_array_equal(ours.to_arrays()[name], array, err_msg=name)


@pytest.mark.parametrize("end", [RuntimeError("killed"), JobCancelled()])
def test_a_stopped_pass_goes_on_where_it_was(
    engine: Engine,
    opened: OpenIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: Exception,
) -> None:
    store, run_rows, rows_run = Store(tmp_path), build_module.run_rows, []

    def run(*args, **options):
        rows_run.append(len(args[3]))
        if sum(rows_run) > 64 and stop:
            raise end
        return run_rows(*args, **options)

    monkeypatch.setattr(build_module, "run_rows", run)
    stop = True
    with pytest.raises(type(end)):
        make_index(lease_of(engine, request()), store, request())
    assert not was_ever_made(store, request())
    assert list((tmp_path / "passes").iterdir())
    stop = False
    rows_run.clear()
    (again,) = make_index(lease_of(engine, request()), store, request())
    assert sum(rows_run) == opened.token_set.n_rows - 64
    assert again.key == opened.key
    assert again.summary.equals(opened.summary)
    assert not list((tmp_path / "passes").iterdir())


def test_several_saes_share_a_run_and_an_index_is_made_once(
    engine: Engine, opened: OpenIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run_rows, saes_run = Store(tmp_path), build_module.run_rows, []

    def run(model, saes, *args, **options):
        saes_run.append(len(saes))
        return run_rows(model, saes, *args, **options)

    monkeypatch.setattr(build_module, "run_rows", run)
    several = request(SAE, (RELEASE, "blocks.2.hook_resid_pre", ""))
    assert not was_ever_made(store, several)
    found = make_index(lease_of(engine, several), store, several)
    assert set(saes_run) == {2}
    assert found[0].summary.equals(opened.summary)
    assert was_ever_made(store, several.only(1))
    saes_run.clear()
    make_index(lease_of(engine, several.only(1)), store, several.only(1))
    assert saes_run == []
    # Where there is no memory for the states of both, each has a run of its own.
    monkeypatch.setattr(pass_memory, "MOST_BYTES", 1)
    apart = make_index(lease_of(engine, several), Store(tmp_path / "other"), several)
    assert set(saes_run) == {1}
    assert apart[1].summary.equals(found[1].summary)


def test_bos_counts_only_when_asked(engine: Engine, store: Store, opened: OpenIndex) -> None:
    (with_bos,) = make_index(
        lease_of(engine, request(include_bos=True)), store, request(include_bos=True)
    )
    assert with_bos.n_tokens == opened.n_tokens + opened.token_set.n_rows
    assert opened.n_tokens == opened.token_set.lengths.sum() - opened.token_set.n_rows


@pytest.mark.parametrize("latent", LATENTS)
def test_dashboard_is_what_the_latent_does(
    engine: Engine, store: Store, opened: OpenIndex, latent: int
) -> None:
    found = read_dashboard(store, opened, latent)
    assert found is not None
    activations = dense(engine, opened)
    mine = activations[..., latent]
    values = mine[mine > 0]
    assert found.count == len(values)
    assert found.counts.sum() == len(values)
    np.testing.assert_allclose(found.mean, values.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.std, values.std(), rtol=1e-3)
    assert found.edges[0] <= values.min() <= values.max() <= found.edges[-1]
    expected = np.histogram(values, bins=found.edges)[0]
    assert np.abs(found.counts - expected).sum() <= 2  # a value on an edge may round either way
    assert sum(band.count for band in found.examples.bands) == len(values)
    fires = (activations > 0).reshape(-1, activations.shape[-1])
    for partner in found.partners:
        both = int((fires[:, latent] & fires[:, partner.latent]).sum())
        assert partner.together == both
        assert partner.share == pytest.approx(both / len(values))
        assert partner.frequency == pytest.approx(fires[:, partner.latent].sum() / opened.n_tokens)


def test_examples_show_the_text_and_its_activations(
    engine: Engine, store: Store, opened: OpenIndex
) -> None:
    found = read_dashboard(store, opened, 7)
    assert found is not None
    activations = dense(engine, opened)[..., 7]
    rows = rows_of(found, opened.token_set.context)
    read = read_rows(engine.lease("docs-small", [(RELEASE, HOOK)]), opened, rows, 7)
    for row in rows:
        np.testing.assert_allclose(read[row], activations[row], rtol=1e-4, atol=1e-6)
    near = example_rows(found.examples.top, opened, around=10)
    far = example_rows(found.examples.top, opened, around=100, read=read)
    unread = example_rows(found.examples.top, opened, around=25)
    for number, place in enumerate(found.examples.top.places.tolist()):
        row, position = divmod(place, opened.token_set.context)
        document = int(found.examples.top.documents[number])
        assert far[number].source == opened.token_set.names[document]
        peak = far[number].peak
        assert peak is not None
        assert far[number].activations[peak] == pytest.approx(activations[row, position], rel=1e-4)
        # A window may begin or end within a character.
        whole = re.sub("^(<0x..>)+|(<0x..>)+$", "", "".join(near[number].tokens))
        assert whole in "".join(far[number].tokens)
        assert "<|endoftext|>" not in far[number].tokens
        assert not far[number].starts_inside
        length = int(opened.token_set.lengths[row])
        starts = np.cumsum([0, *far[number].n_tokens])[:-1]
        expected = np.maximum.reduceat(activations[row, 1:length], starts)
        np.testing.assert_allclose(far[number].activations, expected, rtol=1e-4, atol=1e-6)
        assert np.isfinite(near[number].activations).all()
        pairs = zip(unread[number].n_tokens, unread[number].activations, strict=True)
        beyond = sum(n for n, value in pairs if np.isnan(value))
        more = sum(unread[number].n_tokens) - sum(near[number].n_tokens)
        assert more - 6 <= beyond <= more  # a character at an edge counts as known


def test_logit_effects_are_those_of_the_weights(engine: Engine) -> None:
    found = logit_effects(engine.lease("docs-small", [(RELEASE, HOOK)]), 13)
    with engine.use("docs-small", [(RELEASE, HOOK)]) as (model, (sae,)):
        logits = (sae.W_dec[13] @ model.W_U).numpy()
    order = np.argsort(logits)
    assert [it.token_id for it in found.suppressed] == order[:10].tolist()
    assert [it.token_id for it in found.boosted] == order[::-1][:10].tolist()
    np.testing.assert_allclose(
        [it.effect for it in found.suppressed], logits[order[:10]], rtol=1e-5
    )
    assert found.counts.sum() == len(logits)


def test_nearest_in_the_sae_and_in_its_family(engine: Engine) -> None:
    release = "docs-small-res-splitting"
    keys = [(release, f"{HOOK}_{width}") for width in (64, 32, 128)]
    table = nearest(engine.lease("docs-small", keys), keys, 5, k=4)
    assert table["width"].tolist() == [64] * 4 + [32] * 4 + [128] * 4
    with engine.use("docs-small", keys) as (_, saes):
        rows = {sae.cfg.d_sae: sae.W_dec.numpy() for sae in saes}
    own = rows[64][5] / np.linalg.norm(rows[64][5])
    for width, decoder in rows.items():
        cosines = decoder @ own / np.linalg.norm(decoder, axis=1)
        if width == 64:
            cosines[5] = -1
        part = table[table["width"] == width]
        assert part["latent"].tolist() == np.argsort(-cosines)[:4].tolist()
        np.testing.assert_allclose(part["cosine"], np.sort(cosines)[::-1][:4], rtol=1e-5)


def test_latents_that_do_not_exist(engine: Engine, store: Store, opened: OpenIndex) -> None:
    for latent in (-1, 64):
        with pytest.raises(ValueError, match="choose 0 to 63"):
            read_dashboard(store, opened, latent)


def test_on_a_full_disk_the_index_is_shown_from_memory(
    engine: Engine, opened: OpenIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, put = Store(tmp_path), Tier.put

    def full(tier: Tier, name: str, value: bytes, **whose: str | None) -> None:
        if len(value) > 10_000:
            raise StoreError("The disk is full.") from OSError(errno.ENOSPC, "No space left")
        put(tier, name, value, **whose)

    def no_checkpoint(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    with monkeypatch.context() as patch:
        patch.setattr(Tier, "put", full)
        patch.setattr(os, "replace", no_checkpoint)
        (found,) = make_index(lease_of(engine, request()), store, request())
    assert found.summary.equals(opened.summary)
    dashboard = read_dashboard(store, found, 7)
    assert dashboard is not None
    assert dashboard.count == found.summary["count"][7]
    assert "in memory alone" in (store.trouble or "")
    assert not list((tmp_path / "passes").iterdir()), "no half of a checkpoint stays"
    after_a_restart = Store(tmp_path)
    assert open_index(after_a_restart, found.key) is None
    assert open_summary(after_a_restart, found.key) is None, "no summary without its parts"


def test_parts_of_an_index_that_make_room_for_one_another_are_held(
    engine: Engine, opened: OpenIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has room for one part: each part that is written pushes the last one out."""
    store, put = Store(tmp_path), Tier.put
    monkeypatch.setattr(stored_index, "_PART", 16)
    parts: list[str] = []

    def one_part(tier: Tier, name: str, value: bytes, **whose: str | None) -> None:
        if len(value) > 10_000:
            for earlier in parts:
                tier.remove(earlier)
            parts[:] = [name]
        put(tier, name, value, **whose)

    with monkeypatch.context() as patch:
        patch.setattr(Tier, "put", one_part)
        patch.setattr(Store, "_write_held", lambda self: None)
        (found,) = make_index(lease_of(engine, request()), store, request())
    assert len(parts) == 1
    for latent in LATENTS:
        dashboard = read_dashboard(store, found, latent)
        assert dashboard is not None
        assert dashboard.count == opened.summary["count"][latent]
    assert "in memory alone" in (store.trouble or "")
    assert open_summary(Store(tmp_path), found.key) is None
