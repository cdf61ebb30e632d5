"""A text is read alike everywhere, whatever tokenizer and SAE: the same tokens, none lost, no BOS
twice, and the activations that Hugging Face's own module gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from sae_lens.tokenization_and_batching import concat_and_batch_sequences
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.activations import row_activations
from core.attribution.on_text import find_sources, typed_text
from core.autointerp.generation import ModelProber
from core.corpus import bos_id, default_packing, prompt_for, prompt_tokens, token_in_front
from core.corpus.prompt import reading_notes
from core.gradients.display import matrix_to_show
from core.gradients.gradient_request import GradientRequest, open_route
from core.gradients.matrix import gradient_matrix
from core.gradients.page_view import GradientView
from core.gradients.prompt import prompt_texts
from core.lease import PlainLease
from core.models import NO_PROCESSING, Model, load_model
from core.patch_scoping.prompt import prompt_tokens as scope_tokens
from core.prompt_latents.active import read_prompt, text_activations
from core.prompt_latents.ranking import latents_table, strongest_per_token
from core.saes import encode
from core.splitting.text_evidence import fires_in_text
from tests.builders import make_sae
from tests.tokenizer_models import TEXT, Kind, tokenizer_kinds, write_model

pytestmark = pytest.mark.slow

HOOK = "blocks.1.hook_resid_pre"
HEADS = "blocks.1.attn.hook_z"
KINDS = tokenizer_kinds()
SOME = range(0, 48, 5)
"""Latents that are looked at."""
SAID = [True, False, None]


@dataclass(frozen=True)
class Read:
    """A kind of tokenizer with its model, loaded and as Hugging Face has it."""

    kind: Kind
    folder: Path
    model: Model
    plain: list[int]

    def sites(self, ids: list[int]) -> dict[str, Tensor]:
        """What stands at `HOOK` and `HEADS`, by the Hugging Face module."""
        hf = AutoModelForCausalLM.from_pretrained(self.folder).eval()
        gpt2 = hasattr(hf, "transformer")
        out = hf.transformer.h[1].attn.c_proj if gpt2 else hf.model.layers[1].self_attn.o_proj
        seen: list[Tensor] = []
        handle = out.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        with torch.no_grad():
            hidden = hf(torch.tensor([ids]), output_hidden_states=True).hidden_states
        handle.remove()
        return {HOOK: hidden[1], HEADS: seen[0].reshape(1, len(ids), 4, 8)}


@pytest.fixture(scope="module", params=range(len(KINDS)), ids=[it.name for it in KINDS])
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Read:
    kind = KINDS[request.param]
    raw = kind.tokenizer.backend_tokenizer.encode(TEXT, add_special_tokens=False).ids
    folder = write_model(tmp_path_factory.mktemp("kinds") / "model", kind.tokenizer)
    return Read(kind, folder, load_model(folder, device="cpu", **NO_PROCESSING), raw)


def sae_at(hook: str, said: bool | None, **metadata: Any) -> SAE:
    sae = make_sae("standard", d_in=32, d_sae=48, hook_name=hook, **metadata)
    sae.cfg.metadata.prepend_bos = said
    return sae


def home(read: Read, sae: SAE) -> tuple[tuple[int, ...], np.ndarray]:
    """Tokens counted and the activations of all latents at them, [n, d_sae]."""
    rows = []
    for latent in SOME:
        found = text_activations(PlainLease(read.model, [sae]), latent, TEXT)
        rows.append(found.activations)
    return found.token_ids, np.array(rows).T


def prompt_tab(read: Read, sae: SAE) -> tuple[tuple[int, ...], np.ndarray]:
    found = read_prompt(PlainLease(read.model, [sae]), TEXT)
    values = np.array([found.active.of(latent) for latent in SOME]).T
    assert not values[: found.n_leading].any()
    per_token = strongest_per_token(found, k=3)
    assert per_token["position"].tolist() == list(range(1, found.n_tokens + 1))
    assert per_token["token"].tolist() == list(found.tokens[found.n_leading :])
    first = latents_table(found, position=1)
    assert set(first["position"]) <= {1}
    assert len(first) == (found.active.position == found.n_leading).sum() > 0
    assert latents_table(found)["position"].between(1, found.n_tokens).all()
    return found.token_ids[found.n_leading :], values[found.n_leading :]


def gradients(read: Read, sae: SAE) -> tuple[tuple[int, ...], np.ndarray]:
    request = GradientRequest("tokens", "model", TEXT, None, None)
    opened = open_route(request, read.model, [sae])
    values = np.zeros((opened.ids.shape[1], 48), dtype=np.float32)
    _, position, latent = opened.route.target_indices.unbind(-1)
    values[position, latent] = opened.route.target_values.numpy()
    ids = tuple(opened.ids[0].tolist())
    return ids[opened.n_leading :], values[opened.n_leading :, ::5]


def generation(read: Read, sae: SAE) -> tuple[tuple[int, ...], np.ndarray]:
    prober = ModelProber(PlainLease(read.model, [sae]), dict.fromkeys(range(48), 0.0))
    examples = [prober(latent, [TEXT])[0] for latent in SOME]
    return tuple(examples[0].toks), np.array([it.acts for it in examples]).T


def index(read: Read, sae: SAE) -> tuple[tuple[int, ...], np.ndarray]:
    rows = prompt_tokens([TEXT], read.model.tokenizer, default_packing(read.model, sae))
    counts = rows.mask[0]
    values = [row_activations(read.model, sae, rows, np.array([0]), latent)[0] for latent in SOME]
    assert rows.leading(0) == int((~counts).sum())
    return tuple(rows.tokens[0, counts].tolist()), np.array(values).T[counts]


SURFACES: list[Callable[[Read, SAE], tuple[tuple[int, ...], np.ndarray]]] = [
    home,
    prompt_tab,
    gradients,
    generation,
    index,
]


@pytest.mark.parametrize("said", SAID)
def test_every_surface_reads_the_same_tokens(read: Read, said: bool | None) -> None:
    sae = sae_at(HOOK, said)
    front = [] if said is False or read.kind.front is None else [read.kind.front]
    prompt = prompt_for(read.model, [sae], TEXT)
    assert list(prompt.ids) == [*front, *read.plain]
    assert (prompt.n_leading, prompt.omitted) == (len(front), 0)
    with torch.no_grad():
        plain = encode(sae, read.sites([*front, *read.plain])[HOOK])[0, len(front) :, ::5]
    assert (plain[0] > 0).any(), "the first token must tell something"
    for surface in SURFACES:
        ids, values = surface(read, sae)
        assert list(ids) == read.plain, surface.__name__
        np.testing.assert_allclose(values, plain.clamp(min=0), atol=2e-5, err_msg=surface.__name__)


@pytest.mark.parametrize("said", SAID)
def test_attribution_reads_the_same_tokens(read: Read, said: bool | None) -> None:
    sae = sae_at(HEADS, said)
    front = [] if said is False or read.kind.front is None else [read.kind.front]
    lease = PlainLease(read.model, [sae])
    text = typed_text(lease, TEXT)
    assert list(text.token_ids) == [*front, *read.plain]
    with torch.no_grad():
        plain = encode(sae, read.sites([*front, *read.plain])[HEADS])[0]
    latent = int(plain[len(front)].argmax())
    found = find_sources(lease, latent, text, 1)
    assert (found.destination, found.number) == (len(front), 1), "the text's first token"
    expected = plain[:, latent].clone()
    expected[: len(front)] = 0
    np.testing.assert_allclose(found.activations, expected, atol=2e-5)
    assert found.attribution.terms.sum() + found.attribution.bias == pytest.approx(
        float(plain[len(front), latent]), abs=1e-4
    )
    assert find_sources(lease, latent, text).destination == int(expected.argmax())
    assert find_sources(lease, latent, text, 1000).destination == int(expected.argmax())


def test_a_special_tokens_spelling_is_text(read: Read) -> None:
    tokenizer = read.model.tokenizer
    spelled = {"<|endoftext|>", tokenizer.bos_token, tokenizer.cls_token, tokenizer.eos_token}
    for token in filter(None, spelled):
        for text in (f"{token}the river", f"the {token} river {token}"):
            for said in (True, False):
                sae = sae_at(HOOK, said)
                prompt = prompt_for(read.model, [sae], text)
                rows = prompt_tokens([text], tokenizer, default_packing(read.model, sae))
                assert list(prompt.ids) == rows.tokens[0, : rows.lengths[0]].tolist()
                front = read.kind.front
                if front is not None:
                    assert list(prompt.ids).count(front) == int(said), (text, said)


def test_index_rows_are_those_of_sae_training(read: Read) -> None:
    """sae_lens' own packing with the tokenizer's BOS, where that is a token of the model."""
    sae = sae_at(HOOK, True)
    packing = default_packing(read.model, sae, context=8, layout="windows")
    rows = prompt_tokens([TEXT], read.model.tokenizer, packing).tokens
    token_set = default_packing(read.model, sae, context=8)
    documents = prompt_tokens([TEXT], read.model.tokenizer, token_set).tokens
    theirs = concat_and_batch_sequences(
        iter([torch.tensor(read.plain)]), 8, begin_batch_token_id=read.kind.front
    )
    for number, row in enumerate(theirs):
        assert row.tolist() == rows[number].tolist() == documents[number].tolist()


def test_patch_scoping_opens_once_and_closes_nothing(read: Read) -> None:
    front = [] if read.kind.front is None else [read.kind.front]
    assert scope_tokens(read.model, TEXT) == [*front, *read.plain]
    token = read.kind.front
    if token is not None:
        opened = read.model.tokenizer.convert_ids_to_tokens(token) + TEXT
        assert scope_tokens(read.model, opened) == [*front, *read.plain]


def test_both_model_classes_agree(read: Read) -> None:
    hooked = load_model(read.folder, device="cpu", backend="hooked", **NO_PROCESSING)
    for said in SAID:
        sae = sae_at(HOOK, said)
        assert prompt_for(hooked, [sae], TEXT).ids == prompt_for(read.model, [sae], TEXT).ids
    assert scope_tokens(hooked, TEXT) == scope_tokens(read.model, TEXT)


def test_a_stand_in_that_fits_a_spare_row_is_no_token(tmp_path: Path) -> None:
    """transformer_lens adds a token to tokenizers without one: its number may be in the model."""
    kind = next(it for it in KINDS if it.name == "no special token")
    model = load_model(write_model(tmp_path / "m", kind.tokenizer, spare=6), device="cpu")
    assert model.tokenizer.bos_token_id < model.cfg.d_vocab
    assert bos_id(model.tokenizer) is None
    assert prompt_for(model, [sae_at(HOOK, True)], "the river").n_leading == 0


def test_trained_through_transformers_nothing_stands_in_for_bos(tmp_path: Path) -> None:
    """There the tokenizer is as its files have it, and sae_lens prepends what it has not."""
    for name, expected in (("no bos, eos in its place", None), ("bos", 0)):
        kind = next(it for it in KINDS if it.name == name)
        model = load_model(write_model(tmp_path / name, kind.tokenizer), device="cpu")
        theirs = sae_at(HOOK, True, model_class_name="AutoModelForCausalLM")
        assert token_in_front(model, [theirs]) == expected
        assert token_in_front(model, [sae_at(HOOK, True)]) == 0


@pytest.mark.parametrize("said", SAID)
def test_gradients_hide_and_leave_out_what_stands_in_front_only(
    read: Read, said: bool | None
) -> None:
    """By default the heatmap and the fit are without BOS, and with the text's first token."""
    sae = sae_at(HOOK, said)
    front = 0 if said is False or read.kind.front is None else 1
    request = GradientRequest("tokens", "model", TEXT, None, None)
    opened = open_route(request, read.model, [sae])
    assert opened.n_leading == front
    values = torch.ones(len(opened.route.targets), len(opened.route.sources))
    matrix = gradient_matrix(
        opened.route, values, [list(prompt_texts(read.model, opened.ids).cells)]
    )
    result: Any = SimpleNamespace(
        request=request, matrix=matrix, tokens=opened.ids[0], n_leading=front
    )
    shown = matrix_to_show(result, GradientView(tab="tokens"), {})
    assert shown.sources["position"].min() == shown.targets["position"].min() == front
    there = read.sites(opened.ids[0].tolist())[HOOK][:, front:].double()
    with torch.no_grad():
        error = sae.decode(sae.encode(there.float())).double() - there
    expected = float(error.norm() / there.norm())
    assert opened.fit.relative_error == pytest.approx(expected, rel=1e-4)
    for tab, saes in (
        ("latents", [sae, sae_at("blocks.2.hook_resid_pre", said)]),
        ("logits", [sae]),
    ):
        other = open_route(GradientRequest(tab, "model", TEXT, None, None), read.model, saes)
        assert other.fit.relative_error == pytest.approx(expected, rel=1e-4)


def test_saes_that_disagree_are_refused(tiny_model: Model) -> None:
    saes = [sae_at(HOOK, True), sae_at("blocks.2.hook_resid_pre", False)]
    words = "48 latents at blocks.1.* begin with .* blocks.2.* without it, so no text suits both"
    with pytest.raises(ValueError, match=words):
        prompt_for(tiny_model, saes, TEXT)
    with pytest.raises(ValueError, match=words):
        open_route(GradientRequest("latents", "m", TEXT, None, None), tiny_model, saes)
    with pytest.raises(ValueError, match=words):
        fires_in_text(PlainLease(tiny_model, saes), TEXT)
    assert prompt_for(tiny_model, [sae_at(HOOK, True), sae_at(HOOK, None)], TEXT).n_leading == 1


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_blank_texts_are_refused(tiny_model: Model, text: str) -> None:
    with pytest.raises(ValueError, match="is empty; type a few words"):
        prompt_for(tiny_model, [], text)


def test_what_cannot_be_read_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not valid Unicode at character 2"):
        prompt_for(tiny_model, [], "ab\ud800")
    for wrong in ("no", 2, [True]):
        sae = sae_at(HOOK, True)
        sae.cfg.metadata.prepend_bos = wrong
        with pytest.raises(
            ValueError, match=r"prepend_bos of the SAE at blocks\.1.* true or false"
        ):
            prompt_for(tiny_model, [sae], TEXT)


def test_room_is_said(tiny_model: Model) -> None:
    long = TEXT * 20
    with_bos, without = (prompt_for(tiny_model, [sae_at(HOOK, it)], long) for it in (True, False))
    assert with_bos.tokens.shape == without.tokens.shape == (1, 64)
    assert with_bos.omitted == without.omitted + 1 > 0
    assert with_bos.text_ids == without.text_ids[:63]


def test_what_an_sae_was_not_trained_on_is_said(tiny_model: Model) -> None:
    def notes(**metadata: Any) -> str:
        return " ".join(reading_notes(tiny_model, sae_at(HOOK, **metadata)))

    assert notes(said=True) == notes(said=None, seqpos_slice=(None,)) == ""
    assert "without a beginning-of-text token" in notes(said=False)
    assert "positions 4 to 63 only (seqpos_slice)" in notes(said=True, seqpos_slice=(4, None))
    assert "positions 0 to 15" in notes(said=True, seqpos_slice=[0, 20], context_size=16)
    assert "tokens 7, 9 (exclude" in notes(said=True, exclude_special_tokens=[7, 9])
    assert notes(said=True, exclude_special_tokens=True) == ""


def test_tokens_that_the_model_has_no_row_for_are_refused(tmp_path: Path) -> None:
    """They were added to the tokenizer, and the model was not resized: embeddings would crash."""
    tokenizer = KINDS[0].tokenizer.__class__.from_pretrained(
        write_model(tmp_path / "model", KINDS[0].tokenizer)
    )
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(tmp_path / "model")
    model = load_model(tmp_path / "model", device="cpu", **NO_PROCESSING)
    sae, text = sae_at(HOOK, None), "the <think> river"
    number = len(tokenizer) - 1
    for read in (
        lambda: prompt_for(model, [sae], text),
        lambda: scope_tokens(model, text),
        lambda: row_activations(
            model,
            sae,
            prompt_tokens([text], model.tokenizer, default_packing(model, sae)),
            np.array([0]),
            0,
        ),
    ):
        with pytest.raises(ValueError, match=rf"token {number} \('<think>'\).*300 tokens"):
            read()
    assert prompt_for(model, [sae], "the river").n_leading == 1
