"""Published figures on GPT-2 small; downloads model and SAEs: `pytest -m real_weights`."""

import pytest
import torch

from core.gradients import (
    latent_to_latent_gradients,
    latent_to_latent_gradients_attn,
    latent_to_logit_gradients,
    token_to_latent_gradients,
)
from core.gradients.heads import head_scores
from core.gradients.repeated_tokens import repeated_tokens
from core.models import Model, load_model
from core.saes import load_sae

pytestmark = pytest.mark.real_weights

RESIDUAL, ATTENTION = "gpt2-small-res-jb", "gpt2-small-hook-z-kk"


@pytest.fixture(scope="module")
def gpt2() -> Model:
    return load_model("gpt2-small")


def test_bigram_circuit(gpt2: Model) -> None:
    tokens = gpt2.to_tokens("The Eiffel tower is in Paris")
    first, second = (load_sae(RESIDUAL, f"blocks.{it}.hook_resid_pre") for it in (0, 3))
    gradients, prev, next_, recon = latent_to_latent_gradients(tokens, first, second, gpt2)
    true = {tuple(it) for it in next_.indices.tolist()}
    reconstructed = {tuple(it) for it in recon.indices.tolist()}
    counts = (len(true), len(reconstructed), len(true ^ reconstructed))
    assert counts == (181, 179, 8)
    # Tokens: BOS, The, " E", "iff", "el", ...
    row = recon.indices.tolist().index([0, 3, 15266])
    column = prev.indices.tolist().index([0, 2, 16911])
    across = recon.indices[:, None, 1] != prev.indices[None, :, 1]
    cell = gradients[row, column].abs()
    assert (gradients[across].abs() > cell).float().mean() < 0.01
    by_token, acts = token_to_latent_gradients(tokens, second, gpt2)
    entry = acts.indices.tolist().index([0, 3, 15266])
    assert by_token[0, 2, entry].abs() > 0.1 * by_token[0, :, entry].abs().max()


def test_logits_of_paris(gpt2: Model) -> None:
    tokens = gpt2.to_tokens("The Eiffel tower is in the city of")
    sae = load_sae(RESIDUAL, "blocks.9.hook_resid_pre")
    paris = gpt2.to_single_token(" Paris")
    gradients, logits, recon, ids, acts = latent_to_logit_gradients(tokens, sae, gpt2, 25)
    assert ids is not None
    assert ids[0] == paris
    assert int((recon > recon[paris]).sum()) == 9
    assert int((logits > logits[paris]).sum()) == 0
    assert int(acts.indices[gradients[0].argmax(), 2]) == 22250


def test_induction_latents(gpt2: Model) -> None:
    heads = head_scores(gpt2, repeated_tokens(gpt2, 10, n_prompts=4)).set_index(["layer", "head"])
    assert heads["previous_token"].idxmax() == (4, 11)
    assert heads.loc[[(5, 1), (5, 5)], "induction"].min() > 0.4
    saes = [load_sae(ATTENTION, f"blocks.{layer}.hook_z") for layer in (4, 5)]
    everywhere = []
    for seed in range(3):
        tokens = repeated_tokens(gpt2, 10, seed=seed)
        recon = latent_to_latent_gradients_attn(tokens, *saes, gpt2, max_to=1, max_from=1)[2]
        everywhere.append((recon.dense[0, 11:] > 0).all(0))
    for latent in (35425, 36126):
        assert torch.stack(everywhere)[:, latent].any()
