"""What a cfg.json may say: wrong entries are told where an SAE is listed and where it is loaded."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.models import Model
from core.saes import check_fits, encode, load_sae_from_disk, sae_card
from tests.builders import write_sae
from tests.sae_folders import put_sae, user_catalog
from tests.sae_kinds import HEADS, RESID, edit, of_kind

OLD = {"sae_lens_version": "4.0.0"}
WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    *(
        ("standard", f"{name} {value!r}", {name: value}, f"gives {name} as {value!r}; .* whole")
        for name in ("d_in", "d_sae")
        for value in (0, -5, 16.0, True, "16", 10**30)
    ),
    *(
        ("topk", f"k {value!r}", {"k": value}, f"gives k as {value!r}; of 32 latents")
        for value in (0, -1, 33, 10**20, 4.0, True, "4", None)
    ),
    ("topk", "no k", {"k": "-"}, "gives k as None"),
    ("standard", "old topk", {"activation_fn_str": "topk", "metadata": "-"}, "gives k as None"),
    ("standard", "topk", {"activation_fn": "topk"}, "'topk', which a standard SAE"),
    ("standard", "tanh", {"activation_fn_str": "tanh-relu"}, "function 'tanh-relu'.*takes relu"),
    ("standard", "leaky", {"activation_fn": "leaky_relu"}, "function 'leaky_relu'"),
    ("gated", "identity", {"activation_fn": "identity"}, "'identity', which a gated SAE"),
    ("topk", "signed", {"activation_fn_kwargs": {"k": 4, "signed": True}}, "is signed.*below 0"),
    ("topk", "kwargs", {"activation_fn_kwargs": [4]}, "gives activation_fn_kwargs"),
    ("standard", "thresholds", {"threshold": [0.1] * 32}, "gives a threshold.*weights only"),
    ("jumprelu", "threshold", {"threshold": 0.1}, "gives a threshold"),
    *(
        ("standard", f"dtype {value!r}", {"dtype": value}, f"gives dtype as {value!r}.*float32")
        for value in ("torch.float8", "int8", "float8_e4m3fn", "", 32, None)
    ),
    *(
        ("standard", f"norm {value!r}", {"normalize_activations": value}, "normalize_activations")
        for value in ("batch_norm", "Layer_Norm", 1, None, ["none"])
    ),
    ("standard", "reshape", {"reshape_activations": "heads"}, "reshape_activations as 'heads'"),
    ("standard", "hook_z", {"reshape_activations": "hook_z"}, "'hook_z' for the site blocks.1"),
    ("standard", "b_dec", {"apply_b_dec_to_input": "no"}, "apply_b_dec_to_input as 'no'; .* true"),
    ("topk", "rescale", {"rescale_acts_by_decoder_norm": 1}, "rescale_acts_by_decoder_norm as 1"),
    ("matching_pursuit", "rounds", {"max_iterations": 0}, "max_iterations as 0"),
    ("matching_pursuit", "residual", {"residual_threshold": "1"}, "residual_threshold as '1'"),
    ("standard", "metadata", {"metadata": ["a"]}, "gives metadata as a list"),
    ("standard", "version", {"sae_lens_version": "new"}, "sae_lens_version as 'new'"),
    ("standard", "unread", {"metadata": {"hook_name": RESID}}, "metadata but no sae_lens_version"),
    ("standard", "hook list", {"hook_name": [RESID]}, "gives hook_name as .* one site"),
    ("standard", "kwargs", {"model_from_pretrained_kwargs": [1]}, "model_from_pretrained_kwargs"),
    *(
        ("standard", f"head {value!r}", {"hook_head_index": value}, "hook_head_index as .* a head")
        for value in (-1, "3", 2.0, True)
    ),
    ("transcoder", "head", {"hook_head_index_out": 1}, "transcoder of single heads"),
    ("transcoder", "d_out", {"d_out": "-"}, "gives d_out as None"),
    (
        "standard",
        "unknown",
        {"architecture": "crosscoder"},
        "'crosscoder', which .* not been tested",
    ),
    ("standard", "list", {"architecture": ["topk"]}, "not been tested"),
    ("standard", "training", {"architecture": "matryoshka_batchtopk"}, "save_inference_model"),
    ("standard", "no kind", {"architecture": "-"}, "lacks 'architecture'"),
    ("standard", "k", {"k": 4}, "gives k as 4, which a standard SAE does not have"),
    (
        "standard",
        "old k",
        {"activation_fn_str": "topk", "k": 4, "metadata": "-"},
        "gives k as None",
    ),
    ("transcoder", "b_dec", {"apply_b_dec_to_input": True}, "as True, which a transcoder cannot"),
    *(
        ("topk", name, {name: value}, f"an entry '{name}', .* if {meant} is meant")
        for name, value, meant in (
            ("normalise_activations", "layer_norm", "normalize_activations"),
            ("normalize_activation", "layer_norm", "normalize_activations"),
            ("apply_b_dec_to_inputs", False, "apply_b_dec_to_input"),
            ("Apply-B-Dec-To-Input", False, "apply_b_dec_to_input"),
            ("rescale_act_by_decoder_norm", True, "rescale_acts_by_decoder_norm"),
            ("reshape_activation", "hook_z", "reshape_activations"),
            ("prepend_boss", False, "prepend_bos"),
        )
    ),
    ("standard", "BOS beside", {"prepend_bos": False}, "beside metadata, where sae_lens does not"),
    ("standard", "layers", {"hook_layer": 5}, f"hook_layer as 5 and the site {RESID}.*in layer 1"),
    (
        "standard",
        "old layers",
        {"hook_point_layer": 0, "metadata": "-"},
        "hook_point_layer as 0 .* in layer 1",
    ),
]


@pytest.mark.parametrize(
    ("architecture", "entries", "message"),
    [(case[0], *case[2:]) for case in WRONG],
    ids=[f"{case[0]} {case[1]}" for case in WRONG],
)
def test_a_wrong_config_is_said_where_it_is_listed_and_where_it_is_loaded(
    architecture: str, entries: dict[str, Any], message: str, tmp_path: Path
) -> None:
    sae = of_kind(architecture, d_in=16, d_sae=32, metadata={"model_name": "gpt2-small"})
    folder = write_sae(sae, tmp_path / "sae")
    if "hook_name" in entries or entries.get("metadata") == "-":
        # In the style from before version 6, everything is at the top.
        edit(folder, metadata="-", hook_name=RESID, model_name="gpt2-small", **OLD)
    else:
        (entry,) = user_catalog(folder).saes("sae")
        assert entry.problem is None
        load_sae_from_disk(folder, device="cpu")
    if "metadata" in entries and entries["metadata"] != "-":
        edit(folder, hook_name=RESID, model_name="gpt2-small")
    edit(folder, **entries)
    if meant := re.search(r"if (\w+) is meant", message):
        edit(folder, **{meant[1]: "-"})
    with pytest.raises(ValueError, match=message) as refused:
        load_sae_from_disk(folder, device="cpu")
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(folder))
    (entry,) = user_catalog(folder).saes("sae")
    if entry.problem != str(refused.value):
        # The catalog says first what is not there at all.
        assert "does not say" in (entry.problem or "")
        assert None in entries.values() or "-" in entries.values()


@pytest.mark.parametrize("device", ["mps", "cuda:7", "meta", "nowhere", 3, None])
def test_where_the_author_had_it_does_not_matter(device: object, tmp_path: Path) -> None:
    folder = put_sae(tmp_path / "sae", RESID, model_name="gpt2-small")
    edit(folder, device=device)
    (entry,) = user_catalog(folder).saes("sae")
    assert entry.problem is None
    sae = load_sae_from_disk(folder, device="cpu")
    assert str(sae.W_dec.device) == "cpu"
    assert encode(sae, torch.zeros(2, 16)).shape == (2, 32)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_in_units_of_their_own(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = put_sae(tmp_path / "sae", RESID, model_name="gpt2-small")
    weights = load_file(folder / "sae_weights.safetensors")
    weights["W_enc"] = weights["W_enc"].to(dtype)
    save_file(weights, folder / "sae_weights.safetensors")
    with pytest.raises(ValueError, match=r"stores W_enc as .*save the SAE in float32") as refused:
        load_sae_from_disk(folder, device="cpu")
    (entry,) = user_catalog(folder).saes("sae")
    assert entry.problem == str(refused.value)


def test_a_decoder_that_divides_by_zero(tmp_path: Path) -> None:
    sae = of_kind("topk", rescale_acts_by_decoder_norm=True)
    sae.W_dec.data[5] = 0
    with pytest.raises(ValueError, match=r"decoder row of latent 5 .*rescale_acts.*NaN"):
        load_sae_from_disk(write_sae(sae, tmp_path), device="cpu")


def test_heads_are_told_apart_in_the_catalog(tmp_path: Path) -> None:
    for head, width in ((0, 16), (0, 32), (1, 16), (1, 64), (None, 16)):
        name = f"{head}-{width}"
        options = {} if head is None else {"hook_head_index": head}
        put_sae(tmp_path / "saes" / name, HEADS, model_name="gpt2-small", d_sae=width, **options)
    catalog = user_catalog(tmp_path / "saes")
    entries = catalog.saes("saes")
    assert [it.head for it in entries] == [0, 0, 1, 1, None]
    assert all(it.problem is None for it in entries)
    found = [[it.sae_id for it in catalog.family_of(entry).entries] for entry in entries]
    assert found[0] == ["0-16", "0-32"]
    assert found[2] == ["1-16", "1-64"]
    assert found[4] == ["None-16"]


def test_entries_in_the_wrong_place(tmp_path: Path) -> None:
    """What sae_lens reads at the top does nothing within metadata; what is said twice alike may."""
    folder = put_sae(tmp_path / "sae", RESID, model_name="gpt2-small")
    path = folder / "cfg.json"
    config = json.loads(path.read_text())
    config["hook_name"] = config["metadata"]["hook_name"]
    config["metadata"]["d_in"] = config["d_in"]
    config["hook_layer"] = 1
    path.write_text(json.dumps(config))
    load_sae_from_disk(folder, device="cpu")
    config["metadata"]["normalize_activations"] = "layer_norm"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'layer_norm' in metadata, .* out of metadata"):
        load_sae_from_disk(folder, device="cpu")


def test_a_transcoder_says_where_it_writes(tmp_path: Path, tiny_model: Model) -> None:
    named = {"model_name": "gpt2-small", "hook_name_out": None}
    sae = of_kind("transcoder", metadata=named)
    folder = write_sae(sae, tmp_path / "sae")
    (entry,) = user_catalog(folder).saes("sae")
    assert "does not say hook_name_out" in str(entry.problem)
    with pytest.raises(ValueError, match="does not say which site it writes; add hook_name_out"):
        check_fits(sae, tiny_model)


@pytest.mark.parametrize(
    ("module", "site"),
    [
        ("model.layers.1", RESID.replace("pre", "post")),
        ("transformer.h.1", RESID.replace("pre", "post")),
        ("gpt_neox.layers.1.mlp", "blocks.1.hook_mlp_out"),
    ],
)
def test_sites_named_as_hugging_face_does(
    module: str, site: str, tmp_path: Path, tiny_model: Model
) -> None:
    folder = put_sae(tmp_path / "sae", module, model_name="gpt2-small", d_in=32)
    (entry,) = user_catalog(folder).saes("sae")
    assert "write that as hook_name, and {" in str(entry.problem)
    assert f"transformer_lens calls {site}; " in str(entry.problem)
    with pytest.raises(ValueError, match=f"transformer_lens calls {site}; write that"):
        check_fits(load_sae_from_disk(folder, device="cpu"), tiny_model)
    edit(folder, model_from_pretrained_kwargs={"center_writing_weights": False})
    path = folder / "cfg.json"
    path.write_text(path.read_text().replace(module, site))
    (entry,) = user_catalog(folder).saes("sae")
    assert entry.problem is None


@pytest.mark.parametrize(("noted", "shown"), [("low", None), (float("nan"), None), (12, 12.0)])
def test_what_a_trainer_noted_as_l0(noted: object, shown: float | None) -> None:
    assert sae_card(of_kind("standard", metadata={"l0": noted})).l0 == shown
