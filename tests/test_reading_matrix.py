"""Architecture × normalisation × site × BOS × kind of tokenizer, against plain torch.

The model is Hugging Face's module with hooks of its own, the SAE is written out in `plain_saes`.
What is compared: latents, L0, the reconstruction, which tokens a latent raises, a typed text, the
index, and gradients from tokens to latents.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from core.activations import build_index, row_activations
from core.corpus import bos_id, default_packing, prompt_for, prompt_tokens
from core.gradients import token_to_latent_gradients
from core.logit_lens import top_tokens
from core.models import Model, load_model
from core.prompt_latents import active_latents
from core.saes import encode, load_sae_from_disk, reconstruct, sae_inputs
from core.saes.writes import residual_directions
from tests.builders import write_sae
from tests.plain_saes import PlainSae
from tests.sae_kinds import of_kind
from tests.tokenizer_kinds import bert, gemma, gpt2, llama2, llama3, mistral, with_added

pytestmark = pytest.mark.slow

TOKENIZERS: dict[str, Callable[[], Any]] = {
    "GPT-2": gpt2,
    "Llama-2": llama2,
    "Llama-3": llama3,
    "Gemma": gemma,
    "Mistral": mistral,
    "BERT": bert,
    "added tokens": with_added,
}
SITES = (
    "blocks.1.hook_resid_pre",
    "blocks.1.attn.hook_z",
    "blocks.1.hook_mlp_out",
    "blocks.1.hook_resid_post",
)
READ_BY_TRANSCODERS, WRITTEN = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
SAES = ("standard", "gated", "jumprelu", "topk", "topk rescaled", "matching_pursuit")
TRANSCODERS = (
    *("transcoder", "skip_transcoder"),
    *("jumprelu_transcoder", "jumprelu_skip_transcoder"),
)
NORMS = ("none", "layer_norm", "constant_norm_rescale", "expected_average_only_in")
SCALE = 1.7
"""What scaled SAEs multiply their input by."""
CASES = [
    *((kind, norm, site) for kind in SAES for norm in NORMS for site in SITES),
    *((kind, "none", READ_BY_TRANSCODERS) for kind in TRANSCODERS),
]
"""Matching pursuit on scaled activations is among them: it is to be refused."""
TEXT = "the mean of the mean, of an"


@dataclass(frozen=True, eq=False)
class Known:
    """A model in both forms, with what Hugging Face's finds on the text, with and without BOS."""

    model: Model
    plain: LlamaForCausalLM
    ids: list[int]
    front: int | None

    def prompt(self, said: bool) -> list[int]:
        """Token ids of the text for an SAE trained with BOS, or without."""
        return [*([self.front] if said and self.front is not None else []), *self.ids]


@contextmanager
def heard(known: Known, scales: Tensor | None = None) -> Iterator[dict[str, Tensor]]:
    """Sites of the module's second block; `scales` multiply what enters the first block."""
    block, found = known.plain.model.layers[1], {}

    def into(name: str, change: Callable[[Tensor], Tensor] = lambda x: x) -> Any:
        def hook(_: Any, given: Any, kwargs: Any) -> None:
            found[name] = change(given[0] if given else kwargs["hidden_states"])

        return hook

    def out_of(name: str) -> Any:
        def hook(_: Any, given: Any, output: Any) -> None:
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def scaled(_: Any, given: Any, kwargs: Any) -> Any:
        if scales is None:
            return None
        if given:
            return (given[0] * scales[None, :, None], *given[1:]), kwargs
        return given, {**kwargs, "hidden_states": kwargs["hidden_states"] * scales[None, :, None]}

    def without_gain(x: Tensor) -> Tensor:
        eps = known.plain.config.rms_norm_eps
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()

    handles = [
        known.plain.model.layers[0].register_forward_pre_hook(scaled, with_kwargs=True),
        block.register_forward_pre_hook(into(SITES[0]), with_kwargs=True),
        block.self_attn.o_proj.register_forward_pre_hook(into(SITES[1]), with_kwargs=True),
        block.mlp.register_forward_hook(out_of(SITES[2])),
        block.register_forward_hook(out_of(SITES[3])),
        block.post_attention_layernorm.register_forward_pre_hook(
            into(READ_BY_TRANSCODERS, without_gain), with_kwargs=True
        ),
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture(scope="module", params=TOKENIZERS)
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Known:
    tokenizer = TOKENIZERS[request.param]()
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        **special,
    )
    plain = LlamaForCausalLM(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in plain.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.2 * noise if parameter.dim() == 1 else noise * (1.5 / 32**0.5)
    folder = tmp_path_factory.mktemp("matrix") / "model"
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    model = load_model(folder, device="cpu")
    return Known(model, plain, ids, bos_id(model.tokenizer, d_vocab=len(tokenizer)))


def made(kind: str, norm: str, site: str, folder: Path, *, said: bool) -> tuple[SAE, PlainSae]:
    """An SAE through its folder, and in plain torch."""
    architecture, _, rescaled = kind.partition(" ")
    options: dict[str, Any] = {"normalize_activations": norm, "metadata": {"prepend_bos": said}}
    if rescaled:
        options["rescale_acts_by_decoder_norm"] = True
    sae = of_kind(architecture, site, **options)
    plain = PlainSae.of(sae, scale=SCALE if norm == "expected_average_only_in" else 1.0)
    write_sae(sae, folder)
    factor = SCALE if norm == "expected_average_only_in" else None
    return load_sae_from_disk(folder, device="cpu", norm_factor=factor), plain


@pytest.mark.parametrize("said", [True, False], ids=["BOS", "no BOS"])
def test_sites_are_those_of_the_module(known: Known, said: bool, tmp_path: Path) -> None:
    """And so are the tokens: what is compared below rests on both."""
    ids = known.prompt(said)
    for site in (*SITES, READ_BY_TRANSCODERS):
        kind = "transcoder" if site == READ_BY_TRANSCODERS else "standard"
        sae, _ = made(kind, "none", site, tmp_path / site, said=said)
        assert list(prompt_for(known.model, [sae], TEXT).ids) == ids
        with heard(known) as found:
            known.plain(torch.tensor([ids]))
        read = sae_inputs(known.model, sae, torch.tensor([ids])).flatten(2)
        torch.testing.assert_close(read, found[site], atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("said", [True, False], ids=["BOS", "no BOS"])
@pytest.mark.parametrize(("kind", "norm", "site"), CASES)
def test_reads_as_plain_torch(
    known: Known, kind: str, norm: str, site: str, said: bool, tmp_path: Path
) -> None:
    if (kind, norm) == ("matching_pursuit", "expected_average_only_in"):
        with pytest.raises(ValueError, match="matching-pursuit SAE reads scaled activations"):
            made(kind, norm, site, tmp_path / "sae", said=said)
        return
    sae, plain = made(kind, norm, site, tmp_path / "sae", said=said)
    prompt = prompt_for(known.model, [sae], TEXT)
    ids, front = torch.tensor([known.prompt(said)]), prompt.n_leading
    assert front == len(known.prompt(said)) - len(known.ids)
    scales = torch.ones(ids.shape[1], requires_grad=True)
    with heard(known, scales) as found:
        known.plain(ids)
    x = found[site][0]
    latents = plain.encode(x)
    expected = latents.detach()
    assert 0 < float((expected[front:] > 0).float().mean()) < 1

    # Latents, L0 and the reconstruction.
    read = sae_inputs(known.model, sae, ids)
    torch.testing.assert_close(encode(sae, read)[0], expected, atol=2e-5, rtol=1e-4)
    written = reconstruct(sae, read)[0].reshape(len(x), -1)
    torch.testing.assert_close(written, plain.reconstruct(x).detach(), atol=5e-5, rtol=1e-4)
    active = active_latents(known.model, sae, prompt.tokens, n_leading=front)
    counts = (expected[front:] > 0).sum(0)
    assert active.n_positions - front == len(known.ids)
    assert len(active.value) == int(counts.sum()), "L0 times the tokens of the text"
    best = int(expected[front:].sum(0).argmax())
    here = expected[front:, best]
    np.testing.assert_allclose(active.of(best)[front:], here, atol=2e-5, rtol=1e-4)

    # The index.
    rows = prompt_tokens([TEXT], known.model.tokenizer, default_packing(known.model, sae))
    (index,) = build_index(known.model, [sae], rows)
    np.testing.assert_array_equal(index.count, counts)
    shown = row_activations(known.model, sae, rows, np.array([0]), best)[0][rows.mask[0]]
    np.testing.assert_allclose(shown, expected[front:, best], atol=2e-5, rtol=1e-4)

    # Which tokens a latent raises: final norm's gain times the unembedding, as they are read.
    direction = plain.unit_write(best)
    if site.endswith("hook_z"):
        direction = known.plain.model.layers[1].self_attn.o_proj.weight @ direction
    logits = known.plain.lm_head.weight @ (known.plain.model.norm.weight * direction)
    lens = residual_directions(known.model, sae, [best])[0] @ known.model.W_U
    torch.testing.assert_close(lens - lens.mean(), logits - logits.mean(), atol=5e-5, rtol=1e-3)
    raised, _ = top_tokens(residual_directions(known.model, sae, [best]), known.model.W_U, k=3)
    assert set(raised[0].tolist()) == set(logits.topk(3).indices.tolist())

    # Gradients from a scale on each embedding, for two latents, by autograd through the module.
    gradients, acts = token_to_latent_gradients(prompt.tokens, sae, known.model)
    _, position, latent = acts.sparse[1].unbind(-1)
    last = latents[-1].topk(2)
    for value, number in zip(last.values, last.indices.tolist(), strict=True):
        (slope,) = torch.autograd.grad(value, scales, retain_graph=True)
        (place,) = ((position == len(x) - 1) & (latent == number)).nonzero()[:, 0].tolist()
        torch.testing.assert_close(gradients[0, :, place], slope, atol=1e-4, rtol=2e-3)
