"""The demo's training parts: resuming, sparse SAE steps, tuning batches, all stages."""

import json
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sae_lens.saes.sae import SAEMetadata, TrainStepInput
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

from make_demo.base_model import (
    IGNORED,
    TrainingBatches,
    learning_rate,
    make_optimizers,
    new_model,
    next_token_loss,
    repeated_random_tokens,
    train,
)
from make_demo.fast_topk import FastTopKTrainingSAE
from make_demo.measure import unigram_f1
from make_demo.recipe import BOS_ID, UNK_ID, BaseRecipe, TuneRecipe
from make_demo.revival import DenseTopK, RevivalPlan, SparseTopK, revive
from make_demo.stages import Stages, digest
from make_demo.tuned_model import Pair, VectorSource, loss_of, tuning_batch
from make_demo.vectors import ResidualSample

pytestmark = pytest.mark.slow

TINY = BaseRecipe(d_model=32, n_layers=2, n_heads=4, context=32, batch=4, steps=6)


def test_stage_runs_once_and_again_when_its_inputs_change(tmp_path):
    calls = []

    def work(folder):
        calls.append(folder)
        (folder / "file").write_text("x")
        return {"value": len(calls)}

    for _ in range(2):
        assert Stages(tmp_path).run("a/b", digest(1), work) == {"value": 1}
    assert Stages(tmp_path).run("a/b", digest(2), work) == {"value": 2}
    assert len(calls) == 2


def test_interrupted_stage_keeps_its_files_only_for_the_same_inputs(tmp_path):
    def interrupted(folder):
        (folder / "half").write_text("done so far")
        raise KeyboardInterrupt

    def finish(folder):
        return (folder / "half").exists()

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("stage", digest(1), interrupted)
    assert Stages(tmp_path).run("stage", digest(2), finish) is False
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("other", digest(1), interrupted)
    assert Stages(tmp_path).run("other", digest(1), finish) is True


def test_training_resumes_to_the_same_weights(tmp_path):
    tokens = np.random.default_rng(0).integers(4, 50, 2000)
    batches = TrainingBatches(tokens, TINY, 50)

    def run(checkpoint, *, stop_at=None):
        model = new_model(TINY, 50)

        def loss_at(step):
            if step == stop_at:
                raise KeyboardInterrupt
            return next_token_loss(model, batches(step), batches(step))

        train(
            model,
            make_optimizers(model, muon_lr=0.02, adam_lr=3e-3),
            loss_at,
            steps=TINY.steps,
            rate_at=lambda step: 1.0,
            checkpoint=checkpoint,
            report=lambda step, loss: None,
            save_every=2,
        )
        return model.state_dict()

    whole = run(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.pt", stop_at=5)
    resumed = run(tmp_path / "cut.pt")
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_learning_rate_has_two_cycles():
    recipe = BaseRecipe(steps=100, second_steps=50, warmup_steps=10, second_peak=0.5)
    rates = [learning_rate(recipe, step) for step in range(150)]
    assert rates[0] == 0.1
    assert rates[9:40] == [1.0] * 31
    assert rates[99] < 0.04
    assert max(rates[100:]) == pytest.approx(0.5, abs=0.1)
    assert rates[149] < 0.03
    assert all(a > b for a, b in pairwise(rates[110:]))


def test_repeated_rows_repeat_and_batches_start_with_bos():
    row = repeated_random_tokens(torch.Generator().manual_seed(3), 64, 100)
    period = next(p for p in range(8, 32) if torch.equal(row[1 : 64 - p], row[1 + p :]))
    assert 8 <= period < 32
    batches = TrainingBatches(np.arange(500) % 40 + 4, TINY, 50)
    short, long = batches(0), batches(TINY.steps - 1)
    assert short.shape == (8, 16)
    assert long.shape == (4, 32)
    assert (short[:, 0] == BOS_ID).all()
    assert (long[:, 0] == BOS_ID).all()


def test_loss_is_plain_cross_entropy_over_the_labels_that_count():
    model = new_model(TINY, 50)
    tokens = torch.randint(4, 50, (3, 20), generator=torch.Generator().manual_seed(1))
    labels = tokens.clone()
    labels[:, :9] = IGNORED
    labels[1, 15:] = IGNORED
    with torch.no_grad():
        logits = model(tokens).logits[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    assert next_token_loss(model, tokens, labels).item() == pytest.approx(expected.item(), rel=0.01)


def _topk(trained_class):
    torch.manual_seed(1)
    sae = trained_class(
        TopKTrainingSAEConfig(
            d_in=24,
            d_sae=96,
            k=6,
            device="cpu",
            apply_b_dec_to_input=True,
            metadata=SAEMetadata(hook_name="blocks.0.hook_resid_pre"),
        )
    )
    with torch.no_grad():
        sae.W_dec *= torch.rand(96, 1) * 3 + 0.2
        sae.b_enc.normal_(std=0.1)
        sae.b_dec.normal_(std=0.1)
    return sae


class _ExactSelection(FastTopKTrainingSAE):
    """Ranks in float32, so that near-ties fall as in the library."""

    def _scores(self, centred, norms):
        return ((centred @ self.W_enc + self.b_enc) * norms).detach()


@pytest.mark.parametrize("dead", [None, torch.arange(96) % 12 == 0])
def test_sparse_step_has_the_library_s_loss_gradients_and_activations(dead):
    ours, library = _topk(_ExactSelection), _topk(TopKTrainingSAE)
    step = TrainStepInput(
        sae_in=torch.randn(64, 24, generator=torch.Generator().manual_seed(2)),
        coefficients={},
        dead_neuron_mask=dead,
        n_training_steps=0,
        is_logging_step=False,
    )
    outputs = [sae.training_forward_pass(step) for sae in (ours, library)]
    for output in outputs:
        output.loss.backward()
    torch.testing.assert_close(outputs[0].loss, outputs[1].loss)
    torch.testing.assert_close(outputs[0].feature_acts.to_dense(), outputs[1].feature_acts)
    for (name, a), (_, b) in zip(ours.named_parameters(), library.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)


def _tuning_parts():
    sample = ResidualSample(torch.tensor([10, 11] * 8), torch.randn(16, 32))
    pairs = [
        Pair((BOS_ID, 5, 10, 6, 10, 7), (20, 21, 0), 10),
        Pair((BOS_ID, 5, 12, 6, 12, 7), (22, 0), 12),  # no contexts: never replaced by a vector
        Pair((BOS_ID, 5, 13, 14, 6, 13, 14, 7), (23, 0), None),
    ]
    return sample, pairs


def test_tuning_batches_put_the_vector_where_the_word_stood():
    sample, pairs = _tuning_parts()
    recipe = TuneRecipe(batch=5, layers=(1,), vector_fraction=1.0)
    source = VectorSource(recipe, {1: sample}, {})
    layer, batch = tuning_batch(3, recipe, pairs, source, context=32)
    assert layer == 1
    assert batch.places.nonzero()[:, 1].tolist() == [2, 4] * 5
    assert (batch.tokens[batch.places] == UNK_ID).all()
    assert (batch.labels[:, :6] == IGNORED).all()
    assert batch.labels[0, 6:9].tolist() == [20, 21, 0]
    norms = batch.vectors.norm(dim=1) / sample.typical_norm
    assert ((norms > 0.49) & (norms < 2.01)).all()


def test_vectors_are_centred_context_means_or_directions():
    sample, _ = _tuning_parts()
    recipe = TuneRecipe(
        layers=(1,), contexts=(8,), latent_fraction=1.0, scales=(1.0, 1.0), noise=0.0, company=0.0
    )
    rng = random.Random(0)
    mean = VectorSource(recipe, {1: sample}, {}).draw(1, 10, rng)
    centred = F.normalize(sample.residuals - sample.residuals.mean(0), dim=1)[::2].mean(0)
    torch.testing.assert_close(mean, F.normalize(centred, dim=0) * sample.typical_norm)
    direction = F.normalize(torch.randn(1, 32), dim=1)
    drawn = VectorSource(recipe, {1: sample}, {1: {10: direction}}).draw(1, 10, rng)
    torch.testing.assert_close(drawn, direction[0] * sample.typical_norm)


def test_noise_turns_a_vector_without_changing_its_norm():
    sample, _ = _tuning_parts()
    recipe = TuneRecipe(layers=(1,), latent_fraction=1.0, scales=(1.0, 1.0), noise=1.0, company=0.0)
    direction = F.normalize(torch.randn(1, 32), dim=1)
    source = VectorSource(recipe, {1: sample}, {1: {10: direction}})
    rng = random.Random(0)
    drawn = torch.stack([source.draw(1, 10, rng) for _ in range(200)])
    torch.testing.assert_close(drawn.norm(dim=1), torch.full((200,), sample.typical_norm))
    cosines = F.cosine_similarity(drawn, direction)
    assert cosines.max() > 0.97
    assert 0.5 < cosines.min() < 0.8  # 1/√2 at the largest noise, but for chance


def test_company_turns_a_vector_towards_other_latents_only():
    sample, _ = _tuning_parts()
    recipe = TuneRecipe(layers=(1,), latent_fraction=1.0, scales=(1.0, 1.0), noise=0.0, company=1.0)
    own, other = torch.eye(32)[:1], torch.eye(32)[1:2]
    source = VectorSource(recipe, {1: sample}, {1: {10: own, 11: other}})
    rng = random.Random(0)
    drawn = torch.stack([source.draw(1, 10, rng) for _ in range(200)])
    assert (drawn[:, 2:] == 0).all()
    assert (drawn[:, 0] > 0).all()
    turned = drawn[:, 1] > 0
    assert 0.3 < turned.float().mean() < 0.7  # half of the time its own direction is drawn
    assert (drawn[:, 1] <= drawn[:, 0]).all()


def test_a_layer_without_labelled_latents_still_gives_vectors():
    sample, _ = _tuning_parts()
    source = VectorSource(TuneRecipe(layers=(1,)), {1: sample}, {1: {}})
    assert source.draw(1, 10, random.Random(0)).isfinite().all()


def test_tuning_loss_sees_the_vector_and_leaves_no_hook():
    sample, pairs = _tuning_parts()
    model = new_model(TINY, 50)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(8)  # fresh weights are so small that bfloat16 hides what they do
    recipe = TuneRecipe(batch=4, layers=(1,), vector_fraction=1.0)
    layer, batch = tuning_batch(1, recipe, pairs, VectorSource(recipe, {1: sample}, {}), context=32)
    with torch.no_grad():
        with_vector = loss_of(model, layer, batch)
        # The loss is rounded to bfloat16, so one other vector might give the same.
        others = [
            type(batch)(batch.tokens, batch.labels, torch.randn_like(batch.vectors), batch.places)
            for _ in range(16)
        ]
        assert any(loss_of(model, layer, other) != with_vector for other in others)
        plain = loss_of(model, -1, type(batch)(batch.tokens, batch.labels))
        assert plain == next_token_loss(model, batch.tokens, batch.labels)
    assert not model.transformer.h[1]._forward_pre_hooks


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("a b", "a b", 1.0), ("a b", "c", 0.0), ("a a b", "a c", 0.4), ("", "a", 0.0)],
)
def test_unigram_f1(a, b, expected):
    assert unigram_f1(a, b) == pytest.approx(expected)


def test_every_stage_runs_and_writes_a_bundle_that_loads(tmp_path):
    from core.models import load_model
    from core.saes import check_fits, load_sae_from_disk
    from make_demo.pipeline import Pipeline
    from make_demo.recipe import tiny_recipe

    tsv = tmp_path / "glosses.tsv"
    tsv.write_text(
        "word\tpos\tfield\tdefinition\texamples\n"
        "graph\tn\tnoun.cognition\ta drawing of the relation between several quantities\t\n"
        "node\tn\tnoun.shape\ta point where two or more lines meet in a drawing\t\n"
    )
    demo = tmp_path / "demo"
    parts = {
        "work_dir": tmp_path / "work",
        "demo_dir": demo,
        "device": torch.device("cpu"),
        "wordnet": tsv,
    }
    Pipeline(tiny_recipe(), **parts).run()
    index = json.loads((demo / "bundle.json").read_text())
    card = (demo / "README.md").read_text()
    model = load_model(demo / index["models"]["docs-small-it"]["path"])
    folders = sorted(path.parent for path in (demo / "saes").rglob("cfg.json"))
    assert len(folders) == 4 + 3 + 2
    for folder in folders:
        check_fits(load_sae_from_disk(folder), model, model_name="docs-small-it")
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["l0"] == pytest.approx(4.0, abs=0.5)
        assert f"{metrics['explained_variance']:.3f}" in card
    # A second run finds every stage done and rewrites nothing but the bundle.
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("stamp.json")}
    Pipeline(tiny_recipe(), **parts).run()
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def _topk_sae(sae_class, *, width, k=4):
    config = TopKTrainingSAEConfig(
        d_in=16, d_sae=width, k=k, apply_b_dec_to_input=True, metadata=SAEMetadata(hook_name="x")
    )
    torch.manual_seed(0)
    return sae_class(config)


@pytest.mark.parametrize("sae_class", [DenseTopK, SparseTopK])
def test_dead_latents_start_again_as_errors_and_fire(sae_class):
    sae = _topk_sae(sae_class, width=64)
    batch = torch.randn(128, 16, generator=torch.Generator().manual_seed(1))
    dead = torch.zeros(64, dtype=torch.bool)
    dead[10:20] = True
    with torch.no_grad():
        sae.W_enc[:, dead] = 0.0
        sae.b_enc[dead] = -100.0
        errors = batch - sae(batch)
        living = sae.W_dec[~dead].clone()
        assert not (sae.encode(batch)[:, dead] > 0).any()
        assert revive(sae, batch, dead) == 10
        cosines = F.cosine_similarity(sae.W_dec[dead][:, None], errors[None], dim=-1)
        assert torch.allclose(cosines.max(1).values, torch.ones(10), atol=1e-5)
        assert (sae.encode(batch)[:, dead] > 0).any(0).float().mean() > 0.8
        assert torch.equal(sae.W_dec[~dead], living)
        assert revive(sae, batch, torch.zeros_like(dead)) == 0


def test_revival_leaves_fewer_dead_latents():
    generator = torch.Generator().manual_seed(2)
    features = F.normalize(torch.randn(96, 16, generator=generator), dim=1)

    def batch():
        weights = torch.rand(256, 96, generator=generator) * (
            torch.rand(256, 96, generator=generator) < 0.03
        )
        return weights @ features

    def dead_share(revival):
        sae = _topk_sae(DenseTopK, width=192)
        with torch.no_grad():
            sae.b_enc[:96] = -3.0  # half of the latents never get a chance
        sae.revival = revival
        optimizer = torch.optim.Adam(sae.parameters(), 1e-3)
        silent = torch.zeros(192)
        for step in range(120):
            data = batch()
            out = sae.training_forward_pass(
                TrainStepInput(
                    sae_in=data,
                    coefficients={},
                    dead_neuron_mask=silent > 10,
                    n_training_steps=step,
                    is_logging_step=False,
                )
            )
            optimizer.zero_grad()
            out.losses["mse_loss"].backward()
            optimizer.step()
            silent = torch.where((out.feature_acts.detach() > 0).any(0), 0, silent + 1)
        return float((silent > 10).float().mean())

    without, with_revival = dead_share(None), dead_share(RevivalPlan(every=15, until=90))
    assert without > 0.4
    assert with_revival < 0.5 * without
