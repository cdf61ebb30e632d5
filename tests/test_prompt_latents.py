"""What fires in a text, how strong that is for a latent, and what the model loses without it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import SAE
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from core.activations import IndexConfig, build_index
from core.corpus.token_set import TokenSet
from core.models import NO_PROCESSING, Model, load_model
from core.models.hooks import cache_sites, run_with_replacements
from core.prompt_latents import ablation_effects, activation_quantiles, active_latents
from core.saes import decode, encode
from tests.builders import make_sae

RESID = "blocks.1.hook_resid_pre"


def test_active_latents_are_those_of_the_encoder(any_model: Model, tiny_tokens: Tensor) -> None:
    sae = make_sae("topk", d_in=32, d_sae=64, hook_name=RESID)
    tokens = tiny_tokens[:1]
    dense = encode(sae, cache_sites(any_model, tokens, [RESID])[RESID])[0].numpy()
    dense[0] = 0
    found = active_latents(any_model, sae, tokens)
    assert found.n_positions == 9
    rebuilt = np.zeros_like(dense)
    rebuilt[found.position, found.latent] = found.value
    np.testing.assert_array_equal(rebuilt, dense)
    table = found.per_latent()
    assert sorted(table["latent"]) == np.flatnonzero(dense.max(0)).tolist()
    assert table["activation"].is_monotonic_decreasing
    for row in table.itertuples():
        column = dense[:, row.latent]
        assert row.activation == column.max()
        assert row.position == column.argmax()
        assert row.n_tokens == (column > 0).sum()
        assert row.total == pytest.approx(column.sum(), rel=1e-5)
    here = found.at(4)
    assert here["activation"].tolist() == sorted(dense[4][dense[4] > 0], reverse=True)
    np.testing.assert_array_equal(found.of(int(here["latent"][0])), dense[:, here["latent"][0]])


def test_a_text_of_one_token_and_a_silent_sae(tiny_hooked: Model, tiny_tokens: Tensor) -> None:
    sae = make_sae("standard", d_in=32, d_sae=16, hook_name=RESID)
    assert len(active_latents(tiny_hooked, sae, tiny_tokens[:1, :1]).per_latent()) == 0
    sae.b_enc.data -= 1e6
    found = active_latents(tiny_hooked, sae, tiny_tokens[:1])
    assert len(found.per_latent()) == 0
    assert len(found.at(3)) == 0
    with pytest.raises(ValueError, match="one prompt"):
        active_latents(tiny_hooked, sae, tiny_tokens)


def test_quantiles_against_all_activations(tiny_hooked: Model) -> None:
    sae = make_sae("standard", d_in=32, d_sae=64, hook_name=RESID)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 290, (60, 32), generator=generator)
    tokens[:, 0] = 0
    token_set = TokenSet.from_rows(tokens, bos_id=0)
    (index,) = build_index(tiny_hooked, [sae], token_set, IndexConfig(n_partners=0))
    dense = encode(sae, cache_sites(tiny_hooked, tokens, [RESID])[RESID])[:, 1:].flatten(0, 1)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        values = (index.peak * share).astype(np.float32)
        found = activation_quantiles(index.cell_counts, index.peak, values)
        for latent in range(64):
            fired = dense[:, latent][dense[:, latent] > 0].numpy()
            if len(fired) == 0:
                assert np.isnan(found[latent])
                continue
            exact = (fired < values[latent]).mean()
            # Off by at most the firings in one cell.
            assert abs(found[latent] - exact) <= index.cell_counts[latent].max() / len(fired)
    assert (
        activation_quantiles(index.cell_counts, index.peak, index.peak * 2)[index.count > 0] == 1
    ).all()


@pytest.mark.parametrize(
    ("architecture", "hook_name", "normalize"),
    [
        ("standard", RESID, "none"),
        ("standard", RESID, "layer_norm"),
        ("topk", "blocks.1.attn.hook_z", "none"),
        ("jumprelu", "blocks.2.hook_resid_pre", "none"),
        ("gated", "blocks.2.hook_mlp_out", "none"),
    ],
)
def test_each_removal_is_that_of_a_run_of_its_own(
    any_model: Model, tiny_tokens: Tensor, architecture: str, hook_name: str, normalize: str
) -> None:
    sae = make_sae(
        architecture, d_in=32, d_sae=24, hook_name=hook_name, normalize_activations=normalize
    )
    tokens = tiny_tokens[:1]
    site = cache_sites(any_model, tokens, [hook_name])[hook_name]
    acts = encode(sae, site)
    whole = decode(sae, acts, like=site)
    active = (acts[0, 1:] > 0).any(0).nonzero()[:, 0].tolist()
    silent = next((it for it in range(24) if it not in active), None)
    chosen = [*active[:6], *([] if silent is None else [silent])]
    found = ablation_effects(any_model, sae, tokens, chosen, batch_size=4)
    clean = cross_entropy(any_model(tokens)[0, :-1], tokens[0, 1:], reduction="none")
    np.testing.assert_allclose(found.loss, clean.numpy(), atol=2e-5)
    assert np.abs(found.increase).max() > 1e-3
    for row, latent in enumerate(chosen):
        without = acts.clone()
        without[:, 1:, latent] = 0
        patched = decode(sae, without, like=site) + (site - whole)
        logits = run_with_replacements(any_model, tokens, {hook_name: patched})
        loss = cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none")
        np.testing.assert_allclose(found.increase[row], (loss - clean).numpy(), atol=5e-5)
        if latent == silent:
            np.testing.assert_allclose(found.increase[row], 0, atol=1e-5)
    np.testing.assert_allclose(found.mean_increase, found.increase.mean(1))


def test_nothing_to_remove_or_to_predict(tiny_hooked: Model, tiny_tokens: Tensor) -> None:
    sae = make_sae("standard", d_in=32, d_sae=24, hook_name=RESID)
    none = ablation_effects(tiny_hooked, sae, tiny_tokens[:1], [])
    assert none.increase.shape == (0, 8)
    short = ablation_effects(tiny_hooked, sae, tiny_tokens[:1, :1], [0])
    assert short.mean_increase.tolist() == [0]
    with pytest.raises(ValueError, match="no latent 24"):
        ablation_effects(tiny_hooked, sae, tiny_tokens[:1], [24])


@pytest.mark.parametrize("n_leading", [0, 1])
def test_removal_reaches_the_first_token_where_nothing_stands_in_front(
    n_leading: int, tiny_gpt2_dir: Path, tiny_sae: SAE
) -> None:
    """Against the Hugging Face module with the latent's part subtracted by hand."""
    model = load_model(tiny_gpt2_dir, device="cpu", **NO_PROCESSING)
    tokens = torch.tensor([[0] * n_leading + [40, 90, 200, 123, 77]])
    hf = AutoModelForCausalLM.from_pretrained(tiny_gpt2_dir).eval()
    with torch.no_grad():
        clean = hf(tokens, output_hidden_states=True)
        acts = tiny_sae.encode(clean.hidden_states[1])[0]
        latent = int(acts[n_leading].argmax())
        removed = acts[:, [latent]] * tiny_sae.W_dec[latent]
        removed[:n_leading] = 0

        def without(_: object, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (given[0] - removed, *given[1:])

        hf.transformer.h[1].register_forward_pre_hook(without)
        changed = hf(tokens).logits
    losses = [
        -it[0, :-1].log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0]
        for it in (clean.logits, changed)
    ]
    found = ablation_effects(model, tiny_sae, tokens, [latent], n_leading=n_leading)
    np.testing.assert_allclose(found.increase[0], losses[1] - losses[0], atol=2e-5)
    assert abs(found.increase[0, n_leading]) > 1e-4, "the first token's own latent matters"
    active = active_latents(model, tiny_sae, tokens, n_leading=n_leading)
    assert active.of(latent)[n_leading] == pytest.approx(float(acts[n_leading, latent]), abs=2e-5)
    assert not active.of(latent)[:n_leading].any()
