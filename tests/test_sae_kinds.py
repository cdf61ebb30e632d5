"""Kinds of SAEs: each computes what sae_lens' own does, or is refused in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens.constants import DTYPE_MAP
from sae_lens.loading import pretrained_sae_loaders
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.activations import collect_latent_examples
from core.catalog import pretrained
from core.catalog.sae_config import DTYPES, NORMALISATIONS
from core.catalog.sae_kinds import SUPPORTED, TRAINING_ONLY, dashboard_problem
from core.models import Model
from core.saes import check_fits, encode, load_sae, load_sae_from_disk, reconstruct
from tests.builders import write_sae
from tests.gradient_references import run_hooked
from tests.sae_folders import user_catalog
from tests.sae_kinds import HEADS, RESID, edit, of_kind


def matrix() -> list[tuple[str, str, str]]:
    cases = []
    for architecture in SAE_CLASS_REGISTRY:
        for norm in ("none", "layer_norm", "constant_norm_rescale"):
            for hook_name in (RESID, HEADS):
                plain = norm == "none" and hook_name == RESID
                if plain or "transcoder" not in architecture:
                    cases.append((architecture, norm, hook_name))
    return cases


# --- Every architecture of the installed sae_lens ---


@pytest.mark.parametrize(("architecture", "norm", "hook_name"), matrix())
def test_each_kind_is_that_of_sae_lens_or_refused(
    architecture: str,
    norm: str,
    hook_name: str,
    tiny_hooked: Model,
    tiny_tokens: Tensor,
    tmp_path: Path,
) -> None:
    made = of_kind(architecture, hook_name, normalize_activations=norm)
    folder = write_sae(made, tmp_path / "sae")
    (entry,) = user_catalog(folder).saes("sae")
    if architecture not in SUPPORTED:
        with pytest.raises(ValueError, match=r"sae is an? (AbsTopK|temporal) SAE"):
            load_sae_from_disk(folder, device="cpu")
        with pytest.raises(ValueError, match=r"The SAE is an? (AbsTopK|temporal) SAE"):
            check_fits(made, tiny_hooked)
        assert f"{folder} is a" in (entry.problem or "")
        return
    assert "its config names the model" in (entry.problem or "")  # nothing else is wrong with it
    sae = load_sae_from_disk(folder, device="cpu")
    check_fits(sae, tiny_hooked)
    with torch.no_grad():
        site = run_hooked(tiny_hooked, tiny_tokens, {}, [hook_name])[0][hook_name]
        latents, output = made.encode(site), made(site)
    assert 0 < float((latents > 0).float().mean()) < 1
    assert (latents >= 0).all()
    torch.testing.assert_close(encode(sae, site), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reconstruct(sae, site), output, atol=1e-5, rtol=1e-5)
    index = collect_latent_examples(tiny_hooked, sae, tiny_tokens)
    np.testing.assert_array_equal(index.count, (latents[:, 1:] != 0).sum((0, 1)))


def test_every_architecture_is_decided_on() -> None:
    """A later sae_lens with more of them: try each out, then add it to one of the lists."""
    assert set(SAE_CLASS_REGISTRY) == {*SUPPORTED, "abstopk", "temporal"}
    assert set(SAE_TRAINING_CLASS_REGISTRY) - set(SAE_CLASS_REGISTRY) == set(TRAINING_ONLY)
    assert {it.removeprefix("torch.") for it in DTYPE_MAP} == set(DTYPES)
    for norm in NORMALISATIONS:
        of_kind("standard", normalize_activations=norm)
    with pytest.raises(ValueError, match="normalize_activations must be"):
        of_kind("standard", normalize_activations="batch_norm")


class _Signed(SAE_CLASS_REGISTRY["standard"][0]):  # type: ignore[misc]
    """An SAE of somebody's own."""


def test_saes_that_only_look_like_one_of_these(tiny_hooked: Model) -> None:
    sae = of_kind("standard")
    check_fits(sae, tiny_hooked)
    with pytest.raises(ValueError, match="is a _Signed, which computes something of its own"):
        check_fits(_Signed(sae.cfg), tiny_hooked)
    sae.activation_fn = nn.LeakyReLU()
    with pytest.raises(ValueError, match=r"LeakyReLU.*might fire below 0"):
        check_fits(sae, tiny_hooked)
    topk = of_kind("topk", k=65)
    with pytest.raises(ValueError, match="k 65 and 64 latents"):
        check_fits(topk, tiny_hooked)
    for name, (sae_class, config_class) in SAE_TRAINING_CLASS_REGISTRY.items():
        options = {"matryoshka_widths": [16, 64]} if "matryoshka" in name else {}
        metadata = SAEMetadata(hook_name=RESID, model_name="tiny-gpt2")
        training = sae_class(config_class(d_in=32, d_sae=64, metadata=metadata, **options))
        with pytest.raises(ValueError, match=r"training|AbsTopK"):
            check_fits(training, tiny_hooked)


# --- Published kinds ---


@pytest.mark.parametrize(
    ("release", "sae_id", "message"),
    [
        (
            "temporal-sae-gemma-2-2b",
            "blocks.12.hook_resid_post",
            "is a temporal SAE.*choose SAEs .*by itself",
        ),
        ("temporal-sae-llama-3.1-8b", "blocks.15.hook_resid_post", "is a temporal SAE"),
        (
            "mntss-gemma-2-2b-2.5m-clt-as-per-layer",
            "layer_3",
            "cross-layer transcoder.*Choose transcoders of single layers",
        ),
    ],
)
def test_published_kinds_that_are_refused(release: str, sae_id: str, message: str) -> None:
    published = pretrained.read_pretrained()
    entry = next(it for it in published.entries[release] if it.sae_id == sae_id)
    for problem in (entry.problem, published.releases[release].problem):
        assert problem is not None
        with pytest.raises(ValueError, match=message):
            raise ValueError(problem)
    with pytest.raises(ValueError, match=f"^{sae_id} of {release} .*{message}"):
        load_sae(release, sae_id, device="cpu")


def test_a_layer_of_a_cross_layer_transcoder_that_was_saved_again(
    tiny_hooked: Model, tmp_path: Path
) -> None:
    sae = of_kind("transcoder", metadata={"neuronpedia_id": "gemma-2-2b/3-clt-hp"})
    with pytest.raises(ValueError, match="The SAE is a layer of a cross-layer transcoder"):
        check_fits(sae, tiny_hooked)
    with pytest.raises(ValueError, match="sae is a layer of a cross-layer transcoder"):
        load_sae_from_disk(write_sae(sae, tmp_path / "sae"), device="cpu")
    own = of_kind("transcoder", metadata={"neuronpedia_id": "gemma-2-2b/3-transcoder-16k"})
    check_fits(own, tiny_hooked)


def test_no_other_published_sae_is_refused_for_its_kind() -> None:
    published = pretrained.read_pretrained()
    refused = {
        entry.release
        for entries in published.entries.values()
        for entry in entries
        if "temporal SAE" in (entry.problem or "") or "cross-layer" in (entry.problem or "")
    }
    named = {
        entry.release
        for entries in published.entries.values()
        for entry in entries
        if dashboard_problem(entry.neuronpedia_id)
    }
    assert named <= refused
    assert len(refused) == 3
    assert {"gemma-scope-2b-pt-transcoders", "gpt2-small-res-jb"} <= set(published.entries)
    assert published.releases["gemma-scope-2b-pt-transcoders"].problem is None


@pytest.fixture
def published_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files of an SAE of a hub repository come from."""

    def file_of(repo_id: str, filename: str, **_: Any) -> str:
        path = tmp_path / Path(filename).name
        if not path.is_file():
            raise pretrained_sae_loaders.EntryNotFoundError(filename)
        return str(path)

    monkeypatch.setattr(pretrained_sae_loaders, "hf_hub_download", file_of)
    return tmp_path


def test_the_config_of_a_published_sae_is_checked_too(published_folder: Path) -> None:
    write_sae(of_kind("abstopk"), published_folder)
    with pytest.raises(ValueError, match="one of someone/signed is an AbsTopK SAE"):
        load_sae("someone/signed", "one", device="cpu")
    write_sae(of_kind("topk"), published_folder)
    load_sae("someone/signed", "one", device="cpu")
    edit(published_folder, k=200)
    with pytest.raises(ValueError, match="one of someone/signed gives k as 200"):
        load_sae("someone/signed", "one", device="cpu")
    write_sae(of_kind("standard"), published_folder)
    weights = load_file(published_folder / "sae_weights.safetensors")
    weights["b_enc"][3] = torch.inf
    save_file(weights, published_folder / "sae_weights.safetensors")
    with pytest.raises(ValueError, match="b_enc in one of someone/signed holds NaN or infinity"):
        load_sae("someone/signed", "one", device="cpu")


def test_nothing_is_unpickled_where_torch_was_told_not_to_mind(
    published_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (published_folder / "trap.pt").write_bytes(b"")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ValueError, match=r"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set.*unset it"):
        load_sae("gpt2-small-hook-z-kk", "blocks.5.hook_z", device="cpu")
