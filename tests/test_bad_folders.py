"""Folders that cannot be used: each is listed with its reason, and hides nothing else."""

import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.catalog import Catalog
from core.catalog.formats import Place, describe, find
from core.saes import load_sae_from_disk
from core.settings import Settings
from core.view.choices import read_choices
from tests import foreign_saes as foreign
from tests.foreign_saes import D_IN, D_SAE
from tests.sae_folders import put_sae, user_catalog, write_bundle

SITE = "blocks.0.hook_resid_pre"
VERSION = {"sae_lens_version": "6.45.1"}
DEEP = "[" * 100_000
DIGITS = "9" * 5000


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def own(folder: Path) -> Path:
    return put_sae(folder, SITE, model_name="gpt2-small")


def learned(folder: Path, **options: Any) -> Path:
    return foreign.dictionary_learning(folder, "AutoEncoder", **options).path


def sparse(folder: Path, **options: Any) -> Path:
    """`folder` is the SAE's own, named by the caller."""
    return foreign.sparsify(folder / "layers.1", **options).path


def gemma(folder: Path) -> Path:
    return foreign.gemma_scope(folder / "gemma-scope-2b-pt-res/layer_5").path


def config(name: str, **changes: object) -> Callable[[Path], object]:
    """Change entries of a JSON file; the value `...` takes one out."""

    def change(folder: Path) -> None:
        content = {**json.loads((folder / name).read_text()), **changes}
        kept = {key: value for key, value in content.items() if value is not ...}
        (folder / name).write_text(json.dumps(kept))

    return change


def trainer(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        content["trainer"].update(changes)
        (folder / "config.json").write_text(json.dumps(content))

    return change


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4198400\n"


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-300])


def as_folder(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def tensors(name: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        held = load_file(folder / name)
        edit(held)
        save_file(held, folder / name)

    return change


def pipe(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def header(content: object) -> Callable[[Path], object]:
    """Weights of 64 bytes behind this header of safetensors."""
    text = content if isinstance(content, str) else json.dumps(content)

    def change(folder: Path) -> None:
        size = len(text).to_bytes(8, "little")
        (folder / "sae_weights.safetensors").write_bytes(size + text.encode() + bytes(64))

    return change


def trap(name: str, kind: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        payload = Payload(folder / "executed")
        if kind == "plain":
            (folder / name).write_bytes(pickle.dumps(payload))
        else:
            legacy = kind == "legacy"
            torch.save({"W": payload}, folder / name, _use_new_zipfile_serialization=not legacy)

    return change


def objects(folder: Path) -> None:
    np.savez(folder / "params.npz", w_enc=np.array([Payload(folder / "executed")], dtype=object))


def bomb(folder: Path) -> None:
    with zipfile.ZipFile(folder / "ae.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
        archive.writestr("archive/data/0", bytes(50_000_000))


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def beside(name: str, data: bytes = b"x" * 64) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def emptied_but(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / name).write_bytes(b"x" * 64)

    return change


def deeper(folder: Path) -> None:
    (folder.parent / "x/y/z").mkdir(parents=True)
    shutil.move(folder, folder.parent / "x/y/z/deep")


NOT_EXECUTED = "was not executed"
CASES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], str]] = {
    # sae_lens' own
    "own: broken JSON": (own, text("cfg.json", "{nope"), "not readable JSON"),
    "own: nested without end": (own, text("cfg.json", DEEP), "nested too deeply"),
    "own: 5,000 digits": (own, text("cfg.json", f'{{"d_in": {DIGITS}}}'), "not readable JSON"),
    "own: not UTF-8": (own, beside("cfg.json", b"\xff\xfe{}"), "not UTF-8"),
    "own: a list": (own, text("cfg.json", "[1]"), "holds a list, not an object"),
    "own: a number": (own, text("cfg.json", "7"), "holds a int, not an object"),
    "own: config too large": (own, text("cfg.json", " " * 1_000_001), "a config is smaller"),
    "own: config is a folder": (own, as_folder("cfg.json"), "is a folder and should be a file"),
    "own: weights are a folder": (own, as_folder("sae_weights.safetensors"), "is a folder"),
    "own: no config": (own, gone("cfg.json"), r"has sae_weights.safetensors but no cfg.json"),
    "own: no weights": (own, gone("sae_weights.safetensors"), "is missing; save the SAE again"),
    "own: cut": (own, cut("sae_weights.safetensors"), "corrupted"),
    "own: empty weights": (own, beside("sae_weights.safetensors", b""), "cut short"),
    "own: pointer": (
        own,
        text("sae_weights.safetensors", LFS),
        "Git LFS, not the weights; run git",
    ),
    "own: web page": (own, text("sae_weights.safetensors", "<!DOCTYPE html><p>"), "is a web page"),
    "own: d_in text": (own, config("cfg.json", d_in="16"), "gives d_in as '16'"),
    "own: d_sae true": (own, config("cfg.json", d_sae=True), "gives d_sae as True"),
    "own: d_sae negative": (own, config("cfg.json", d_sae=-4), "gives d_sae as -4"),
    "own: d_sae immense": (own, config("cfg.json", d_sae=10**400), "gives d_sae as 1000"),
    "own: other d_sae": (own, config("cfg.json", d_sae=64), r"W_enc as \[16, 32\] and its config"),
    "own: unknown architecture": (own, config("cfg.json", architecture="magic"), "'magic'"),
    "own: architecture a list": (own, config("cfg.json", architecture=[["x"]]), r"\[\['x'\]\]"),
    "own: checkpoint": (own, config("cfg.json", architecture="batchtopk"), "training checkpoint"),
    "own: unknown tensor": (
        own,
        tensors("sae_weights.safetensors", lambda held: held.update(odd=torch.zeros(1))),
        r"tensors that an SAE of this kind does not have \(odd\)",
    ),
    "own: missing tensor": (
        own,
        tensors("sae_weights.safetensors", lambda held: held.pop("b_enc")),
        "lacks the tensors b_enc",
    ),
    "own: user unknown here": (
        own,
        config("cfg.json", metadata={**VERSION, "model_name": "~nosuchuser/x", "hook_name": SITE}),
        "names the model '~nosuchuser/x'",
    ),
    "own: model of 5,000 letters": (
        own,
        config("cfg.json", metadata={**VERSION, "model_name": "m" * 5000, "hook_name": SITE}),
        "gives model_name as 'mmm",
    ),
    "own: model of 290 letters": (
        own,
        config("cfg.json", metadata={**VERSION, "model_name": "m" * 290, "hook_name": SITE}),
        "names the model 'mmm",
    ),
    "own: NUL in the model": (
        own,
        config("cfg.json", metadata={**VERSION, "model_name": "a\0b", "hook_name": SITE}),
        r"gives model_name as 'a\\x00b'",
    ),
    "own: site a list": (
        own,
        config("cfg.json", metadata={**VERSION, "model_name": "gpt2", "hook_name": [SITE]}),
        "gives hook_name as",
    ),
    "own: pickle for weights": (
        own,
        lambda folder: (gone("sae_weights.safetensors")(folder), trap("sae.pt", "plain")(folder)),
        "run code.*not opened",
    ),
    # dictionary_learning
    "learned: no config": (learned, gone("config.json"), r"has ae.pt but no config.json"),
    "learned: no weights": (learned, gone("ae.pt"), "has no ae.pt; copy the weights"),
    "learned: named otherwise": (
        learned,
        lambda folder: (folder / "ae.pt").rename(folder / "ae_900.pt"),
        "it has ae_900.pt: rename",
    ),
    "learned: no trainer": (learned, text("config.json", "{}"), "has no trainer entry"),
    "learned: crosscoder": (
        learned,
        trainer(dict_class="CrossCoder"),
        "'CrossCoder', which is not",
    ),
    "learned: no size": (learned, trainer(dict_size=None), "gives dict_size as None"),
    "learned: cut": (learned, cut("ae.pt"), "cut short or corrupted|cut short"),
    "learned: empty": (learned, beside("ae.pt", b""), "cut short"),
    "learned: pickle": (learned, trap("ae.pt", "plain"), f"plain pickle and {NOT_EXECUTED}"),
    "learned: torch pickle": (learned, trap("ae.pt", "torch"), f"'posix.mkdir'.*{NOT_EXECUTED}"),
    "learned: old torch pickle": (learned, trap("ae.pt", "legacy"), NOT_EXECUTED),
    "learned: zip": (
        learned,
        lambda folder: (
            shutil.make_archive(str(folder / "ae"), "zip", folder)
            and (folder / "ae.zip").rename(folder / "ae.pt")
        ),
        "archive but not one of torch",
    ),
    "learned: bomb": (learned, bomb, "would unpack to"),
    "learned: text": (learned, text("ae.pt", "hello"), "no torch file"),
    "learned: site unknown": (
        learned,
        trainer(submodule_name="layers.1.input_layernorm"),
        "no site known here; say it as hook_name",
    ),
    "learned: other layer": (
        learned,
        trainer(submodule_name="resid_post_layer_4"),
        "of layer 1 .*no site known",
    ),
    "learned: no layer, no model": (
        learned,
        trainer(layer=None, lm_name=None),
        "does not say the model and the site",
    ),
    "learned: before a second norm": (
        learned,
        trainer(submodule_name="mlp_out_layer_1", lm_name="google/gemma-2-2b"),
        "before the norm that google/gemma-2-2b applies",
    ),
    "learned: model unknown": (learned, trainer(lm_name="me/mine"), "correct model_name in .*json"),
    "learned: sidecar broken": (
        learned,
        text("explorer.json", "{"),
        "explorer.json is not readable",
    ),
    "learned: sidecar of numbers": (
        learned,
        text("explorer.json", '{"hook_name": 5}'),
        "gives hook_name as 5",
    ),
    "learned: sidecar names no site": (
        learned,
        text("explorer.json", '{"hook_name": "layer five"}'),
        "gives hook_name as 'layer five'",
    ),
    "learned: sidecar misspelt": (
        learned,
        text("explorer.json", '{"hookname": "blocks.1.hook_resid_post"}'),
        "has an entry 'hookname', which is not known; it can hold model_name",
    ),
    "learned: sidecar of BOS": (
        learned,
        text("explorer.json", '{"prepend_bos": "no"}'),
        "gives prepend_bos as 'no'; write true or false",
    ),
    "learned: sidecar of scale": (
        learned,
        text("explorer.json", '{"normalize_activations": "covariance_whitening"}'),
        "gives normalize_activations as 'covariance_whitening'; write one of none",
    ),
    # sparsify
    "sparse: no config": (sparse, gone("cfg.json"), "has sae.safetensors but no cfg.json"),
    "sparse: no weights": (
        sparse,
        gone("sae.safetensors"),
        r"sae.safetensors is missing \(sparsify",
    ),
    "sparse: cut": (sparse, cut("sae.safetensors"), "corrupted"),
    "sparse: transcoder": (sparse, config("cfg.json", transcode=True), "TopK transcoder"),
    "sparse: skip": (sparse, config("cfg.json", skip_connection=True), "linear map of its input"),
    "sparse: signed": (sparse, config("cfg.json", signed=True), "largest latents of either sign"),
    "sparse: groupmax": (sparse, config("cfg.json", activation="groupmax"), "'groupmax', which is"),
    "sparse: k": (sparse, config("cfg.json", k=D_SAE + 1), "gives k as 49; it must be between 1"),
    "sparse: k 0": (sparse, config("cfg.json", k=0), "gives k as 0"),
    "sparse: no width": (
        sparse,
        config("cfg.json", num_latents=0, expansion_factor="x"),
        "expansion_factor as 'x'",
    ),
    "sparse: other width": (sparse, config("cfg.json", num_latents=99), r"config says \[99, 32\]"),
    "sparse: module": (
        sparse,
        lambda folder: folder.rename(folder.with_name("layers.1.input_layernorm")),
        "whose output is no site known here",
    ),
    "sparse: no model": (
        sparse,
        lambda folder: (folder.parent / "config.json").unlink(),
        r"\(sparsify\) does not say the model it was",
    ),
    # Gemma Scope
    "gemma: cut": (gemma, cut("params.npz"), "cut short or no NumPy archive"),
    "gemma: text": (gemma, text("params.npz", "x"), "cut short or no NumPy archive"),
    "gemma: objects": (gemma, objects, "holds Python objects .*was not opened"),
    "gemma: array missing": (
        gemma,
        lambda folder: np.savez(folder / "params.npz", w_enc=np.zeros((D_IN, D_SAE))),
        "lacks the tensors w_dec, b_enc",
    ),
    "gemma: array unknown": (
        gemma,
        lambda folder: np.savez(
            folder / "params.npz", **{**np.load(folder / "params.npz"), "odd": np.zeros(3)}
        ),
        r"does not have \(odd\)",
    ),
    "gemma: texts": (
        gemma,
        lambda folder: np.savez(folder / "params.npz", w_enc=np.array(["a"])),
        "holds 'w_enc' as <U1",
    ),
    "gemma: path says no layer": (
        gemma,
        lambda folder: folder.rename(folder.with_name("five")),
        "does not say the site .*keep the path as published",
    ),
    "gemma: transcoder": (
        gemma,
        lambda folder: folder.parent.rename(
            folder.parent.with_name("gemma-scope-2b-pt-transcoders")
        ),
        "is a transcoder",
    ),
    "gemma 2: architecture": (
        lambda folder: foreign.gemma_scope_2(folder, architecture="odd").path,
        lambda folder: None,
        "'odd', which is not read",
    ),
    "own: name on Neuronpedia": (
        lambda folder: put_sae(folder, SITE, model_name="gpt2-small", neuronpedia_id="../../x"),
        lambda folder: None,
        "gives neuronpedia_id as '../../x'; it must be MODEL/SOURCE",
    ),
    "own: begins with BOS, perhaps": (
        lambda folder: put_sae(folder, SITE, model_name="gpt2-small", prepend_bos="false"),
        lambda folder: None,
        "gives prepend_bos as 'false'; it must be true, false or null",
    ),
    "own: a named pipe": (own, pipe("cfg.json"), "is a pipe or device and should be a file"),
    "own: weights are a pipe": (
        own,
        pipe("sae_weights.safetensors"),
        "is a pipe or device and should be a file",
    ),
    "own: tensor before the file": (
        own,
        header({"W_dec": {"dtype": "F32", "shape": [4, 4], "data_offsets": [-64, 64]}}),
        "places a tensor outside the file",
    ),
    "own: tensor of negative size": (
        own,
        header({"W_dec": {"dtype": "F32", "shape": [-4, 4], "data_offsets": [0, 64]}}),
        "or gives one a negative size",
    ),
    "own: header nested deeply": (own, header(DEEP), "its safetensors header cannot be read"),
    "own: endless header": (
        own,
        header('{"W_dec": {"dtype": "F32", "shape": [4], "data_offsets": [0, Infinity]}}'),
        "its safetensors header cannot be read",
    ),
    "own: odd number type": (
        own,
        header({"W_dec": {"dtype": ["x"], "shape": [4, 4], "data_offsets": [0, 64]}}),
        "lacks the tensors|what its numbers stand for",
    ),
    # hook-z
    "hook-z: config broken": (
        lambda folder: foreign.hook_z(folder / "L1.pt").path.parent,
        text("L1_cfg.json", "{"),
        "L1_cfg.json is not readable JSON",
    ),
    "hook-z: pickle": (
        lambda folder: foreign.hook_z(folder / "L1.pt").path.parent,
        trap("L1.pt", "torch"),
        NOT_EXECUTED,
    ),
    "hook-z: no site": (
        lambda folder: foreign.hook_z(folder / "L1.pt", act_name=None).path.parent,
        lambda folder: None,
        r"\(hook_z\) does not say the site",
    ),
    # none of them
    "several formats": (own, lambda folder: learned(folder), "several formats .sae_lens and dict"),
    "both safetensors": (
        own,
        lambda folder: shutil.copy(folder / "sae_weights.safetensors", folder / "sae.safetensors"),
        r"several formats \(sae_lens and sparsify\)",
    ),
    "a pickle alone": (own, emptied_but("model.pt"), "holds weights .model.pt.*Pickles were not"),
    "safetensors alone": (own, emptied_but("weights.safetensors"), "in no format that is read"),
    "npz alone": (own, emptied_but("arrays.npz"), "holds weights .arrays.npz. in no format"),
    "too deep": (own, deeper, "lies 4 folders down and only 3 are read; move it up"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_folder_is_listed_and_hides_nothing(name: str, tmp_path: Path) -> None:
    make, damage, reason = CASES[name]
    (tmp_path / "demo").mkdir()
    root = tmp_path / "mine"
    own(root / "good")
    folder = make(root / "bad")
    damage(folder)
    catalog = user_catalog(root, demo=write_bundle(tmp_path / "demo"))
    entries = catalog.saes("mine")
    (broken,) = [entry for entry in entries if entry.sae_id != "good"]
    assert broken.problem is not None
    assert re.search(reason, broken.problem), broken.problem
    assert broken.problem.endswith(".")
    assert not list(tmp_path.rglob("executed"))
    choices = read_choices(catalog, hub=False)
    assert {it.name for it in choices.unavailable} == {f"mine / {broken.sae_id}"}
    assert {entry.sae_id for entry in choices.saes["mine"]} == {"good"}
    assert {"docs-small-res", "docs-small-hook-z"} <= set(choices.saes)
    assert catalog.search("docs", hub=False)
    # Names do not matter to who loads an SAE by hand.
    if broken.path is not None and not re.search(
        r"the model '|_name as|folders down", broken.problem
    ):
        with pytest.raises(ValueError):
            load_sae_from_disk(broken.path, device="cpu")
        assert not list(tmp_path.rglob("executed"))


def test_the_traps_are_live(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))  # noqa: S301 — shows it runs
    assert (tmp_path / "executed").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file_format", "damage", "reason"),
    [
        ("AutoEncoderTopK", {"k": torch.tensor(0)}, "gives k as 0"),
        ("AutoEncoderTopK", {"k": torch.tensor(D_SAE + 1)}, "gives k as 49"),
        ("AutoEncoder", {"odd": torch.zeros(2)}, r"does not have \(odd\)"),
        ("AutoEncoder", {"bias": None}, "lacks the tensors bias"),
        ("AutoEncoder", {"bias": torch.zeros(3)}, r"bias as \[3\] and its config says \[32\]"),
        ("AutoEncoder", {"bias": torch.zeros(D_IN, dtype=torch.int)}, "save floating-point"),
        ("AutoEncoder", {"bias": torch.full((D_IN,), torch.nan)}, "holds NaN or infinity"),
        ("BatchTopKSAE", {"threshold": None}, "holds no threshold"),
        ("BatchTopKSAE", {"threshold": torch.tensor(-1.0)}, "holds no threshold"),
        ("MatryoshkaBatchTopKSAE", {"threshold": torch.tensor(-1.0)}, "holds no threshold"),
        ("JumpReluAutoEncoder", {"threshold": torch.zeros(3)}, "holds no threshold"),
    ],
)
def test_impossible_weights_are_refused_on_loading(
    file_format: str, damage: dict[str, torch.Tensor | None], reason: str, tmp_path: Path
) -> None:
    folder = foreign.dictionary_learning(tmp_path / "a", file_format).path
    state = {**torch.load(folder / "ae.pt"), **damage}
    torch.save({name: it for name, it in state.items() if it is not None}, folder / "ae.pt")
    with pytest.raises(ValueError, match=reason):
        load_sae_from_disk(folder, device="cpu")


def test_metrics_of_strangers(tmp_path: Path) -> None:
    folder = own(tmp_path / "mine/a")
    for content in (f'{{"l0": {"9" * 400}}}', '{"l0": "x", "dead_fraction": NaN}', DEEP, "[]"):
        (folder / "metrics.json").write_text(content)
        (entry,) = user_catalog(tmp_path / "mine").saes("mine")
        assert (entry.problem, entry.l0, entry.dead_fraction) == (None, None, None)


def test_odd_entries_of_a_good_config(tmp_path: Path) -> None:
    folder = own(tmp_path / "mine/a")
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    odd: dict[str, Any] = {"dataset_path": {}, "context_size": "many"}
    odd["model_from_pretrained_kwargs"] = {"fold_ln": False, "device_map": {"a": []}}
    config("cfg.json", metadata={**metadata, **odd})(folder)
    (entry,) = user_catalog(tmp_path / "mine").saes("mine")
    assert (entry.problem, entry.neuronpedia_id) == (None, None)
    assert entry.processing == (("fold_ln", False),)
    assert isinstance(hash(entry), int)
    assert entry.haystack


def test_models_training_states_and_empty_folders_are_not_listed(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    foreign.sparsify(root / "run/layers.1")
    for name in ("state.pt", "optimizer_0.pt"):
        (root / "run" / name).write_bytes(b"x")
    model = root / "gpt2"
    model.mkdir()
    (root / "empty/below").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (model / name).write_text("{}")
    (root / ".hidden").mkdir()
    (root / ".hidden/x.pt").write_bytes(b"x")
    assert [entry.sae_id for entry in user_catalog(root).saes("mine")] == ["run/layers.1"]


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    own(root / "a/b")
    (root / "a/up").symlink_to(root, target_is_directory=True)
    (root / "self").symlink_to(root / "self")
    elsewhere = own(tmp_path / "elsewhere")
    (root / "linked").symlink_to(elsewhere, target_is_directory=True)
    assert [entry.sae_id for entry in user_catalog(root).saes("mine")] == ["a/b", "linked"]


def test_unreadable_folder_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions as they are for others than the superuser."""
    root = tmp_path / "mine"
    own(root / "good")
    own(root / "locked")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    good, locked = user_catalog(root).saes("mine")
    assert good.problem is None
    assert "cannot be read (Permission denied); check its permissions" in (locked.problem or "")


def test_what_nobody_foresaw_is_one_folder_s_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.catalog import formats

    def explode(path: Path) -> Any:
        raise ZeroDivisionError("odd")

    own(tmp_path / "mine/a")
    broken = formats.Format("sae_lens", "", lambda path: (path / "cfg.json",), explode, None)
    monkeypatch.setitem(formats.FORMATS, "sae_lens", broken)
    (entry,) = user_catalog(tmp_path / "mine").saes("mine")
    assert "cannot be read (ZeroDivisionError: odd)" in (entry.problem or "")
    assert describe(Place(tmp_path / "mine/a", "sae_lens")).problem == entry.problem


def test_thousands_of_folders_are_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = own(tmp_path / "mine/0")
    for number in range(1, 300):
        shutil.copytree(first, tmp_path / f"mine/{number}")
    catalog = user_catalog(tmp_path / "mine")
    assert len(catalog.saes("mine")) == 300
    parsed: list[object] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda *it, **kw: parsed.append(it) or loads(*it, **kw))
    assert len(catalog.saes("mine")) == 300
    assert not parsed
    (tmp_path / "mine/7/cfg.json").write_text("{}")
    assert sum(entry.problem is not None for entry in catalog.saes("mine")) == 1
    assert len(parsed) == 1


def test_many_folders_are_looked_at_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.catalog.scan.FEW", 3)
    first = own(tmp_path / "mine/0")
    for number in range(1, 5):
        shutil.copytree(first, tmp_path / f"mine/{number}")
    catalog = user_catalog(tmp_path / "mine")
    assert len(read_choices(catalog, hub=False).saes["mine"]) == 5
    looked: list[object] = []
    monkeypatch.setattr(
        "core.catalog.local_saes.find", lambda folder: looked.append(folder) or find(folder)
    )
    shutil.copytree(first, tmp_path / "mine/5")
    for _ in range(20):  # runs of pages
        assert len(read_choices(catalog, hub=False).saes["mine"]) == 5
        assert len(catalog.saes("mine")) == 5
    assert not looked
    assert catalog.entry("mine", "5").problem is None  # a link finds the new one at once
    scan = catalog._user_releases
    monkeypatch.setattr(scan, "_due", 0.0)
    assert len(catalog.saes("mine")) == 5
    scan.wait()
    assert len(catalog.saes("mine")) == 6
    assert len(looked) == 1


def test_folders_that_cannot_be_named(tmp_path: Path) -> None:
    """Wrong names in SAE_EXPLORER_SAES are reasons of theirs, and hide nothing else."""
    own(tmp_path / "good/a")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    names = ("~nosuchuser/x", "m" * 5000, str(loop), str(tmp_path / "good"), "/dev/null")
    settings = Settings.from_environment({"SAE_EXPLORER_SAES": os.pathsep.join(names)})
    catalog = Catalog(replace(settings, demo_dir=tmp_path / "none"))
    choices = read_choices(catalog, hub=False)
    assert set(choices.saes) == {"good"}
    assert len(choices.unavailable) == 4
    for left_out in choices.unavailable:
        assert "SAE_EXPLORER_SAES" in left_out.reason


def test_names_of_links_that_are_no_paths() -> None:
    catalog = user_catalog()
    for name in ("~nosuchuser/x", "m" * 5000, "a\0b", "\ud800"):
        with pytest.raises(ValueError, match="Unknown model"):
            catalog.model(name)


def test_find_never_raises(tmp_path: Path) -> None:
    (place,) = find(tmp_path / "gone")
    assert "cannot be read" in (place.problem or "")
