"""Every firing, kept: against brute force, cut off and resumed, searched in three ways."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from statsmodels.stats.proportion import proportion_confint

from core.activations import build_index, index_key, open_index
from core.activations.bins import bin_edges
from core.activations.text_index import CONFIG, IndexRequest, was_ever_made
from core.corpus.documents import pasted_text
from core.firings import make as making
from core.firings.find import FindRequest, Own, find
from core.firings.kept import Totals, kept_firings
from core.firings.make import make_firings
from core.firings.places import places_of_regex, places_of_tokens, tokens_named
from core.firings.search import (
    conditional_histogram,
    firing_at,
    places_of_latent,
    ranked,
)
from core.firings.shard import bytes_a_firing, read_shard, write_shard
from core.firings.typed_text import firing_in_text
from core.jobs.progress import JobCancelled, Progress
from core.lease import PlainLease
from core.models import cache_sites
from core.prompt_latents.active import read_prompt
from core.saes import encode
from core.store import Store
from core.tokens import vocabulary_texts
from core.tokens.rows import texts_of_row
from core.wilson import wilson_low
from tests.builders import make_sae

HOOKS = ("blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre", "blocks.1.attn.hook_z")
WORDS = tuple("the mean of an array is numpy.mean along axis 日本 a 🙂 sum".split())  # noqa: SIM905


@pytest.fixture(scope="module")
def planted(tiny_model, tmp_path_factory):
    rng = np.random.default_rng(1)
    documents = [" ".join(rng.choice(WORDS, rng.integers(5, 40))) for _ in range(60)]
    kinds = ("standard", "topk", "jumprelu")
    saes = [
        make_sae(kind, d_in=32, d_sae=d_sae, hook_name=hook, seed=seed, context_size=32)
        for seed, (kind, hook, d_sae) in enumerate(zip(kinds, HOOKS, (48, 64, 40), strict=True))
    ]
    names = tuple(("r", f"sae{number}", "1") for number in range(3))
    corpus = pasted_text("\n\n".join(documents))
    request = IndexRequest("tiny", names, corpus, 3000)
    store = Store(tmp_path_factory.mktemp("firings"))
    patch = pytest.MonkeyPatch()
    patch.setattr(making, "BATCH_TOKENS", 256)
    patch.setattr("core.activations.build._STRETCH_BATCHES", 2)
    kept = make_firings(PlainLease(tiny_model, saes), store, request)
    yield tiny_model, saes, request, store, kept
    patch.undo()


@pytest.fixture(scope="module")
def tiny_model(tiny_gpt2_dir):
    from core.models import load_model

    return load_model(tiny_gpt2_dir)


@pytest.fixture(scope="module")
def dense(planted):
    """Every SAE's activations, row by row, 0 where a position does not count."""
    model, saes, _, _, kept = planted
    token_set = kept[0].token_set
    found = [np.zeros((*token_set.tokens.shape, sae.cfg.d_sae), np.float32) for sae in saes]
    with torch.no_grad():
        for row in range(token_set.n_rows):
            ids = torch.from_numpy(token_set.tokens[row : row + 1].astype(np.int64))
            sites = cache_sites(model, ids, list(HOOKS))
            for one, sae, hook in zip(found, saes, HOOKS, strict=True):
                acts = encode(sae, sites[hook])[0].clamp(min=0).numpy()
                one[row] = np.where(token_set.mask[row][:, None], acts, 0)
    return found


def test_every_firing_is_there_sorted_and_readable_by_anything(planted, dense) -> None:
    kept = planted[4]
    assert len(kept[0].spans) > 2
    for one, whole in zip(kept, dense, strict=True):
        files = sorted(one.folder.glob("*.parquet"))
        table = pd.concat([pq.read_table(file).to_pandas() for file in files], ignore_index=True)
        order = table.sort_values(["row", "position", "latent"], kind="stable").index
        assert (order == table.index).all(), "sorted over all files"
        row, position, latent = np.nonzero(whole)
        np.testing.assert_array_equal(table["row"], row)
        np.testing.assert_array_equal(table["position"], position)
        np.testing.assert_array_equal(table["latent"], latent)
        np.testing.assert_allclose(table["value"], whole[row, position, latent], rtol=1e-4)
        assert table["value"].dtype == np.float32
        totals = one.totals
        np.testing.assert_array_equal(totals.count, (whole > 0).sum((0, 1)))
        np.testing.assert_allclose(totals.peak, whole.max((0, 1)), rtol=1e-4)
        np.testing.assert_allclose(totals.total, whole.sum((0, 1)), rtol=1e-4)
        share = (whole > 0).sum((0, 1)) / one.token_set.n_tokens
        np.testing.assert_allclose(one.rates(), share)


def test_the_index_of_the_files_is_that_of_a_pass(planted) -> None:
    model, saes, _, store, kept = planted
    lease = PlainLease(model, saes)
    token_set = kept[0].token_set
    passed = build_index(model, saes, token_set, CONFIG, batch_tokens=256)
    for one, sae_fingerprint in zip(passed, lease.sae_fingerprints, strict=True):
        key = index_key(
            model_fingerprint=lease.model_fingerprint,
            sae_fingerprint=sae_fingerprint,
            tokens_digest=token_set.digest,
            config=CONFIG,
        )
        other = open_index(store, key).to_arrays()
        for name, array in one.to_arrays().items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.parametrize(
    "pattern",
    [r"numpy\.mean", "me?an", "日|🙂", "^..", r"(of|an) ", "MEAN"],
    ids=["name", "letters", "characters", "begin", "group", "case"],
)
def test_patterns_and_tokens_find_what_brute_force_finds(planted, dense, pattern) -> None:
    model, _, _, _, kept = planted
    token_set, texts = kept[0].token_set, vocabulary_texts(model)
    fold = pattern.isupper()
    mask = places_of_regex(token_set, texts, pattern, ignore_case=fold)
    wanted = np.zeros_like(mask)
    for row in range(token_set.n_rows):
        first = token_set.leading(row)
        ids = token_set.tokens[row, first : token_set.lengths[row]].tolist()
        parts = texts_of_row(texts, ids).parts
        owner = [n for n, part in enumerate(parts) for _ in part]
        for match in re.finditer(pattern, "".join(parts), re.IGNORECASE if fold else 0):
            for n in set(owner[match.start() : match.end()]):
                last = n + 1
                while last < len(parts) and parts[last] == "":
                    last += 1
                wanted[row, first + n : first + last] = True
    wanted &= token_set.mask
    assert wanted.any()
    np.testing.assert_array_equal(mask, wanted)
    _check(kept, dense, mask)


def test_tokens_find_what_brute_force_finds(planted, dense) -> None:
    model, _, _, _, kept = planted
    token_set, texts = kept[0].token_set, vocabulary_texts(model)
    ids = tokens_named(texts, 'a "e"')
    assert {texts.within(token) for token in ids} <= {"a", " a", "e"}
    assert len(ids) >= 2
    mask = places_of_tokens(token_set, ids)
    wanted = np.isin(token_set.tokens, ids) & token_set.mask
    np.testing.assert_array_equal(mask, wanted)
    _check(kept, dense, mask)
    for typed, words in (
        ("", "Type one"),
        ("nosuchtoken", "is no single token"),
        ("a " * 101, "101"),
    ):
        with pytest.raises(ValueError, match=words):
            tokens_named(texts, typed)
    with pytest.raises(ValueError, match="where nothing stands"):
        places_of_regex(token_set, texts, "x*")
    with pytest.raises(ValueError, match="look-around"):
        places_of_regex(token_set, texts, "(?=x)y")


def _check(kept, dense, mask) -> None:
    table = firing_at(kept, [mask] * 3)
    for number, whole in enumerate(dense):
        here = whole[mask]
        fires = np.flatnonzero(here.max(0))
        mine = table[table["sae"] == f"sae{number}"].set_index("latent")
        assert sorted(mine.index) == fires.tolist()
        mine = mine.loc[fires]
        np.testing.assert_allclose(mine["activation"], here.max(0)[fires], rtol=1e-4)
        np.testing.assert_allclose(mine["mean"], here.mean(0)[fires], rtol=1e-4)
        fired, count = (here > 0).sum(0)[fires], (whole > 0).sum((0, 1))[fires]
        np.testing.assert_array_equal(mine["fired"], fired)
        np.testing.assert_array_equal(mine["count"], count)
        np.testing.assert_allclose(mine["share"], fired / count)
        peaks = whole.max((0, 1))[fires]
        np.testing.assert_allclose(mine["of_peak"], here.max(0)[fires] / peaks, rtol=1e-4)
        assert (mine["places"] == mask.sum()).all()
        low = [
            proportion_confint(n, of, method="wilson")[0]
            for n, of in zip(fired, count, strict=True)
        ]
        np.testing.assert_allclose(mine["specificity"], low, atol=1e-9)
        flat = whole.reshape(-1, whole.shape[-1])
        np.testing.assert_allclose(flat[mine["place"], fires], mine["activation"], rtol=1e-4)
    for by in ("activation", "of_peak", "specificity"):
        values = ranked(table, by)[by].to_numpy()
        assert (np.diff(values) <= 0).all()


def test_one_latent_and_what_fires_with_it(planted, dense) -> None:
    kept = planted[4]
    latent = int(np.argmax((dense[1] > 0).sum((0, 1))))
    mask = places_of_latent(kept[1], latent)
    np.testing.assert_array_equal(mask, dense[1][:, :, latent] > 0)
    _check(kept, dense, mask)
    other = int(np.argmax((dense[0] > 0).sum((0, 1))))
    edges, inside, outside = conditional_histogram(kept[0], other, mask)
    values = dense[0][:, :, other]
    for counts, some in ((inside, values[mask]), (outside, values[~mask])):
        clipped = np.clip(some[some > 0], edges[0], edges[-1] * 0.999)
        np.testing.assert_array_equal(counts, np.histogram(clipped, bin_edges())[0])
    with pytest.raises(ValueError, match="There is no latent 48"):
        places_of_latent(kept[0], 48)


def test_what_fires_where_a_latent_should_and_is_silent(planted, dense) -> None:
    model, saes, _, _, kept = planted
    lease = PlainLease(model, saes)
    ids = tokens_named(vocabulary_texts(model), 'a "e"')
    meant = places_of_tokens(kept[0].token_set, ids)
    latent = int(np.argmax(((dense[0] > 0) & meant[:, :, None]).sum((0, 1)) % meant.sum()))
    fires = dense[0][:, :, latent] > 0
    silent = meant & ~fires
    assert 0 < silent.sum() < meant.sum()
    request = FindRequest("tokens", 'a "e"', sae=kept[0].sae, latent=latent)
    every, instead = find(lease, kept, request), find(lease, kept, replace(request, silent=True))
    pd.testing.assert_frame_equal(every.table, firing_at(kept, [meant] * 3))
    pd.testing.assert_frame_equal(instead.table, firing_at(kept, [silent] * 3))
    assert instead.n_places == silent.sum()
    assert latent not in set(instead.table.loc[instead.table["sae"] == "sae0", "latent"])
    wanted = Own((meant & fires).sum(), meant.sum(), fires.sum() / kept[0].token_set.n_tokens)
    assert every.own == instead.own == wanted
    low, high = proportion_confint(wanted.fired, wanted.places, method="wilson")
    np.testing.assert_allclose(wanted.interval, (low, high))
    assert find(lease, kept[1:], request).own is None
    with pytest.raises(ValueError, match="were not kept"):
        find(lease, kept[1:], replace(request, silent=True))
    with pytest.raises(ValueError, match="There is no latent 48"):
        find(lease, kept, replace(request, silent=True, latent=48))
    never = replace(request, latent=int(np.argmin((dense[0] > 0).sum((0, 1)))))
    assert find(lease, kept, never).own.fired == (meant & (dense[0][:, :, never.latent] > 0)).sum()
    assert request.key(["a"]) != replace(request, silent=True).key(["a"])


def test_a_typed_text_is_read_as_the_prompt_tab_reads_it(planted) -> None:
    model, saes, _, _, kept = planted
    names = [one.sae for one in kept]
    text = "the mean of numpy along an axis 日本"
    known = {kept[0].sae: kept[0].totals}
    found = firing_in_text(PlainLease(model, saes), names, text, known)
    for number, (name, sae) in enumerate(zip(names, saes, strict=True)):
        read = read_prompt(PlainLease(model, [sae]), text)
        alone = read.active.per_latent().sort_values("latent")
        mine = found.table[found.table["sae"] == name[1]].sort_values("latent")
        assert mine["latent"].tolist() == alone["latent"].tolist()
        np.testing.assert_allclose(mine["activation"], alone["activation"], rtol=1e-5)
        np.testing.assert_array_equal(mine["fired"], alone["n_tokens"])
        np.testing.assert_array_equal(mine["place"], alone["position"] - read.n_leading)
        assert mine["share"].isna().all() == (number > 0), "of the others no totals are known"
        if number == 0:
            count = kept[0].totals.count[mine["latent"]] + mine["fired"]
            np.testing.assert_array_equal(mine["count"], count)
    assert "".join(found.tokens)
    last = ranked(found.table, "specificity")["specificity"]
    assert last.iloc[-1] != last.iloc[-1], "what is not known comes last"


def test_a_pass_that_was_cut_off_goes_on_by_the_file(planted, tmp_path) -> None:
    model, saes, request, _, kept = planted
    store, progress = Store(tmp_path), Progress()
    original = Progress.update

    def update(self, done, total=None, *, unit="", message=""):
        if message == "Keeping every firing" and done > 1000:
            self.cancel()
        original(self, done, total, unit=unit, message=message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "update", update)
        with pytest.raises(JobCancelled):
            make_firings(PlainLease(model, saes, progress=progress), store, request)
    assert kept_firings(tmp_path) == [], "half of it is nobody's answer"
    [text_file] = (tmp_path / "firings").glob("tokens-*")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert 0 < len(before) < sum(len(one.spans) for one in kept)
    again = make_firings(PlainLease(model, saes), store, request)
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())
    for one, other in zip(kept, again, strict=True):
        assert one.folder.name == other.folder.name
        for span in one.spans:
            assert one.file(span).read_bytes() == other.file(span).read_bytes()
    assert not list(tmp_path.rglob("*.part"))
    assert was_ever_made(store, request) is False
    assert [one.is_of(request) for one in kept_firings(tmp_path, model="tiny")] == [True] * 3
    assert not kept_firings(tmp_path)[0].is_of(replace(request, tokens=7))
    damaged = again[0].file(again[0].spans[0])
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cannot be read .*made again"):
        firing_at([again[0]], [np.ones(again[0].token_set.tokens.shape, bool)])
    freed = [one.delete() for one in again]
    assert all(size > 0 for size in freed)
    assert not text_file.exists()
    assert kept_firings(tmp_path) == []


@pytest.mark.parametrize("d_sae", [2048, 16_384, 1 << 20], ids=["2k", "16k", "1m"])
def test_the_size_on_the_disk_is_said_beforehand(tmp_path: Path, d_sae: int) -> None:
    rng = np.random.default_rng(0)
    n = 300_000
    place = np.sort(rng.integers(0, n // 32, n)).astype(np.int32)
    latent = rng.integers(0, d_sae, n).astype(np.int32)
    value = rng.gamma(2, 1, n).astype(np.float32)
    size = write_shard(tmp_path / "x.parquet", [(place, latent, value)], context=128, d_sae=d_sae)
    assert bytes_a_firing(d_sae) == pytest.approx(size / n, rel=0.15)
    whole = [
        np.concatenate(parts)
        for parts in zip(*read_shard(tmp_path / "x.parquet", context=128), strict=True)
    ]
    order = np.lexsort((latent, place))
    np.testing.assert_array_equal(whole[0], place[order])
    np.testing.assert_array_equal(np.sort(whole[2]), np.sort(value))
    with pytest.raises(ValueError, match="infinite"):
        write_shard(
            tmp_path / "y",
            [(place[:1], latent[:1], np.array([np.inf], np.float32))],
            context=128,
            d_sae=d_sae,
        )
    assert len(list(tmp_path.iterdir())) == 1


def test_few_firings_tell_little() -> None:
    low = wilson_low(np.array([1, 10, 100]), np.array([1, 10, 100]))
    assert (np.diff(low) > 0).all()
    assert low[0] == pytest.approx(0.2065, abs=1e-3)
    table = pd.DataFrame({"activation": [1.0, 2.0], "x": [0, 0]})
    with pytest.raises(ValueError, match="no ranking by 'x'"):
        ranked(table, "x")
    assert Totals(np.zeros(1), np.zeros(1), np.zeros(1)).peak.shape == (1,)
