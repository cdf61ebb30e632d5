"""Controls: neurons are the model's, random directions fire as often, random weights are new."""

import pytest
import torch
from sae_lens import SAE

from core.autointerp import AutoInterp, AutoInterpConfig, LexicalExplainer, LexicalJudge
from core.autointerp.controls import CONTROLS, control_sae
from core.corpus import TokenSet
from core.models import Model, cache_sites
from core.saes import encode
from tests.builders import make_sae

LATENTS = [3, 8, 21, 40]
SITE = "blocks.1.hook_resid_pre"


@pytest.fixture(scope="module")
def token_set() -> TokenSet:
    rows = torch.randint(4, 290, (40, 33), generator=torch.Generator().manual_seed(3))
    rows[:, 0] = 0
    return TokenSet.from_rows(rows, bos_id=0)


def test_neurons_are_the_models(any_model: Model, tiny_sae: SAE, token_set: TokenSet) -> None:
    control, chosen = control_sae("neurons", any_model, tiny_sae, LATENTS, token_set)
    assert chosen == [0, 1, 2, 3]
    site = "blocks.1.mlp.hook_post"
    assert control.cfg.metadata.hook_name == site
    tokens = torch.from_numpy(token_set.tokens[:3]).long()
    neurons = cache_sites(any_model, tokens, [site])[site]
    ids = control.W_enc.argmax(0)
    assert len(set(ids.tolist())) == 4
    torch.testing.assert_close(encode(control, neurons), neurons[..., ids].clamp(min=0))


@pytest.mark.parametrize("hook_name", [SITE, "blocks.1.attn.hook_z"])
def test_random_directions_fire_as_often(
    any_model: Model, token_set: TokenSet, hook_name: str
) -> None:
    sae = make_sae("topk", d_in=32, d_sae=64, hook_name=hook_name)
    control, chosen = control_sae("random directions", any_model, sae, LATENTS, token_set)
    tokens = torch.from_numpy(token_set.tokens).long()
    site = cache_sites(any_model, tokens, [hook_name])[hook_name]
    site = site[torch.from_numpy(token_set.mask)]
    mine = (encode(sae, site)[:, LATENTS] > 0).sum(0).clamp(min=1)
    theirs = (encode(control, site)[:, chosen] > 0).sum(0)
    torch.testing.assert_close(theirs, mine)
    other, _ = control_sae("random directions", any_model, sae, LATENTS, token_set, seed=1)
    assert not torch.equal(control.W_dec, other.W_dec)


def test_random_weights_are_new_and_of_the_same_size(
    tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    before = {name: value.clone() for name, value in tiny_sae.state_dict().items()}
    control, chosen = control_sae("random weights", tiny_model, tiny_sae, LATENTS, token_set)
    assert chosen == LATENTS
    assert control.cfg.architecture() == tiny_sae.cfg.architecture()
    for name, value in tiny_sae.state_dict().items():
        assert torch.equal(value, before[name])
        new = control.state_dict()[name]
        assert new.shape == value.shape
        if name in ("W_enc", "W_dec"):
            assert float(torch.corrcoef(torch.stack([new.flatten(), value.flatten()]))[0, 1]) < 0.1
            torch.testing.assert_close(new.std(), value.std(), rtol=0.05, atol=0)
        else:
            assert torch.equal(new, value)


@pytest.mark.parametrize("kind", CONTROLS)
def test_the_whole_run_takes_a_control(
    kind: str, tiny_model: Model, tiny_sae: SAE, token_set: TokenSet
) -> None:
    control, chosen = control_sae(kind, tiny_model, tiny_sae, LATENTS, token_set)
    cfg = AutoInterpConfig(chosen, buffer=4, total_tokens=40 * 33, scoring=True)
    data = AutoInterp(cfg, tiny_model, control, token_set).gather_data()
    offline = AutoInterp(
        cfg,
        tiny_model,
        control,
        token_set,
        explainer=LexicalExplainer(data[0]),
        judge=LexicalJudge(),
    )
    statuses = [result["status"] for result in offline.run(data=data).values()]
    assert "scored" in statuses
    assert set(statuses) <= {"scored", "unscored", "failed"}


def test_what_cannot_be_controlled(tiny_model: Model, tiny_sae: SAE, token_set: TokenSet) -> None:
    with pytest.raises(ValueError, match="no control 'noise'"):
        control_sae("noise", tiny_model, tiny_sae, LATENTS, token_set)
    with pytest.raises(ValueError, match="from 0 to 63"):
        control_sae("neurons", tiny_model, tiny_sae, [64], token_set)
