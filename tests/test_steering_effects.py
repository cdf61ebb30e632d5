"""Texts, strengths and scores of steering against one row at a time, written out plainly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.models import Model, hooks_at, load_model
from core.patch_scoping.sampling import Sampling
from core.saes import decode, encode
from core.steering.effects import divergences, held_out, reference_text
from core.steering.intervention import UNSTEERED, Intervention, Place
from core.steering.peaks import input_scores, shuffled_input_scores
from core.steering.prompt import steer_prompt
from core.steering.scores import ScoreConfig, output_scores, p_values
from core.steering.solve import solve_factors
from core.steering.steerer import Steerer
from core.steering.strengths import first_changed, resolved, solved, strengths_at_kl
from core.steering.texts import distinct_pairs, share_of, steer, steered_texts
from tests.builders import make_sae
from tests.model_families import write_family

TEXT = "The river runs under the bridges"


def add_hook(sae: SAE, latent: int, strength: float, where: slice) -> Any:
    def hook_function(activations: Tensor, hook: Any) -> Tensor:
        changed = activations.clone()
        changed[:, where] += strength * sae.W_dec[latent].view(activations.shape[2:])
        return changed

    return (sae.cfg.metadata.hook_name, hook_function)


def library_texts(model: Model, sae: SAE, tokens: Tensor, strength: float, n: int) -> list[int]:
    """Every position steered, the whole text run again for each token."""
    for _ in range(n):
        with hooks_at(model, [add_hook(sae, 3, strength, slice(1, None))]), torch.no_grad():
            logits = model(tokens, return_type="logits")
        tokens = torch.cat([tokens, logits[:, -1].argmax(-1)[:, None]], 1)
    return tokens[0, -n:].tolist()


def test_a_batch_writes_what_single_rows_write(any_model: Model, tiny_sae: SAE) -> None:
    prompt = steer_prompt(any_model, tiny_sae, TEXT, new_tokens=8)
    strengths = (-8.0, 0.5, 4.0, 20.0)
    rows = [UNSTEERED, *(Intervention((3,), (it,)) for it in strengths)]
    found = steered_texts(any_model, tiny_sae, prompt, rows, max_new_tokens=8)
    texts = {row[0].tokens for row in found}
    assert len(texts) > 2, "strengths make a difference"
    for strength, [row] in zip((0.0, *strengths), found, strict=True):
        wanted = library_texts(any_model, tiny_sae, prompt.tensor(any_model), strength, 8)
        assert list(row.tokens) == wanted[: len(row.tokens)]
    uncached = steered_texts(any_model, tiny_sae, prompt, rows, max_new_tokens=8, use_cache=False)
    assert [row[0].tokens for row in found] == [row[0].tokens for row in uncached]


def test_samples_of_a_seed_do_not_depend_on_the_batch(tiny_model: Model, tiny_sae: SAE) -> None:
    sampling = Sampling(temperature=1.0, n_samples=2, seed=4)
    rows = [Intervention((3,), (2.0,)), Intervention((5,), (9.0,))]
    texts = steer(tiny_model, tiny_sae, TEXT, rows, max_new_tokens=6, sampling=sampling)
    alone = steer(tiny_model, tiny_sae, TEXT, rows[1:], max_new_tokens=6, sampling=sampling)
    assert texts[2] == alone[1]
    assert texts[0] == alone[0]
    assert texts[0][0] != texts[0][1]


def test_divergence_and_loss_by_hand(any_model: Model, tiny_sae: SAE) -> None:
    prompt = steer_prompt(any_model, tiny_sae, TEXT)
    tokens = prompt.tensor(any_model)
    n = tokens.shape[1]
    it = Intervention((3,), (3.0,), place=Place("after"))
    everywhere = Intervention((3,), (3.0,))
    reference = reference_text(any_model, tokens, first_changed(it, n - 2, 1))
    assert reference.n == 3
    steerer = Steerer(any_model, tiny_sae, [UNSTEERED, it, everywhere], n_prompt=n - 2)
    found = divergences(any_model, steerer, [0, 1], reference)
    with hooks_at(any_model, [add_hook(tiny_sae, 3, 3.0, slice(n - 3, None))]):
        steered = any_model(tokens, return_type="logits")[0]
    plain = any_model(tokens, return_type="logits")[0]
    p, q = steered.softmax(-1), plain.softmax(-1)
    kl = (p * (p / q).log()).sum(-1)[n - 3 :].mean()
    assert float(found[0]) == pytest.approx(0, abs=1e-6)
    assert float(found[1]) == pytest.approx(float(kl), rel=1e-3)
    texts = torch.stack([tokens[0, :6], tokens[0, 2:8]])
    chosen = torch.tensor([[7, 9, -1], [7, -1, -1]])
    both = held_out(any_model, steerer, [2, 0], texts, chosen)
    loss = both.loss
    for row, strength in enumerate((3.0, 0.0)):
        with hooks_at(any_model, [add_hook(tiny_sae, 3, strength, slice(0, None))]):
            logits = any_model(texts[1:], return_type="logits")[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, texts[1, 1:])
        assert float(loss[row, 1]) == pytest.approx(float(nll), rel=1e-4)
        mass = logits.softmax(-1)[:, [7, 9] if row == 0 else [7]].sum(-1).mean()
        assert float(both.boosted[row, 1]) == pytest.approx(float(mass), rel=1e-4)
    assert loss[0, 1] != loss[1, 1]


def test_strengths_are_solved_for_a_divergence(any_model: Model, tiny_sae: SAE) -> None:
    its = [Intervention((i,), (1.0,), mode) for i in (1, 2, 3) for mode in ("add", "set")]
    its.append(Intervention((4, 5), (1.0, 2.0)))
    for target in (0.5, -0.2):
        strengths = strengths_at_kl(any_model, tiny_sae, its, TEXT, target=target)
        assert strengths[-1][1] == pytest.approx(2 * strengths[-1][0])
        assert all((s[0] > 0) == (target > 0) for s in strengths)
        prompt = steer_prompt(any_model, tiny_sae, TEXT)
        tokens = prompt.tensor(any_model)
        q = any_model(tokens, return_type="logits")[0, 1:].log_softmax(-1)
        for it, s in zip(its, strengths, strict=True):
            solution = it.with_strengths(s)
            hooked = Steerer(
                any_model, tiny_sae, [solution], n_prompt=len(prompt.tokens), n_leading=1
            )
            with hooked.around([0]):
                p = any_model(tokens, return_type="logits")[0, 1:].log_softmax(-1)
            kl = float((p.exp() * (p - q)).sum(-1).mean())
            assert kl == pytest.approx(abs(target), rel=0.021)


def test_the_solver_finds_planted_factors_and_says_what_cannot_be_reached() -> None:
    planted = torch.tensor([1e-3, 0.3, 1.0, 40.0, 5000.0], dtype=torch.float64)
    powers = torch.tensor([2.0, 1.0, 3.0, 0.5, 2.0], dtype=torch.float64)

    def measure(rows: Tensor, factors: Tensor) -> Tensor:
        value = 0.5 * (factors / planted[rows]) ** powers[rows]
        return torch.where(rows == 1, value.clamp(max=0.3), value)  # the second saturates

    found = solve_factors(measure, torch.full((5,), 0.5), torch.ones(5))
    reached = torch.tensor([0, 2, 3, 4])
    assert found[1].isnan()
    assert (measure(reached, found[reached]) / 0.5 - 1).abs().max() <= 0.02


def test_units_of_strength() -> None:
    base = Intervention((1, 2), (0.0, 0.0))
    assert resolved(base, 2.0, "absolute").strengths == (2.0, 2.0)
    assert resolved(base, 2.0, "largest", (3.0, 0.5)).strengths == (6.0, 1.0)
    assert resolved(base, 0.5, "stream").of_stream
    scaled = Intervention((1,), (0.0,), "scale")
    assert resolved(scaled, 2.0, "largest").strengths == (2.0,)
    for call, sentence in (
        (lambda: resolved(base, float("nan"), "absolute"), "The strength is nan"),
        (lambda: resolved(base, 1.0, "largest", (3.0, 0.0)), "Latent 2 was never active"),
        (lambda: resolved(base, 1.0, "largest"), "are not known; read a text"),
        (lambda: resolved(base, 1.0, "miles"), "none of largest, absolute, stream"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()


def test_what_has_no_divergence_is_refused(tiny_model: Model, tiny_sae: SAE) -> None:
    reference = reference_text(tiny_model, torch.arange(6)[None], 1)
    for it, target, sentence in (
        (Intervention((1,), (1.0,), "ablate"), 0.5, "The mode ablate has no strength"),
        (Intervention((1,), (1.0,)), float("nan"), "asked for is nan"),
        (Intervention((1,), (1.0,)), 0.0, "asked for is 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            solved(tiny_model, tiny_sae, [it], reference, target, n_prompt=6)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        ({"text": "  "}, "The prompt is empty; type a few words"),
        ({"text": "word " * 90}, "context holds 64; shorten the prompt"),
        ({"text": TEXT, "new_tokens": 60}, "60 new ones, and the model's context holds 64"),
        ({"text": TEXT, "chat": True}, "no chat format; give the prompt as plain text"),
    ],
)
def test_prompts_that_cannot_be_used(
    tiny_model: Model, tiny_sae: SAE, ask: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        steer_prompt(tiny_model, tiny_sae, **ask)


def test_what_texts_are_made_of() -> None:
    assert distinct_pairs([1, 2, 1, 2, 1]) == pytest.approx(2 / 4)
    assert distinct_pairs([1, 2, 3]) == 1
    assert np.isnan(distinct_pairs([1]))
    assert share_of([1, 2, 1, 4], {1}) == 0.5


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma2"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model of each family."""
    folder = tmp_path_factory.mktemp(request.param)
    write_family(request.param, folder)
    return folder


@pytest.mark.parametrize("site", ["blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"])
def test_output_scores_are_the_authors_script(family: Path, site: str) -> None:
    """One whole run a latent: encode, amplify, decode, add the error; sort; rank."""
    model = load_model(family, device="cpu", backend="bridge")
    sae = make_sae("standard", d_in=32, d_sae=24, hook_name=site)
    sae.b_enc.data += 0.6  # some latent is active at the last position, whatever the model
    config = ScoreConfig(n_random=5, n_tokens=6, kl=0.01)
    own, null = output_scores(model, sae, config=config)
    tokens = steer_prompt(model, sae, config.prompts[0]).tensor(model)
    for latent in range(24):

        def amplify(activations: Tensor, hook: Any, latent: int = latent) -> Tensor:
            flat = activations.flatten(2)
            acts = encode(sae, flat)
            error = flat - decode(sae, acts, d_head=activations.shape[-1]).flatten(2)
            acts[:, -1, latent] += 10 * acts[:, -1].max()
            new = decode(sae, acts, d_head=activations.shape[-1]).flatten(2) + error
            return new.view(activations.shape)

        with hooks_at(model, [(site, amplify)]), torch.no_grad():
            probs = model(tokens, return_type="logits")[0, -1].softmax(-1)
        row = sae.W_dec[latent]
        if site.endswith("hook_z"):
            row = row @ model.blocks[1].attn.W_O.flatten(0, 1)
            if family.name.startswith("gemma2"):
                row = None  # behind a norm, whose gain is in the direction: the tokens tell
        if row is not None:
            lens = model.unembed(model.ln_final(row[None, None]))[0, 0]
            assert set(own.tokens[latent].tolist()) == set(lens.topk(6).indices.tolist())
        chosen = own.tokens[latent].tolist()
        order = probs.argsort(descending=True).tolist()
        best = max(float(probs[t]) for t in chosen)
        wanted = best * (1 - min(order.index(t) for t in chosen) / len(probs))
        assert own.authors[latent] == pytest.approx(wanted, abs=1e-5)
    assert len(null.authors) == 5
    assert np.isfinite(null.calibrated).all()


def test_calibrated_scores_are_at_the_divergence_asked_for(any_model: Model, tiny_sae: SAE) -> None:
    config = ScoreConfig(prompts=("The city", "In 1998 there"), kl=0.3, n_random=3, n_tokens=4)
    own, _ = output_scores(any_model, tiny_sae, [3, 9], config=config)
    for row, latent in enumerate((3, 9)):
        divergences, scores = [], []
        for text in config.prompts:
            tokens = steer_prompt(any_model, tiny_sae, text).tensor(any_model)
            hook = add_hook(tiny_sae, latent, float(own.strength[row]), slice(-1, None))
            with hooks_at(any_model, [hook]), torch.no_grad():
                p = any_model(tokens, return_type="logits")[0, -1].softmax(-1)
            q = any_model(tokens, return_type="logits")[0, -1].softmax(-1)
            divergences.append(float((p * (p / q).log()).sum()))
            best = p[torch.from_numpy(own.tokens[row]).long()].max()
            scores.append(float(best * (1 - (p > best).sum() / len(p))))
        assert np.mean(divergences) == pytest.approx(0.3, rel=0.022)
        assert own.calibrated[row] == pytest.approx(np.mean(scores), abs=1e-4)


def test_input_scores_count_texts() -> None:
    peaks = np.array([[1, 2, 1, 9], [5, 5, -1, -1], [7, 7, 7, 8]])
    tokens = np.array([[1, 2], [5, 6], [3, 4]])
    found = input_scores(peaks, tokens, least=3)
    assert found[0] == 0.75
    assert np.isnan(found[1])
    assert found[2] == 0
    many = np.repeat(np.arange(50)[:, None], 12, 1)
    assert (input_scores(many, many[:, :3]) == 1).all()
    assert (shuffled_input_scores(many, many[:, :3]) == 0).all()


def test_p_values_count_random_directions() -> None:
    found = p_values(np.array([0.5, 0.1, np.nan]), np.array([0.2, 0.3, 0.4]))
    assert found[:2].tolist() == [0.25, 1.0]
    assert np.isnan(found[2])


CONFIGS: list[tuple[Callable[[], object], str]] = [
    (lambda: ScoreConfig(prompts=("", "a")), "neutral prompt is empty"),
    (lambda: ScoreConfig(kl=float("nan")), "kl is nan; use a number above 0"),
    (lambda: ScoreConfig(n_random=0), "n_random is 0"),
]


@pytest.mark.parametrize(("make", "sentence"), CONFIGS)
def test_settings_that_cannot_be_used(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
