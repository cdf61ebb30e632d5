"""SAEs of a single head: that head is read, and the other heads are left as they are."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sae_lens import SAE
from torch import Tensor

from core.activations import collect_latent_examples
from core.attribution import attribute_to_sources
from core.autointerp.controls import control_sae
from core.autointerp.gather import latent_activations
from core.circuits.steps import LogitEnd
from core.circuits.trace import trace_circuit
from core.corpus.token_set import TokenSet
from core.fit_check import check_fit
from core.gradients import (
    latent_to_latent_gradients,
    latent_to_logit_gradients,
    token_to_latent_gradients,
)
from core.lease import PlainLease
from core.models import Model
from core.patch_scoping.transfer import quality, quality_sums
from core.prompt_latents import ablation_effects, active_latents
from core.saes import (
    check_fits,
    decode,
    encode,
    load_sae_from_disk,
    put_at_site,
    read_at_site,
    reconstruct,
    sae_card,
    sae_inputs,
)
from core.saes.writes import residual_directions
from core.splitting.rows import LabelledSae, decoder_rows
from tests.builders import make_sae, write_sae
from tests.gradient_references import run_hooked

HOOK, HEAD = "blocks.1.attn.hook_z", 2
LATER = "blocks.2.hook_resid_pre"


def head_sae(architecture: str = "standard", head: int = HEAD, **options: Any) -> SAE:
    return make_sae(
        architecture,
        **{
            "d_in": 8,
            "d_sae": 24,
            "hook_name": HOOK,
            "hook_head_index": head,
            "seed": 3,
            **options,
        },
    )


def heads_of(model: Model, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return run_hooked(model, tokens, {}, [HOOK])[0][HOOK]


def losses(model: Model, tokens: Tensor, change: Any) -> Tensor:
    with torch.no_grad():
        _, logits = run_hooked(model, tokens, {HOOK: change}, [])
    return F.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none")


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("norm", ["none", "layer_norm"])
def test_encode_reads_the_head_and_decode_writes_it(
    architecture: str, norm: str, any_model: Model, tiny_tokens: Tensor, tmp_path: Any
) -> None:
    made = head_sae(architecture, normalize_activations=norm)
    sae = load_sae_from_disk(write_sae(made, tmp_path), device="cpu")
    check_fits(sae, any_model)
    assert sae_card(sae).head == HEAD
    site = heads_of(any_model, tiny_tokens)
    head = site[:, :, HEAD]
    plain = make_sae(
        architecture,
        d_in=8,
        d_sae=24,
        hook_name="blocks.1.hook_resid_pre",
        seed=3,
        normalize_activations=norm,
    )
    latents, rebuilt = plain.encode(head), plain(head)
    assert 0.02 < float((latents > 0).float().mean()) < 0.9
    torch.testing.assert_close(sae_inputs(any_model, sae, tiny_tokens), head)
    for given in (site, head, head[0]):
        expected = latents[0] if given.dim() == 2 else latents
        torch.testing.assert_close(encode(sae, given), expected, atol=1e-5, rtol=1e-5)
        expected = rebuilt[0] if given.dim() == 2 else rebuilt
        torch.testing.assert_close(reconstruct(sae, given), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decode(sae, latents, like=site), rebuilt, atol=1e-5, rtol=1e-5)
    put = put_at_site(sae, site, rebuilt)
    torch.testing.assert_close(put[:, :, HEAD], rebuilt)
    others = [0, 1, 3]
    assert torch.equal(put[:, :, others], site[:, :, others])
    with pytest.raises(ValueError, match="numbers to put"):
        put_at_site(sae, site, rebuilt[..., :4])


def test_index_and_prompt_hold_the_firings_of_the_head(
    any_model: Model, tiny_tokens: Tensor
) -> None:
    sae = head_sae()
    latents = torch.relu(
        (heads_of(any_model, tiny_tokens)[:, :, HEAD] - sae.b_dec) @ sae.W_enc + sae.b_enc
    )
    index = collect_latent_examples(any_model, sae, tiny_tokens)
    counted = latents[:, 1:]
    np.testing.assert_array_equal(index.count, (counted > 0).sum((0, 1)))
    np.testing.assert_allclose(index.peak, counted.amax((0, 1)), atol=1e-5)
    found = active_latents(any_model, sae, tiny_tokens[:1])
    np.testing.assert_allclose(found.of(5)[1:], latents[0, 1:, 5], atol=1e-5)
    tokens = tiny_tokens.numpy().copy()
    [acts] = latent_activations(any_model, [(sae, [5, 7])], tokens)
    np.testing.assert_allclose(acts[:, 1:], latents[:, 1:, [5, 7]], atol=1e-5)


def test_ablation_takes_the_latent_out_of_its_head(any_model: Model, tiny_tokens: Tensor) -> None:
    sae, tokens = head_sae(), tiny_tokens[:1]
    acts = encode(sae, heads_of(any_model, tokens))[0]
    chosen = [int(it) for it in acts[1:].sum(0).topk(3).indices]
    found = ablation_effects(any_model, sae, tokens, chosen, batch_size=2)
    clean = losses(any_model, tokens, lambda site: site)
    for number, latent in enumerate(chosen):

        def without(site: Tensor, latent: int = latent) -> Tensor:
            changed = site.clone()
            changed[:, 1:, HEAD] -= acts[None, 1:, latent, None] * sae.W_dec[latent]
            return changed

        expected = losses(any_model, tokens, without) - clean
        assert expected.abs().max() > 1e-4
        np.testing.assert_allclose(found.increase[number], expected, atol=1e-5)


def test_quality_replaces_the_head_alone(tiny_model: Model, tiny_tokens: Tensor) -> None:
    sae, tokens = head_sae(), tiny_tokens[:1]
    counts = torch.ones_like(tokens, dtype=torch.bool)
    counts[:, 0] = False

    def with_head(new: Any) -> Tensor:
        def change(site: Tensor) -> Tensor:
            changed = site.clone()
            changed[:, 1:, HEAD] = new(site[:, 1:, HEAD])
            return changed

        return losses(tiny_model, tokens, change).mean()

    found = quality(quality_sums(tiny_model, sae, tokens, counts))
    assert found.loss == pytest.approx(float(with_head(lambda x: x)), abs=1e-5)
    spliced, ablated = with_head(lambda x: reconstruct(sae, x)), with_head(torch.zeros_like)
    assert found.loss_spliced == pytest.approx(float(spliced), abs=1e-5)
    assert float((spliced - found.loss).abs()) > 1e-4
    share = float((ablated - spliced) / (ablated - found.loss))
    assert found.loss_recovered == pytest.approx(share, abs=2e-3)
    head = heads_of(tiny_model, tokens)[0, 1:, HEAD]
    left = (head - reconstruct(sae, head)).square().sum()
    variance = (head - head.mean(0)).square().sum()
    assert found.explained_variance == pytest.approx(float(1 - left / variance), abs=1e-4)


def test_logit_lens_goes_through_the_output_weights_of_the_head(any_model: Model) -> None:
    sae = head_sae()
    expected = sae.W_dec[[4, 9]] @ any_model.blocks[1].attn.W_O[HEAD]
    torch.testing.assert_close(residual_directions(any_model, sae, [4, 9]), expected)


def test_sources_are_those_of_the_head(any_model: Model, tiny_tokens: Tensor) -> None:
    sae, tokens = head_sae(), tiny_tokens[:1]
    found = attribute_to_sources(any_model, sae, tokens, 5, 7)
    head = heads_of(any_model, tokens)[0, 7, HEAD]
    exact = float((head - sae.b_dec) @ sae.W_enc[:, 5] + sae.b_enc[5])
    assert found.pre_activation == pytest.approx(exact, abs=1e-5)
    assert float(found.terms.sum()) + found.bias == pytest.approx(exact, abs=1e-5)
    assert not found.terms[[0, 1, 3]].any()
    assert found.terms[HEAD].abs().max() > 1e-3


def jacobian(outputs: Tensor, inputs: Tensor) -> Tensor:
    rows = [torch.autograd.grad(it, inputs, retain_graph=True)[0] for it in outputs]
    return torch.stack(rows)


@pytest.mark.slow
def test_gradients_from_the_head_to_later_latents_and_logits(
    any_model: Model, tiny_tokens: Tensor
) -> None:
    sae, tokens = head_sae(), tiny_tokens[:1]
    later = make_sae("standard", d_in=32, d_sae=40, hook_name=LATER)
    site = heads_of(any_model, tokens)
    acts = encode(sae, site)
    active = acts > 0
    values = acts[active].clone().requires_grad_(True)
    dense = torch.zeros_like(acts).index_put(active.nonzero(as_tuple=True), values)
    written = dense @ sae.W_dec + sae.b_dec

    def spliced(clean: Tensor) -> Tensor:
        parts = [clean[:, :, :HEAD], written[:, :, None], clean[:, :, HEAD + 1 :]]
        return torch.cat(parts, dim=2)

    seen, logits = run_hooked(any_model, tokens, {HOOK: lambda _: spliced(site)}, [LATER])
    reached = later.encode(seen[LATER])
    found, prev, _, recon = latent_to_latent_gradients(tokens, sae, later, any_model)
    torch.testing.assert_close(prev.dense, acts, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(recon.dense, reached.detach(), atol=1e-4, rtol=1e-4)
    expected = jacobian(reached[recon.dense > 0], values)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    found, _, logits_recon, ids, _ = latent_to_logit_gradients(tokens, sae, any_model, k=3)
    torch.testing.assert_close(logits_recon, logits[0, -1].detach(), atol=1e-4, rtol=1e-4)
    expected = jacobian(logits[0, -1][ids], values)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_gradients_to_the_latents_of_a_head(any_model: Model, tiny_tokens: Tensor) -> None:
    sae, tokens = head_sae(), tiny_tokens[:1]
    scales = torch.ones(tokens.shape, requires_grad=True)
    hooks = {"blocks.0.hook_resid_pre": lambda x: x * scales[..., None]}
    site = run_hooked(any_model, tokens, hooks, [HOOK])[0][HOOK]
    latents = torch.relu((site[:, :, HEAD] - sae.b_dec) @ sae.W_enc + sae.b_enc)
    found, acts = token_to_latent_gradients(tokens, sae, any_model)
    torch.testing.assert_close(acts.dense, latents.detach(), atol=1e-5, rtol=1e-4)
    expected = jacobian(latents[acts.dense > 0], scales)  # [n_active, 1, pos]
    torch.testing.assert_close(found, expected.permute(1, 2, 0), atol=1e-4, rtol=1e-3)
    earlier = make_sae("standard", d_in=32, d_sae=40, hook_name="blocks.1.hook_resid_pre")
    _, _, true, _ = latent_to_latent_gradients(tokens, earlier, sae, any_model)
    torch.testing.assert_close(true.dense, latents.detach(), atol=1e-5, rtol=1e-4)


def test_controls_read_the_same_head(tiny_model: Model, tiny_tokens: Tensor) -> None:
    sae = head_sae()
    token_set = TokenSet.from_rows(tiny_tokens, bos_id=0)
    control, latents = control_sae("random directions", tiny_model, sae, [2, 5], token_set)
    assert control.cfg.metadata.hook_head_index == HEAD
    check_fits(control, tiny_model)
    fires = encode(control, sae_inputs(tiny_model, control, tiny_tokens))[:, 1:] > 0
    own = encode(sae, sae_inputs(tiny_model, sae, tiny_tokens))[:, 1:, [2, 5]] > 0
    np.testing.assert_array_equal(fires.sum((0, 1)), own.sum((0, 1)).clamp(min=1))
    assert latents == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": 4}, r"reads head 4 of .*, which has heads 0 to 3"),
        ({"head": -1}, r"reads head -1"),
        ({"d_in": 32}, r"reads 32 numbers of head 2 .* have 8 \(32 together\)"),
        ({"hook_name": "blocks.1.hook_resid_pre"}, "not divided into heads"),
        ({"hook_name": "blocks.9.attn.hook_z"}, "layers 0 to 2"),
    ],
)
def test_heads_that_are_not_there(
    options: dict[str, Any], message: str, any_model: Model, tiny_tokens: Tensor
) -> None:
    sae = head_sae(**options)
    with pytest.raises(ValueError, match=message):
        check_fits(sae, any_model)


def test_what_a_single_head_is_not_used_for(tiny_model: Model, tiny_tokens: Tensor) -> None:
    with pytest.raises(ValueError, match="reads head 2 alone; choose SAEs of whole sites"):
        trace_circuit(PlainLease(tiny_model, [head_sae()]), tiny_tokens[:1], LogitEnd())
    two = [LabelledSae("a", head_sae()), LabelledSae("b", head_sae(head=1))]
    with pytest.raises(ValueError, match=r"\(head 2\).*\(head 1\); directions at different"):
        decoder_rows(two)
    with pytest.raises(ValueError, match="heads 0 to 3"):
        read_at_site(head_sae(head=7), torch.zeros(1, 2, 4, 8))
    transcoder = make_sae("transcoder", d_in=8, d_sae=8, hook_name=HOOK, hook_head_index=0, d_out=8)
    with pytest.raises(ValueError, match="transcoder of single heads"):
        check_fits(transcoder, tiny_model)


@pytest.mark.parametrize("site", ["hook_q", "hook_k", "hook_v", "hook_z"])
def test_sites_of_heads_are_read_whole_without_being_told_to(
    site: str, any_model: Model, tiny_tokens: Tensor
) -> None:
    hook_name = f"blocks.1.attn.{site}"
    sae = make_sae("standard", d_in=32, d_sae=24, hook_name="blocks.1.hook_resid_pre")
    sae.cfg.metadata.hook_name = hook_name
    check_fits(sae, any_model)
    with torch.no_grad():
        found = run_hooked(any_model, tiny_tokens, {}, [hook_name])[0][hook_name]
    expected = sae.encode(found.flatten(2))
    torch.testing.assert_close(encode(sae, found), expected)
    torch.testing.assert_close(reconstruct(sae, found).flatten(2), sae.decode(expected))


def test_a_transcoder_that_reads_heads_writes_none(tiny_tokens: Tensor) -> None:
    sae = make_sae("transcoder", d_in=32, d_sae=8, hook_name="blocks.1.hook_resid_pre")
    sae.cfg.metadata.hook_name = HOOK
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(reconstruct(sae, x), sae(x.flatten(2)))


def test_the_fit_check_reads_and_replaces_that_head_alone(tiny_model: Model) -> None:
    sae = head_sae()
    ids = torch.randint(4, 290, (6, 24), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = 0
    rows = TokenSet.from_rows(ids, bos_id=0)
    found = check_fit(tiny_model, sae, rows)
    mask = torch.from_numpy(rows.mask)
    assert found.n_tokens == int(mask.sum())
    read = heads_of(tiny_model, ids)[:, :, HEAD][mask]
    latents = encode(sae, read)
    missed = (read - decode(sae, latents)).square().sum()
    variance = (read - read.mean(0)).square().sum()
    assert found.fvu is not None
    assert found.fvu.value == pytest.approx(float(missed / variance), rel=1e-4)
    assert found.l0.value == pytest.approx(float((latents > 0).float().sum(1).mean()))

    def losses(change: Any) -> float:
        def hook(site: Tensor, hook: Any) -> Tensor:
            new = site.clone()
            new[:, :, HEAD] = torch.where(
                mask[..., None], change(site[:, :, HEAD]), new[:, :, HEAD]
            )
            return new

        logits = tiny_model.run_with_hooks(ids, fwd_hooks=[(HOOK, hook)])[:, :-1]
        loss = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return float(loss[mask[:, 1:]].double().sum())

    clean, spliced = losses(lambda head: head), losses(lambda head: decode(sae, encode(sae, head)))
    zeros = losses(torch.zeros_like)
    if zeros > clean:
        assert found.loss_recovered is not None
        share = (zeros - spliced) / (zeros - clean)
        assert found.loss_recovered.value == pytest.approx(share, rel=1e-2)
