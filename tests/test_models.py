"""Loading models, and what is said when something is wrong."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from sae_lens import SAE, HookedSAETransformer
from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge
from torch import Tensor
from transformers import AutoTokenizer

from core import models
from core.models import (
    DEFAULT_PROCESSING,
    NO_PROCESSING,
    Model,
    context_length,
    load_model,
    processing_for_sae,
    run_with_replacements,
)
from tests.builders import make_sae, train_tiny_tokenizer, write_tiny_gpt2

SITE = "blocks.1.hook_resid_pre"


@pytest.fixture
def folder(tiny_gpt2_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder, to be damaged."""
    return Path(shutil.copytree(tiny_gpt2_dir, tmp_path / "model"))


def edit_config(folder: Path, **entries: object) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **entries}
    path.write_text(json.dumps({name: value for name, value in config.items() if value != "gone"}))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_loaded_model_is_ready(any_model: Model, tiny_tokens: Tensor) -> None:
    assert isinstance(any_model, SAETransformerBridge | HookedSAETransformer)
    assert not any_model.training
    assert not any(module.training for module in any_model.modules())
    assert not any(parameter.requires_grad for parameter in any_model.parameters())
    logits = any_model(tiny_tokens)
    assert not logits.requires_grad
    assert logits.dtype == torch.float32
    assert any_model.W_U.shape == (32, 300)
    assert context_length(any_model) == 64


def test_auto_backend_is_the_bridge(tiny_model: Model, tiny_gpt2_dir: Path) -> None:
    assert isinstance(load_model(tiny_gpt2_dir), SAETransformerBridge)
    assert isinstance(load_model(str(tiny_gpt2_dir), backend="hooked"), HookedSAETransformer)


def test_tokenizer(any_model: Model, tiny_gpt2_dir: Path) -> None:
    text = "The Eiffel tower<end_of_turn>, naïve 🙂"
    expected = AutoTokenizer.from_pretrained(tiny_gpt2_dir)(text)["input_ids"]
    assert any_model.to_tokens(text)[0].tolist() == [0, *expected]
    assert any_model.to_tokens(text, prepend_bos=False)[0].tolist() == expected
    strings = any_model.to_str_tokens(text)
    assert strings[0] == "<|endoftext|>"
    assert "<end_of_turn>" in strings
    assert any_model.to_string(any_model.to_tokens(text)[0, 1:]) == text


def test_default_prepend_bos(tiny_gpt2_dir: Path) -> None:
    model = load_model(tiny_gpt2_dir, device="cpu", default_prepend_bos=False)
    assert model.to_tokens("a b")[0, 0] != 0
    assert model.to_tokens("a b", prepend_bos=True)[0, 0] == 0


def test_generate_is_greedy_and_keeps_the_prompt(any_model: Model) -> None:
    text = any_model.generate("The Eiffel", max_new_tokens=4, do_sample=False, verbose=False)
    assert text.startswith("The Eiffel")


def test_bfloat16(tiny_gpt2_dir: Path, tiny_tokens: Tensor) -> None:
    model = load_model(tiny_gpt2_dir, device="cpu", dtype="bfloat16")
    assert model(tiny_tokens).dtype == torch.bfloat16
    new = torch.zeros(2, 9, 32, dtype=torch.float32)
    assert run_with_replacements(model, tiny_tokens, {SITE: new}).dtype == torch.bfloat16


def test_old_config_without_n_ctx(folder: Path, tiny_model: Model, tiny_tokens: Tensor) -> None:
    edit_config(folder, n_ctx="gone")
    before = snapshot(folder)
    for backend in ("bridge", "hooked"):
        model = load_model(folder, device="cpu", backend=backend)
        assert context_length(model) == 64
        torch.testing.assert_close(model(tiny_tokens), tiny_model(tiny_tokens), atol=1e-4, rtol=0)
    assert snapshot(folder) == before


def test_folder_whose_name_says_another_architecture(
    tiny_gpt2_dir: Path, tiny_model: Model, tiny_tokens: Tensor, tmp_path: Path
) -> None:
    # transformer_lens guesses the architecture from such names, which must not matter here.
    folder = Path(shutil.copytree(tiny_gpt2_dir, tmp_path / "llama-gemma-2-9b"))
    for backend in ("bridge", "hooked"):
        model = load_model(folder, device="cpu", backend=backend)
        torch.testing.assert_close(model(tiny_tokens), tiny_model(tiny_tokens), atol=1e-4, rtol=0)


def test_sharded_weights(
    tiny_gpt2_dir: Path, tiny_model: Model, tiny_tokens: Tensor, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder = Path(shutil.copytree(tiny_gpt2_dir, tmp_path / "sharded"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    loaded = load_model(folder, device="cpu")
    torch.testing.assert_close(loaded(tiny_tokens), tiny_model(tiny_tokens), atol=1e-5, rtol=0)
    shards[1].unlink()
    with pytest.raises(ValueError, match=shards[1].name):
        load_model(folder, device="cpu")


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (remove("config.json"), "no config.json.*save_pretrained"),
    (lambda folder: (folder / "config.json").write_text("{") and None, "not valid JSON"),
    (lambda folder: (folder / "config.json").write_text("[]") and None, "no JSON object"),
    (lambda folder: edit_config(folder, model_type="gone"), "model_type"),
    (remove("model.safetensors"), r"no weights \(model.safetensors\)"),
    (only_pickle, r"pytorch_model.bin.*run code.*save_pretrained"),
    (cut_weights, "corrupted"),
    (remove("tokenizer.json", "tokenizer_config.json"), "no tokenizer.*save_pretrained"),
    (
        lambda folder: edit_config(folder, model_type="vit", architectures=["ViTForNothing"]),
        "does not support the architecture",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
def test_damaged_folder(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt2-smal", "no model 'gpt2-smal'.*gpt2-small"),
        ("completely-unheard-of-0", "owner/name"),
        ("/nowhere/model", "no folder /nowhere/model"),
        ("./nowhere", "no folder"),
        (Path("nowhere"), "no folder"),
    ],
)
def test_unknown_name(name: str | Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(name, device="cpu")


@pytest.mark.parametrize("name", ["gpt2-small", "someone/something"])
def test_hub_errors_pass_through(name: str) -> None:
    # The tests are offline, so the hub cannot be asked: transformers wraps what the hub raised.
    with pytest.raises(OSError) as caught:
        load_model(name, device="cpu")
    chain, error = [], caught.value
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    assert any(isinstance(link, LocalEntryNotFoundError | HfHubHTTPError) for link in chain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold_layer_norm": True}, "fold_layer_norm.*fold_ln"),
        ({"dtype": "float8"}, "float8.*bfloat16"),
        ({"dtype": torch.int8}, "int8"),
        ({"device": "tpu"}, "tpu"),
        ({"backend": "hook"}, "hook.*bridge"),
    ],
)
def test_bad_options(tiny_gpt2_dir: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(tiny_gpt2_dir, **options)


def test_falls_back_when_the_bridge_cannot_process(
    tiny_gpt2_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(models, "_load_bridge", lambda *args, **kwargs: None)
    with caplog.at_level(logging.WARNING, logger="core.models"):
        assert isinstance(load_model(tiny_gpt2_dir, device="cpu"), HookedSAETransformer)
    assert "No bridge for" in caplog.text
    with pytest.raises(ValueError, match="backend='auto'"):
        load_model(tiny_gpt2_dir, device="cpu", backend="bridge")


@pytest.mark.filterwarnings("ignore:\\s*This SAE has non-empty")
def test_processing_for_sae() -> None:
    def flags(**metadata: object) -> dict[str, bool]:
        sae: SAE = make_sae("standard", d_in=8, d_sae=16, hook_name=SITE, **metadata)
        return processing_for_sae(sae)

    assert flags() == DEFAULT_PROCESSING
    assert flags(model_from_pretrained_kwargs=None) == DEFAULT_PROCESSING
    changed = flags(model_from_pretrained_kwargs={"center_writing_weights": False, "n_devices": 2})
    assert changed == {**DEFAULT_PROCESSING, "center_writing_weights": False}
    assert flags(model_from_pretrained_kwargs={"no_processing": True}) == NO_PROCESSING


def test_builders_are_deterministic_and_seeded(tmp_path: Path) -> None:
    first, again, other = (
        snapshot(write_tiny_gpt2(tmp_path / name, seed=seed))
        for name, seed in [("a", 0), ("b", 0), ("c", 1)]
    )
    assert first == again
    assert first["model.safetensors"] != other["model.safetensors"]
    assert json.loads(first["config.json"])["n_ctx"] == 64
    tokenizer = train_tiny_tokenizer(300)
    assert len(tokenizer) == 300
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0
