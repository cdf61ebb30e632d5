"""Any split of the corpus, in any order, merged in any way, gives the same state."""

import math
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens import SAE

from core.activations import (
    IndexConfig,
    LatentStatistics,
    build_index,
    build_statistics,
    finish,
    merge,
    shard_rows,
)
from core.activations.bins import bin_edges, log_bin
from core.activations.block import Block, make_block
from core.activations.checkpoint import Checkpoint
from core.activations.statistics import SQUARE_UNIT, SUM_UNIT
from core.corpus import TokenSet
from core.jobs.progress import JobCancelled, Progress
from core.lease import PlainLease
from core.models import Model
from core.settings import REPOSITORY
from tests.test_activations_exact import some_tokens

pytestmark = pytest.mark.slow

N_ROWS, CONTEXT, D_SAE = 12, 9, 5
CONFIGS = (
    IndexConfig(n_top=3, n_quantiles=4, per_quantile=2, buffer=2),
    IndexConfig(n_top=3, n_quantiles=16, per_quantile=1, buffer=0, one_per_row=False),
    IndexConfig(n_top=2, buffer=1, cofiring_tokens=20, seed=3),
    IndexConfig(n_top=2, buffer=1, cofiring_pairs=30),
)


def random_activations(seed: int) -> np.ndarray:
    """Sparse [rows, context, latents] with ties, five octaves and more, and one dead latent."""
    generator = np.random.default_rng(seed)
    shape = (N_ROWS, CONTEXT, D_SAE)
    values = np.ldexp(generator.integers(1, 9, size=shape), generator.integers(-5, 6, size=shape))
    values = np.where(generator.random(shape) < 0.4, values, 0)
    values[:, :, -1] = 0
    values[0, 0, 0] = 2.0**-140  # denormal
    values[1, 0, 1] = 3e38
    return values.astype(np.float32)


def block_of_rows(dense: np.ndarray, rows: list[int]) -> Block:
    at = np.array(sorted(rows), dtype=np.int64)
    row, position, latent = np.nonzero(dense[at])
    place = (at[row] * CONTEXT + position).astype(np.int32)
    value = dense[at[row], position, latent]
    counted = np.full(len(at), CONTEXT)
    return make_block(D_SAE, CONTEXT, at, counted, [(place, latent.astype(np.int32), value)])


def state_of(dense: np.ndarray, rows: list[int], config: IndexConfig) -> LatentStatistics:
    state = LatentStatistics.empty(config, d_sae=D_SAE, context=CONTEXT)
    state.add_block(block_of_rows(dense, rows))
    return state


def assert_same(a: LatentStatistics, b: LatentStatistics) -> None:
    left, right = a.to_arrays(), b.to_arrays()
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)
        assert array.dtype == right[name].dtype, name


@settings(max_examples=60)
@given(
    seed=st.integers(0, 50),
    owners=st.lists(st.integers(0, 4), min_size=N_ROWS, max_size=N_ROWS),
    blocks=st.lists(st.integers(0, 2), min_size=N_ROWS, max_size=N_ROWS),
    order=st.randoms(use_true_random=False),
    config=st.sampled_from(CONFIGS),
)
def test_any_split_and_order(
    seed: int, owners: list[int], blocks: list[int], order: object, config: IndexConfig
) -> None:
    dense = random_activations(seed)
    whole = state_of(dense, list(range(N_ROWS)), config)
    shards = []
    for owner in sorted(set(owners)):
        shard = LatentStatistics.empty(config, d_sae=D_SAE, context=CONTEXT)
        # Each shard in up to three blocks, in an order of their own.
        for number in sorted(set(blocks), reverse=bool(owner % 2)):
            rows = [r for r in range(N_ROWS) if owners[r] == owner and blocks[r] == number]
            if rows:
                shard.add_block(block_of_rows(dense, rows), latent_chunk=1 + owner)
        shards.append(shard)
    while len(shards) > 1:
        order.shuffle(shards)  # type: ignore[attr-defined]
        shards.append(merge(shards.pop(), shards.pop()))
    assert_same(shards[0], whole)
    done, expected = finish(shards[0]).to_arrays(), finish(whole).to_arrays()
    for name, array in expected.items():
        np.testing.assert_array_equal(done[name], array, err_msg=name)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), config=st.sampled_from(CONFIGS))
def test_merge_is_associative_commutative_and_pure(seed: int, config: IndexConfig) -> None:
    dense = random_activations(seed)
    a, b, c = (state_of(dense, list(range(n, N_ROWS, 3)), config) for n in range(3))
    before = [state.copy() for state in (a, b, c)]
    assert_same(merge(a, b), merge(b, a))
    assert_same(merge(merge(a, b), c), merge(a, merge(b, c)))
    for old, new in zip(before, (a, b, c), strict=True):
        assert_same(old, new)
    nothing = LatentStatistics.empty(config, d_sae=D_SAE, context=CONTEXT)
    assert_same(merge(a, nothing), a)


def test_sums_and_histograms() -> None:
    dense = random_activations(1)
    state = state_of(dense, list(range(N_ROWS)), CONFIGS[0])
    for latent in (2, 3):
        values = dense[:, :, latent][dense[:, :, latent] > 0].astype(np.float64)
        assert state.total[latent] * SUM_UNIT == pytest.approx(math.fsum(values))
        assert state.squares[latent] * SQUARE_UNIT == pytest.approx(math.fsum(values**2))
        expected, _ = np.histogram(values, bin_edges())
        assert state.histogram[latent].tolist() == expected.tolist()
        counts, edges = finish(state).linear_histogram(latent)
        assert counts.tolist() == np.histogram(values, edges)[0].tolist()
        assert edges[-2] <= values.max() < edges[-1]
        assert 16 <= len(counts) <= 32
    assert log_bin(np.array([1e-30, 1.0, 1.25, 1e30], np.float32)).tolist() == [0, 48, 49, 111]


def test_a_row_is_indexed_once() -> None:
    dense = random_activations(1)
    state = state_of(dense, [1, 2, 3], CONFIGS[0])
    with pytest.raises(ValueError, match="Row 2 was indexed already"):
        state.add_block(block_of_rows(dense, [2]))
    with pytest.raises(ValueError, match="Row 3"):
        merge(state, state_of(dense, [0, 3], CONFIGS[0]))
    assert state.rows.tolist() == [[1, 4]]


def test_only_like_is_merged() -> None:
    dense = random_activations(1)
    with pytest.raises(ValueError, match="one config"):
        merge(state_of(dense, [0], CONFIGS[0]), state_of(dense, [1], CONFIGS[1]))


def test_partners_equal_dense_counts() -> None:
    dense = random_activations(4)
    config = IndexConfig(n_partners=3)
    index = finish(state_of(dense, list(range(N_ROWS)), config))
    fires = dense.reshape(-1, D_SAE) > 0
    together = fires.T.astype(int) @ fires.astype(int)
    for latent in range(D_SAE):
        scores = []
        for other in range(D_SAE):
            both = int(together[latent, other])
            either = int(together[latent, latent] + together[other, other] - both)
            if other != latent and both >= 2:
                scores.append((-both / either, other, both))
        best = sorted(scores)[:3]
        found = index.partners[latent] >= 0
        assert index.partners[latent][found].tolist() == [other for _, other, _ in best]
        assert index.partner_counts[latent][found].tolist() == [both for *_, both in best]
        assert index.sample_counts[latent] == together[latent, latent]
    assert index.sample_tokens == N_ROWS * CONTEXT


def test_shards_of_a_pass_merge_to_the_whole(tiny_model: Model, tiny_sae: SAE) -> None:
    token_set = some_tokens(100, 8)
    lease = PlainLease(tiny_model, [tiny_sae])
    (whole,) = build_statistics(lease, token_set, batch_tokens=16)
    shards = shard_rows(token_set, 3, batch_tokens=16)
    assert shards == [(0, 64), (64, 96), (96, 100)]
    parts = [
        build_statistics(lease, token_set, rows=rows, batch_tokens=16)[0]
        for rows in reversed(shards)
    ]
    assert_same(merge(merge(parts[0], parts[1]), parts[2]), whole)
    assert len(shard_rows(token_set, 50, batch_tokens=16)) == 4


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["each-stretch", "when-cancelled"])
def test_cancel_keeps_the_checkpoint_and_resume_gives_the_same(
    tiny_model: Model, tiny_sae: SAE, tmp_path: Path, seconds: float
) -> None:
    token_set = some_tokens(80, 8)
    (straight,) = build_index(tiny_model, [tiny_sae], token_set, batch_tokens=8)

    class StopAt(Progress):
        def update(self, done: float, *args: object, **options: object) -> None:  # type: ignore[override]
            super().update(done, *args, **options)  # type: ignore[arg-type]
            if done > token_set.n_tokens / 2:
                self.cancel()

    options = {"batch_tokens": 8, "checkpoint": tmp_path, "checkpoint_seconds": seconds}
    with pytest.raises(JobCancelled):
        build_index(tiny_model, [tiny_sae], token_set, progress=StopAt(), **options)
    (file,) = tmp_path.iterdir()

    progress = Progress()
    seen = []
    progress.update = lambda done, *a, **k: seen.append(done)  # type: ignore[method-assign]
    (resumed,) = build_index(tiny_model, [tiny_sae], token_set, progress=progress, **options)
    assert seen[0] > token_set.n_tokens / 4
    for name, array in straight.to_arrays().items():
        np.testing.assert_array_equal(resumed.to_arrays()[name], array, err_msg=name)
    assert not file.exists()


def test_another_pass_does_not_read_the_checkpoint(tmp_path: Path) -> None:
    state = state_of(random_activations(0), [0], CONFIGS[0])
    mine = Checkpoint(tmp_path, ["a"], CONFIGS[0], CONTEXT)
    mine.write([state, state])
    found = mine.read()
    assert found is not None
    assert_same(found[1], state)
    assert Checkpoint(tmp_path, ["b"], CONFIGS[0], CONTEXT).read() is None
    assert Checkpoint(tmp_path, ["a"], CONFIGS[1], CONTEXT).read() is None
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    assert mine.read() is None
    mine.remove()
    assert list(tmp_path.iterdir()) == []


_KILLED = """
    import sys
    from pathlib import Path
    import numpy as np
    from core.activations import build_index
    from core.jobs.progress import Progress
    from core.models import load_model
    from tests.builders import make_sae
    from tests.test_activations_exact import some_tokens

    model = load_model(sys.argv[1], device="cpu")
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name="blocks.1.hook_resid_pre")

    class Told(Progress):
        def update(self, done, *rest, **options):
            print(done, flush=True)
            if done > 300:
                sys.stdin.read()  # wait to be killed

    build_index(model, [sae], some_tokens(80, 8), batch_tokens=8, checkpoint=sys.argv[2],
                checkpoint_seconds=0.0, progress=Told())
"""


def test_killed_in_mid_pass(
    tiny_gpt2_dir: Path, tiny_model: Model, tiny_sae: SAE, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_KILLED), str(tiny_gpt2_dir), str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) <= 300:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    # A write that was cut short may lie beside the last whole one.
    assert [it for it in tmp_path.iterdir() if it.suffix != ".part"]
    token_set = some_tokens(80, 8)
    (straight,) = build_index(tiny_model, [tiny_sae], token_set, batch_tokens=8)
    (resumed,) = build_index(tiny_model, [tiny_sae], token_set, batch_tokens=8, checkpoint=tmp_path)
    for name, array in straight.to_arrays().items():
        # Another process may use other kernels; to the bit is the test above, in one process.
        found = resumed.to_arrays()[name]
        if array.dtype.kind == "f":
            np.testing.assert_allclose(found, array, rtol=1e-3, atol=1e-4, err_msg=name)
        elif name in ("count", "n_tokens", "context", "first_latent"):
            np.testing.assert_array_equal(found, array, err_msg=name)
    assert list(tmp_path.iterdir()) == []


def test_tokens_that_never_count_are_no_problem(tiny_model: Model, tiny_sae: SAE) -> None:
    silent = TokenSet.from_rows(np.zeros((3, 5), dtype=np.int64), bos_id=0)
    (index,) = build_index(tiny_model, [tiny_sae], silent)
    assert index.n_tokens == 0
    assert (index.top_places == -1).all()
    assert index.summary()["log10_frequency"].isna().all()
