"""SAEs in files: what is loaded, what is refused, and what is never executed."""

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens.loading import pretrained_sae_loaders
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.saes import (
    SaeCard,
    encode,
    load_sae,
    load_sae_from_disk,
    reconstruct,
    sae_card,
)
from core.saes.firing_rates import read_firing_rates
from tests.builders import SAE_ARCHITECTURES, make_sae, write_sae

SITE = "blocks.1.hook_resid_pre"


@pytest.mark.parametrize("architecture", [*SAE_ARCHITECTURES, "transcoder", "skip_transcoder"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_disk_round_trip(architecture: str, dtype: str, tmp_path: Path) -> None:
    sae = make_sae(architecture, d_in=16, d_sae=32, hook_name=SITE, dtype=dtype)
    loaded = load_sae_from_disk(write_sae(sae, tmp_path / "sae"), device="cpu")
    assert type(loaded) is type(sae)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.cfg.dtype == "float32"
    for name, parameter in sae.named_parameters():
        found = dict(loaded.named_parameters())[name]
        assert found.dtype == torch.float32
        assert torch.equal(found, parameter.float())
    assert loaded.cfg.metadata.hook_name == SITE


def test_real_config_from_before_version_6(tmp_path: Path) -> None:
    """The shape of gpt2-small-res-jb's cfg.json: hook_point, no architecture, scaling_factor."""
    sae = make_sae("standard", d_in=16, d_sae=32, hook_name="blocks.8.hook_resid_pre")
    weights = {name: value.data for name, value in sae.named_parameters()}
    save_file({**weights, "scaling_factor": torch.ones(32)}, tmp_path / "sae_weights.safetensors")
    config = {
        "model_name": "gpt2-small",
        "hook_point": "blocks.8.hook_resid_pre",
        "hook_point_layer": 8,
        "hook_point_head_index": None,
        "dataset_path": "Skylion007/openwebtext",
        "context_size": 128,
        "d_in": 16,
        "d_sae": 32,
        "dtype": "torch.float32",
        "device": "mps",
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    loaded = load_sae_from_disk(tmp_path, device="cpu")
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encode(loaded, x), encode(sae, x))
    card = sae_card(loaded, release="gpt2-small-res-jb", sae_id="blocks.8.hook_resid_pre")
    assert card == (
        SaeCard(
            architecture="standard",
            model_name="gpt2-small",
            hook_name="blocks.8.hook_resid_pre",
            layer=8,
            d_in=16,
            d_sae=32,
            dtype="float32",
            dataset="Skylion007/openwebtext",
            context_size=128,
            neuronpedia_id="gpt2-small/8-res-jb",
            l0=60.0,
        )
    )


def edit_config(**entries: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "cfg.json"
        config = {**json.loads(path.read_text()), **entries}
        path.write_text(json.dumps({key: value for key, value in config.items() if value != ""}))

    return edit


def edit_weights(edit: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "sae_weights.safetensors")
        edit(weights)
        save_file(weights, folder / "sae_weights.safetensors")

    return damage


def cut(folder: Path) -> None:
    path = folder / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(folder: Path) -> None:
    path = folder / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:8] + b"#" * 50 + path.read_bytes()[58:])


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("gone", shutil.rmtree, "no folder"),
    ("no config", lambda folder: (folder / "cfg.json").unlink(), "no cfg.json.*save_model"),
    (
        "no weights",
        lambda folder: (folder / "sae_weights.safetensors").unlink(),
        "no sae_weights.safetensors",
    ),
    ("bad json", lambda folder: (folder / "cfg.json").write_text("{'a'"), "not valid JSON"),
    ("cut", cut, "corrupted"),
    ("garbled", garble, "corrupted"),
    ("empty", lambda folder: (folder / "sae_weights.safetensors").write_bytes(b""), "cut short"),
    ("architecture", edit_config(architecture="magic"), "'magic'.*standard"),
    ("no architecture", edit_config(architecture=""), "lacks 'architecture'"),
    ("training", edit_config(architecture="batchtopk"), "save_inference_model"),
    ("no d_in", edit_config(d_in=""), "d_in as None"),
    ("d_sae", edit_config(d_sae=-1), "d_sae as -1"),
    ("other d_sae", edit_config(d_sae=33), r"size mismatch for W_enc.*The file holds"),
    ("missing key", edit_weights(lambda w: w.pop("b_enc")), 'Missing key.*"b_enc"'),
    (
        "unexpected key",
        edit_weights(lambda w: w.update(other=torch.zeros(1))),
        'Unexpected key.*"other"',
    ),
    ("nan", edit_weights(lambda w: w["W_dec"].fill_(float("nan"))), "W_dec in .* NaN"),
]


@pytest.mark.parametrize(
    ("damage", "message"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE]
)
def test_damaged_folder(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = write_sae(make_sae("standard", d_in=16, d_sae=32, hook_name=SITE), tmp_path / "s")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load_sae_from_disk(folder, device="cpu")


class _Payload:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def malicious_pickles(path: Path) -> list[bytes]:
    buffer = io.BytesIO()
    torch.save({"W_enc": _Payload(path)}, buffer)
    return [buffer.getvalue(), pickle.dumps(_Payload(path))]


@pytest.mark.parametrize("kind", [0, 1], ids=["torch", "plain"])
@pytest.mark.parametrize("name", ["sae_weights.safetensors", "sae.pt", "pytorch_model.bin"])
def test_pickles_are_not_opened(name: str, kind: int, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    content = malicious_pickles(trap)[kind]
    folder = write_sae(make_sae("standard", d_in=16, d_sae=32, hook_name=SITE), tmp_path / "s")
    (folder / "sae_weights.safetensors").unlink()
    (folder / name).write_bytes(content)
    message = "safetensors" if name.endswith("safetensors") else "run code.*not opened"
    with pytest.raises(ValueError, match=message):
        load_sae_from_disk(folder, device="cpu")
    with pytest.raises(ValueError):
        load_sae_from_disk(folder / name, device="cpu")
    assert not trap.exists()
    pickle.loads(malicious_pickles(trap)[1])  # noqa: S301 — shows that the payload is live
    assert trap.exists()


def test_pickles_of_the_hub_are_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "executed"
    files = {"pt": tmp_path / "sae.pt", "json": tmp_path / "cfg.json"}
    files["pt"].write_bytes(malicious_pickles(trap)[0])
    config = {"act_size": 16, "dict_size": 32, "act_name": "blocks.5.attn.hook_z"}
    files["json"].write_text(json.dumps(config))
    monkeypatch.setattr(
        pretrained_sae_loaders,
        "hf_hub_download",
        lambda repo_id, filename, **_: str(files[filename.rsplit(".", 1)[-1]]),
    )
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights.only"):
        load_sae("gpt2-small-hook-z-kk", "blocks.5.hook_z", device="cpu")
    assert not trap.exists()


def test_published_hook_z_sae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_sae("standard", d_in=16, d_sae=32, hook_name="blocks.5.attn.hook_z")
    files = {"pt": tmp_path / "sae.pt", "json": tmp_path / "cfg.json"}
    torch.save({name: value.data for name, value in made.named_parameters()}, files["pt"])
    config = {"act_size": 16, "dict_size": 32, "act_name": "blocks.5.attn.hook_z"}
    files["json"].write_text(json.dumps(config))
    monkeypatch.setattr(
        pretrained_sae_loaders,
        "hf_hub_download",
        lambda repo_id, filename, **_: str(files[filename.rsplit(".", 1)[-1]]),
    )
    sae = load_sae("gpt2-small-hook-z-kk", "blocks.5.hook_z", device="cpu")
    assert not any(parameter.requires_grad for parameter in sae.parameters())
    heads = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(reconstruct(sae, heads), reconstruct(made, heads))
    card = sae_card(sae, release="gpt2-small-hook-z-kk", sae_id="blocks.5.hook_z")
    assert (card.layer, card.neuronpedia_id) == (5, "gpt2-small/5-att-kk")


@pytest.mark.parametrize(
    ("release", "sae_id", "message"),
    [
        ("gpt2-small-res-jbb", "x", "no release 'gpt2-small-res-jbb'.*gpt2-small-res-jb"),
        (
            "gpt2-small-res-jb",
            "blocks.8.hook_resid_post",
            "Among its 13: .*blocks.8.hook_resid_pre",
        ),
    ],
)
def test_unknown_release_or_id(release: str, sae_id: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_sae(release, sae_id, device="cpu")


def test_offline_hub_error_passes_through() -> None:
    with pytest.raises(OSError):
        load_sae("gpt2-small-res-jb", "blocks.8.hook_resid_pre", device="cpu")


def test_write_sae_with_sparsity(tmp_path: Path) -> None:
    sae = make_sae("standard", d_in=16, d_sae=32, hook_name=SITE)
    sparsity = torch.linspace(-6, -1, 32)
    folder = write_sae(sae, tmp_path / "sae", sparsity=sparsity)
    assert torch.equal(load_file(folder / "sparsity.safetensors")["sparsity"], sparsity)
    assert sae_card(sae).l0 is None
    expected = sum(10 ** float(log_rate) for log_rate in sparsity)
    assert sae_card(sae, folder=folder).l0 == pytest.approx(expected)
    assert {path.name for path in folder.iterdir()} == {
        "cfg.json",
        "sae_weights.safetensors",
        "sparsity.safetensors",
    }


def test_firing_rates_beside_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "sparsity.safetensors"
    assert read_firing_rates(path) is None
    rates = torch.tensor([0.0, 1e-6, 0.25, 1.0], dtype=torch.float64)
    save_file({"sparsity": (rates + 1e-10).log10().float()}, path)
    found = read_firing_rates(path, 4)
    assert found is not None
    np.testing.assert_allclose(found, rates, rtol=1e-4)
    assert found[0] == 0
    assert read_firing_rates(path, 5) is None, "of another SAE"
    for damaged in ({"other": rates}, {"sparsity": rates[None]}, {"sparsity": rates / 0}):
        save_file(damaged, path)
        assert read_firing_rates(path) is None
    path.write_bytes(path.read_bytes()[:20])
    assert read_firing_rates(path) is None
