"""Examples of latents: the strongest places, real activations, and no text that serves twice."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.autointerp import AutoInterp, AutoInterpConfig, Example
from core.autointerp.arena import read_source
from core.autointerp.examples import split_windows
from core.autointerp.gather import gather_windows
from core.autointerp.request import RunRequest
from core.autointerp.view import AutointerpView
from core.autointerp.windows import run_windows
from core.corpus import TokenSet
from core.corpus.documents import pasted_text
from core.jobs.progress import JobCancelled, Progress
from core.lease import PlainLease
from core.models import Model
from core.store import Store
from tests.dense_index import dense_activations


class Rows:
    """Has what is read of sae_lens' ActivationsStore."""

    def __init__(self, tokens: Tensor, batch: int) -> None:
        self.store_batch_size_prompts = batch
        self.context_size = tokens.shape[1]
        self._batches: Iterator[Tensor] = iter(tokens.split(batch))

    def get_batch_tokens(self) -> Tensor:
        return next(self._batches)


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(4, 290, (48, 33), generator=generator)
    rows[:, 0] = 0
    rows[7, 12] = 0
    return rows


def config(latents: list[int], **fields: object) -> AutoInterpConfig:
    return AutoInterpConfig(**{"latents": latents, "buffer": 4, "total_tokens": 48 * 33, **fields})  # type: ignore[arg-type]


def test_config_is_the_courses() -> None:
    cfg = AutoInterpConfig(latents=[9, 11])
    assert (cfg.buffer, cfg.no_overlap, cfg.act_threshold_frac) == (10, False, 0.1)
    assert (cfg.total_tokens, cfg.scoring, cfg.max_tokens_in_explanation) == (500_000, False, 25)
    assert cfg.use_examples_in_explanation_prompt
    counts = (cfg.n_top_ex_for_generation, cfg.n_top_ex_for_scoring, cfg.n_random_ex_for_scoring)
    assert counts == (10, 4, 8)
    assert (cfg.n_top_ex, cfg.n_ex_for_scoring, cfg.n_latents) == (14, 12, 2)
    assert cfg.max_tokens_in_prediction == 29
    for wrong in ({"latents": []}, {"latents": [-1]}, {"latents": [1, 1]}, {"buffer": -1}):
        with pytest.raises(ValueError, match=r"give|name|use"):
            AutoInterpConfig(**{"latents": [1], **wrong})  # type: ignore[arg-type]


def test_an_example_reads_as_the_course_shows(any_model: Model) -> None:
    ids = any_model.to_tokens("In 1998\nthere were", prepend_bos=False)[0].tolist()
    acts = [0.0] * len(ids)
    acts[-1] = acts[-2] = 2.0
    acts[0] = 0.5
    example = Example(ids, acts, 0.5, any_model)
    strings = example.str_toks
    assert "".join(strings) == "In 1998\nthere were"
    assert example.is_active
    assert example.toks_are_active == [False] * (len(ids) - 2) + [True, True]
    assert example.to_str() == "In 1998↵there were"
    whole = "".join(strings[:-2]) + "<<" + "".join(strings[-2:]) + ">>"
    assert example.to_str(mark_toks=True) == whole.replace("\n", "↵")
    assert example.peak == len(ids) - 2
    assert not Example(ids, [0.5] * len(ids), 0.5, any_model).is_active
    with pytest.raises(ValueError, match="one for each"):
        Example(ids, [1.0], 0.5, any_model)


@pytest.mark.parametrize("from_store", [True, False])
def test_the_strongest_places_are_found(
    any_model: Model, tiny_sae: SAE, tokens: Tensor, from_store: bool
) -> None:
    token_set = TokenSet.from_rows(tokens, bos_id=0)
    dense = dense_activations(any_model, tiny_sae, token_set)
    latents = [3, 40, 17]
    cfg = config(latents)
    source = token_set
    if from_store:
        source = read_source(Rows(tokens, 5), cfg.total_tokens, bos_id=0)
        dense = dense[:45]  # whole batches only
    [gathered] = gather_windows(PlainLease(any_model, [tiny_sae]), source, cfg)
    for latent in latents:
        inside = dense[:, 4:-4, latent]
        best = np.sort(inside[inside > 0])[::-1][: cfg.n_top_ex]
        top = gathered[latent].top
        np.testing.assert_allclose(top.acts[: len(best), 4], best, rtol=1e-4, atol=1e-5)
        for windows in (top, gathered[latent].random):
            for i, (row, position) in enumerate(zip(windows.rows, windows.positions, strict=True)):
                span = slice(position - 4, position + 5)
                np.testing.assert_array_equal(windows.tokens[i], tokens[row, span])
                np.testing.assert_allclose(windows.acts[i], dense[row, span, latent], atol=1e-4)
    first, second = gathered[3].random, gathered[40].random
    assert len(first) >= cfg.n_random_ex_for_scoring
    assert not np.array_equal(first.positions, second.positions)


def test_no_text_serves_twice(tiny_model: Model, tiny_sae: SAE, tokens: Tensor) -> None:
    rows = torch.cat([tokens, tokens])  # a corpus that says everything twice
    token_set = TokenSet.from_rows(rows, bos_id=0)
    latents = list(range(0, 60, 3))
    cfg = config(latents, total_tokens=rows.numel())
    [gathered] = gather_windows(PlainLease(tiny_model, [tiny_sae]), token_set, cfg)
    generation, scoring = split_windows(gathered, cfg, tiny_model)
    again = split_windows(gathered, cfg, tiny_model)
    orders = set()
    for latent in latents:
        shown, scored = generation[latent], scoring[latent]
        assert 1 <= len(shown) <= cfg.n_top_ex_for_generation
        assert len(scored) <= cfg.n_ex_for_scoring
        assert all(example.is_active for example in shown)
        assert [ex.toks for ex in scored] == [ex.toks for ex in again[1][latent]]
        places = {}
        for windows in (gathered[latent].top, gathered[latent].random):
            for tokens_, row, position in zip(
                windows.tokens.tolist(), windows.rows, windows.positions, strict=True
            ):
                places[tuple(tokens_)] = (row % 48, position)
        for one in shown:
            row, position = places[tuple(one.toks)]
            for other in scored:
                other_row, other_position = places[tuple(other.toks)]
                assert other.toks != one.toks
                if other.source == "random":
                    continue
                assert (row, position) != (other_row, other_position)
        orders.add(tuple(example.source for example in scored))
        threshold = 0.1 * gathered[latent].top.acts.max()
        for example in scored:
            assert example.is_active == (max(example.acts) > threshold)
    assert len(orders) > 3  # shuffled


def test_random_examples_that_fire_count_as_active(
    tiny_model: Model, tiny_sae: SAE, tokens: Tensor
) -> None:
    cfg = config(list(range(64)))
    autointerp = AutoInterp(cfg, tiny_model, tiny_sae, TokenSet.from_rows(tokens, bos_id=0))
    _, scoring = autointerp.gather_data()
    random = [ex.is_active for some in scoring.values() for ex in some if ex.source == "random"]
    assert 0 < sum(random) < len(random)


def test_overlap_is_avoided_on_request(tiny_model: Model, tiny_sae: SAE, tokens: Tensor) -> None:
    token_set = TokenSet.from_rows(tokens, bos_id=0)
    latents = [3, 40]
    [apart] = gather_windows(
        PlainLease(tiny_model, [tiny_sae]), token_set, config(latents, no_overlap=True)
    )
    [loose] = gather_windows(PlainLease(tiny_model, [tiny_sae]), token_set, config(latents))
    closest = {}
    for name, gathered in (("apart", apart), ("loose", loose)):
        distances = []
        for latent in latents:
            top = gathered[latent].top
            for i in range(len(top)):
                same = (top.rows == top.rows[i]) & (np.arange(len(top)) != i)
                distances += np.abs(top.positions - top.positions[i])[same].tolist()
        closest[name] = min(distances, default=99)
    assert closest["apart"] > 4 >= closest["loose"]


def test_bos_and_padding_never_count(tiny_model: Model, tiny_sae: SAE, tokens: Tensor) -> None:
    padded = tokens.clone()
    padded[5:20, 20:] = 1
    token_set = TokenSet.from_rows(padded, bos_id=0, pad_id=1)
    [gathered] = gather_windows(
        PlainLease(tiny_model, [tiny_sae]), token_set, config(list(range(64)))
    )
    for windows in gathered.values():
        for part in (windows.top, windows.random):
            assert not part.acts[(part.tokens == 0) | (part.tokens == -1)].any()
            assert (part.tokens[:, 4] >= 0).all()
    generation, _ = split_windows(gathered, config(list(range(64))), tiny_model)
    assert all(min(ex.toks) >= 0 for some in generation.values() for ex in some)


def test_a_latent_that_never_fires_has_no_examples(
    tiny_model: Model, tiny_sae: SAE, tokens: Tensor
) -> None:
    import copy

    sae = copy.deepcopy(tiny_sae)
    sae.b_enc.data[5] = -1e4
    cfg = config([5, 6])
    token_set = TokenSet.from_rows(tokens, bos_id=0)
    [gathered] = gather_windows(PlainLease(tiny_model, [sae]), token_set, cfg)
    generation, scoring = split_windows(gathered, cfg, tiny_model)
    assert generation[5] == scoring[5] == []
    assert generation[6]


def test_wrong_input_is_refused_and_work_can_be_stopped(
    tiny_model: Model, tiny_sae: SAE, tokens: Tensor
) -> None:
    token_set = TokenSet.from_rows(tokens, bos_id=0)
    with pytest.raises(ValueError, match="no latent 64"):
        gather_windows(PlainLease(tiny_model, [tiny_sae]), token_set, config([64]))
    with pytest.raises(ValueError, match="hold no window"):
        gather_windows(PlainLease(tiny_model, [tiny_sae]), token_set, config([1], buffer=17))
    progress = Progress()
    progress.cancel()
    with pytest.raises(JobCancelled):
        gather_windows(
            PlainLease(tiny_model, [tiny_sae], progress=progress), token_set, config([1])
        )


def test_windows_of_a_run_are_looked_for_once(
    tiny_model: Model, tiny_sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = AutointerpView(n_random=3, buffer=4, total_tokens=2000, scores=("neighbours",))
    words = np.random.default_rng(5).choice(["the", "tower", "Paris", "river"], size=900)
    request = RunRequest("m", ("r", "s"), "1", 7, view, pasted_text(" ".join(words)))
    lease, store = PlainLease(tiny_model, [tiny_sae]), Store(tmp_path)
    first = run_windows(lease, store, request)
    assert set(first.controls) == {"neurons", "random directions", "random weights"}
    monkeypatch.setattr("core.autointerp.windows.gather_windows", None)
    again = run_windows(lease, store, request)
    assert again.cfg == first.cfg
    both = [(first.by_latent, again.by_latent)]
    both += [(first.controls[kind], again.controls[kind]) for kind in first.controls]
    for before, after in both:
        assert list(before) == list(after)
        for latent, found in before.items():
            for part in fields(found):
                one, other = getattr(found, part.name), getattr(after[latent], part.name)
                for name, array in vars(one).items():
                    np.testing.assert_array_equal(array, getattr(other, name))
    assert any(len(found.top) for found in first.by_latent.values())
