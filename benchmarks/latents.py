"""Dashboards of a wide SAE from a warm store, and indexing against a loop over latents."""

import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sae_lens import SAE

from benchmarks.table import Row, measure, print_table
from core.activations import (
    IndexConfig,
    LatentStatistics,
    build_index,
    finish,
    index_key,
    open_summary,
    save_index,
)
from core.activations.block import make_block
from core.activations.text_index import OpenIndex
from core.corpus import TokenSet, default_packing, docs_sample, load_token_set
from core.latent.dashboard import read_dashboard
from core.latent.examples import example_rows, rows_html
from core.models import Model, cache_sites, load_model
from core.saes import encode, load_sae_from_disk, sae_hook_name
from core.settings import REPOSITORY
from core.store import ARRAYS, Key, Store
from core.tokens import vocabulary_texts

DEMO = REPOSITORY / "demo"
WIDTH = 24_576
_LOOP_TOKENS = 4096
_MEASURED = 10
_ROWS = 128


def print_latents() -> None:
    """The table of the latent page."""
    with tempfile.TemporaryDirectory() as folder:
        print_table(dashboard_rows(Path(folder)))
    print_loops()


def dashboard_rows(folder: Path) -> list[Row]:
    """Examples of one latent: found by a run of the model, or read from an index."""
    model = load_model(DEMO / "models/docs-small")
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre")
    packing = default_packing(model, sae, max_tokens=65_536)
    token_set = load_token_set(docs_sample(["networkx"]), model.tokenizer, packing)
    store = Store(folder / "store")
    opened = wide_index(store, model, token_set)
    latents = iter(np.random.default_rng(0).integers(0, WIDTH, 1_000_000).tolist())

    def ours() -> object:
        shown = read_dashboard(store, opened, next(latents))
        assert shown is not None
        groups = [shown.examples.top, *(band.examples for band in shown.examples.bands)]
        rows = [example_rows(group, opened, around=10) for group in groups]
        return [rows_html(examples, strongest=shown.peak) for examples in rows]

    def first() -> object:
        """As the first dashboard after a start: the token set and the summary are read, too."""
        arrays = store.get(Key("tokens", 1, {}), ARRAYS)
        summary = open_summary(store, opened.key)
        assert arrays is not None
        assert summary is not None
        again = OpenIndex(
            key=opened.key,
            token_set=TokenSet.from_arrays(arrays),
            summary=summary,
            vocabulary=opened.vocabulary,
            special_ids=opened.special_ids,
            sae_fingerprint="",
            corpus="",
        )
        return read_dashboard(store, again, next(latents))

    store.put(Key("tokens", 1, {}), token_set.to_arrays(), ARRAYS)
    few = token_set.rows(0, 32)
    plain = partial(arena_loop, model, sae, few, [7])
    return [
        Row(
            "One dashboard of 24,576: a run over 32 texts / read, 70 examples as HTML", plain, ours
        ),
        Row("– the same with the text and the table of all latents read first", plain, first),
    ]


def wide_index(store: Store, model: Model, token_set: TokenSet) -> OpenIndex:
    """An index of 24,576 latents in which 32 random ones fire at each position."""
    generator = np.random.default_rng(0)
    state = LatentStatistics.empty(IndexConfig(), d_sae=WIDTH, context=token_set.context)
    for start in range(0, token_set.n_rows, _ROWS):
        rows = np.arange(start, min(start + _ROWS, token_set.n_rows))
        row, position = np.nonzero(token_set.mask[rows])
        place = np.repeat((rows[row] * token_set.context + position).astype(np.int32), 32)
        latent = generator.integers(0, WIDTH // 32, (len(row), 32)) + np.arange(32) * (WIDTH // 32)
        value = generator.gamma(2.0, size=latent.size).astype(np.float32)
        part = (place, latent.ravel().astype(np.int32), value)
        counted = token_set.mask[rows].sum(1)
        state.add_block(make_block(WIDTH, token_set.context, rows, counted, [part]))
    key = index_key(
        model_fingerprint="", sae_fingerprint="", tokens_digest="", config=IndexConfig()
    )
    save_index(store, key, finish(state))
    summary = open_summary(store, key)
    if summary is None:
        raise ValueError("The disk has no room for the benchmark's index; free some.")
    return OpenIndex(
        key=key,
        token_set=token_set,
        summary=summary,
        vocabulary=vocabulary_texts(model),
        special_ids=frozenset(),
        sae_fingerprint="",
        corpus="",
    )


def print_loops() -> None:
    """A loop over latents, each with a run of its own, against one pass for all 2,048.

    Each latent costs the loop the same, so it is measured on ten and multiplied for more.
    """
    model = load_model(DEMO / "models/docs-small")
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre")
    packing = default_packing(model, sae, layout="windows", max_tokens=_LOOP_TOKENS)
    token_set = load_token_set(docs_sample(["networkx"]), model.tokenizer, packing)
    row = Row(
        "",
        partial(arena_loop, model, sae, token_set, range(_MEASURED)),
        lambda: build_index(model, [sae], token_set),
        repeats=3,
    )
    plain, ours = measure(row)
    for n in (_MEASURED, 100, 1000, sae.cfg.d_sae):
        loop = plain * n / _MEASURED
        note = "" if n == _MEASURED else f", from the time for {_MEASURED}"
        sys.stdout.write(
            f"| Examples on 4,096 tokens: a loop over {n:,} latents{note} / all 2,048 in one pass "
            f"| {loop:.1f} s | {ours:.2f} s | {loop / ours:.1f}× |\n"
        )


@torch.no_grad()
def arena_loop(model: Model, sae: SAE, token_set: TokenSet, latents: Iterable[int]) -> list[object]:
    """Strongest positions and random firings of each latent, as tutorials find them: one by one."""
    found: list[object] = []
    tokens = torch.from_numpy(token_set.tokens.astype(np.int64))
    name = sae_hook_name(sae)
    for latent in latents:
        values = [
            encode(sae, cache_sites(model, rows, [name])[name])[..., latent].flatten()
            for rows in tokens.split(16)
        ]
        flat = torch.cat(values)
        fires = flat.nonzero()[:, 0]
        found.append((flat.topk(20), fires[torch.randperm(len(fires))[:50]]))
    return found
