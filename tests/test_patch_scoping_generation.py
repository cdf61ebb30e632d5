"""Batches give the texts of one-by-one generation; sampling draws what it should."""

from functools import partial

import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from core.jobs.progress import JobCancelled, Progress
from core.models import Model, hooks_at, load_model
from core.patch_scoping import generate_patch_scoping_explanation, hook_fn_patch_scoping
from core.patch_scoping.generation import complete
from core.patch_scoping.injection import Injection, random_directions, typical_norm, unit_directions
from core.patch_scoping.prompt import ScopePrompt, scope_prompt
from core.patch_scoping.sampling import Sampling, next_tokens
from tests.tokenizer_kinds import byte_level_text

PROMPTS = ('What is "<unk>"? It is "', 'The "<unk>" of Paris and "<unk>" is a "')


def mixed(model: Model) -> list[Injection]:
    """Rows of two prompts of different length, two layers, several vectors, one left alone."""
    directions = random_directions(model, 4, seed=3)
    rows = []
    for text in PROMPTS:
        prompt = scope_prompt(model, text)
        rows += [
            Injection(prompt, layer, direction * scale)
            for layer in (0, 2)
            for direction, scale in zip(directions, (0.0, 1.0, 5.0, 80.0), strict=True)
        ]
        rows.append(Injection(prompt.unpatched()))
    return rows


def library_tokens(model: Model, row: Injection, n: int) -> list[int]:
    """The same by the library's own generation loop and the one-row hook."""
    hook = partial(
        hook_fn_patch_scoping, seq_pos=list(row.prompt.positions), latent_vector=row.vector
    )
    hooks = [] if row.vector is None else [(f"blocks.{row.layer}.hook_resid_pre", hook)]
    tokens = torch.tensor([row.prompt.tokens])
    with hooks_at(model, hooks):
        out = model.generate(tokens, max_new_tokens=n, do_sample=False, verbose=False)
    return out[0, tokens.shape[1] :].tolist()


@pytest.mark.slow
def test_a_batch_gives_the_texts_of_the_librarys_own_loop(any_model: Model) -> None:
    rows = mixed(any_model)
    batched = complete(any_model, rows, max_new_tokens=8, stop=None)
    single = complete(any_model, rows[:6], max_new_tokens=8, stop=None, memory_budget_bytes=1)
    assert [c[0].tokens for c in single] == [c[0].tokens for c in batched[:6]]
    texts = {completion[0].tokens for completion in batched}
    assert len(texts) > 4, "vectors make a difference"
    for row, [completion] in zip(rows, batched, strict=True):
        assert list(completion.tokens) == library_tokens(any_model, row, 8)


def test_rotary_models_and_no_cache_agree(tiny_llama_dir: object) -> None:
    for backend in ("bridge", "hooked"):
        model = load_model(str(tiny_llama_dir), device="cpu", backend=backend)  # type: ignore[arg-type]
        rows = mixed(model)
        cached = complete(model, rows, max_new_tokens=6, stop=None)
        again = complete(model, rows, max_new_tokens=6, stop=None, use_cache=False)
        assert [c[0].tokens for c in cached] == [c[0].tokens for c in again]


def test_bf16(tiny_gpt2_dir: object, tiny_sae: SAE) -> None:
    model = load_model(str(tiny_gpt2_dir), device="cpu", dtype="bfloat16")
    rows = [Injection(scope_prompt(model, PROMPTS[0]), 1, unit_directions(model, tiny_sae, [2])[0])]
    [[completion]] = complete(model, rows, max_new_tokens=4)
    assert completion.tokens


def test_rows_that_end_early_leave_the_others_alone(any_model: Model) -> None:
    rows = mixed(any_model)
    whole = complete(any_model, rows, max_new_tokens=10, stop=None)
    # Any character that some texts have and others lack will do as the stop.
    texts = [c[0].text for c in whole]
    stop = next(c for c in sorted({*"".join(texts)}) if 0 < sum(c in t for t in texts) < len(texts))
    stopped = complete(any_model, rows, max_new_tokens=10, stop=stop)
    for [long], [short] in zip(whole, stopped, strict=True):
        assert long.tokens[: len(short.tokens)] == short.tokens
        assert short.answer == long.text.split(stop)[0].strip().rstrip(".")
        assert (short.ended_by == "stop") == (stop in long.text)
    assert {c[0].ended_by for c in stopped} >= {"stop"}


def test_log_probability_is_that_of_the_text(any_model: Model) -> None:
    prompt = scope_prompt(any_model, PROMPTS[0]).unpatched()
    [[completion]] = complete(any_model, [Injection(prompt)], max_new_tokens=5, stop=None)
    tokens = torch.tensor([[*prompt.tokens, *completion.tokens]])
    log_probs = any_model(tokens, return_type="logits")[0].log_softmax(-1)
    n = len(prompt.tokens)
    wanted = [float(log_probs[n + i - 1, t]) for i, t in enumerate(completion.tokens)]
    assert completion.mean_log_prob == pytest.approx(sum(wanted) / len(wanted), abs=1e-4)


def test_samples_do_not_depend_on_the_batch(any_model: Model) -> None:
    rows = mixed(any_model)
    sampling = Sampling(temperature=1.0, top_p=0.9, freq_penalty=0.5, n_samples=3, seed=5)
    together = complete(any_model, rows, max_new_tokens=5, stop=None, sampling=sampling)
    alone = complete(any_model, rows[3:4], max_new_tokens=5, stop=None, sampling=sampling)
    assert [one.tokens for one in together[3]] == [one.tokens for one in alone[0]]
    assert len({sample.tokens for sample in together[3]}) == 3
    other = Sampling(temperature=1.0, n_samples=1, seed=6)
    [[drawn]] = complete(any_model, rows[3:4], max_new_tokens=5, stop=None, sampling=other)
    assert drawn.tokens != alone[0][0].tokens


def test_tokens_are_drawn_with_their_probabilities() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0]])
    n = 4000
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    many = logits.expand(n, -1)

    def shares(sampling: Sampling, counts: Tensor | None = None) -> Tensor:
        drawn = next_tokens(many, counts, uniform, sampling)
        return torch.bincount(drawn, minlength=4) / n

    torch.testing.assert_close(
        shares(Sampling(temperature=0.7)), (logits[0] / 0.7).softmax(0), atol=1e-3, rtol=0
    )
    p = logits[0].softmax(0)  # 0.64, 0.09, 0.24, 0.03
    nucleus = torch.tensor([p[0], 0, p[2], 0]) / (p[0] + p[2])
    torch.testing.assert_close(
        shares(Sampling(temperature=1, top_p=0.8)), nucleus, atol=1e-3, rtol=0
    )
    counts = torch.tensor([[2.0, 0, 0, 1]]).expand(n, -1)
    penalised = (logits[0] - 1.5 * counts[0]).softmax(0)
    torch.testing.assert_close(
        shares(Sampling(temperature=1, freq_penalty=1.5), counts), penalised, atol=1e-3, rtol=0
    )
    assert next_tokens(logits, counts[:1], uniform[:1], Sampling(freq_penalty=1.5)).item() == 2


def test_the_hook_writes_only_while_the_prompt_is_read() -> None:
    vector = torch.arange(3.0)
    prompt, later = torch.ones(2, 4, 3), torch.ones(2, 1, 3)
    assert hook_fn_patch_scoping(prompt, None, [1, 3], vector) is None
    hook_fn_patch_scoping(later, None, [0], vector)
    torch.testing.assert_close(prompt[:, [1, 3]], vector.expand(2, 2, 3))
    assert (prompt[:, [0, 2]] == 1).all()
    assert (later == 1).all()


def test_one_latent_at_one_scale(any_model: Model, tiny_sae: SAE) -> None:
    options = {"max_new_tokens": 6, "temperature": 0.0}
    text = generate_patch_scoping_explanation(
        any_model, tiny_sae, PROMPTS[1], 7, 1, 12.0, **options
    )
    direction = tiny_sae.W_dec[7] / tiny_sae.W_dec[7].norm() * 12
    row = Injection(scope_prompt(any_model, PROMPTS[1]), 1, direction)
    tokens = library_tokens(any_model, row, 6)
    assert text == PROMPTS[1] + byte_level_text(any_model.tokenizer, tokens)
    drawn = [
        generate_patch_scoping_explanation(any_model, tiny_sae, PROMPTS[1], 7, 1, 12.0, 5, seed=s)
        for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_cancelling_stops_within_a_token(tiny_model: Model) -> None:
    progress = Progress()
    progress.cancel()
    with pytest.raises(JobCancelled):
        complete(tiny_model, mixed(tiny_model), progress=progress, max_new_tokens=5)


def test_refusals(tiny_model: Model, tiny_sae: SAE) -> None:
    prompt = scope_prompt(tiny_model, PROMPTS[0])
    vector = torch.ones(32)
    for row, message in (
        (Injection(prompt, 3, vector), "layers 0 to 2"),
        (Injection(prompt, 0, vector[:5]), "width 32"),
    ):
        with pytest.raises(ValueError, match=message):
            complete(tiny_model, [row], max_new_tokens=2)
    with pytest.raises(ValueError, match="context of 64"):
        complete(tiny_model, [Injection(prompt, 0, vector)], max_new_tokens=64)
    with pytest.raises(ValueError, match="no latent 64"):
        unit_directions(tiny_model, tiny_sae, [64])
    with pytest.raises(ValueError, match="top_p"):
        Sampling(top_p=0)


def test_typical_norm_leaves_the_first_token_out(any_model: Model) -> None:
    prompt = scope_prompt(any_model, PROMPTS[0])
    assert isinstance(prompt, ScopePrompt)
    norms: list[Tensor] = []
    with hooks_at(any_model, [("blocks.1.hook_resid_pre", lambda x, hook: norms.append(x))]):
        any_model(torch.tensor([prompt.tokens]))
    wanted = norms[0][0, 1:].norm(dim=-1).median()
    assert typical_norm(any_model, prompt, 1) == pytest.approx(float(wanted), rel=1e-5)
