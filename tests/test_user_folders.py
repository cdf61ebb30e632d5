"""Folders of SAE_EXPLORER_SAES: found as they are now, broken ones with the reason."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.sae_folders import put_model, put_sae, user_catalog, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("demo"))


def test_folder_of_saes_appears_without_a_restart(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    catalog = user_catalog(mine)
    (release,) = catalog.releases(hub=False)
    assert "holds no SAE" in (release.problem or "")
    put_sae(mine / "run" / "a", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    (entry,) = catalog.saes("mine")
    assert (entry.release, entry.sae_id, entry.model) == ("mine", "run/a", "gpt2-small")
    assert entry.problem is None
    put_sae(mine / "run" / "b", "blocks.1.hook_resid_pre", model_name="gpt2-small")
    assert [entry.sae_id for entry in catalog.saes("mine")] == ["run/a", "run/b"]
    shutil.rmtree(mine / "run" / "a")
    assert [entry.sae_id for entry in catalog.saes("mine")] == ["run/b"]


def test_saes_are_found_three_folders_down_and_deeper_ones_are_named(tmp_path: Path) -> None:
    put_sae(tmp_path / "1/2/3", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    put_sae(tmp_path / "1/2/x/4", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    catalog = user_catalog(tmp_path)
    found, deep = catalog.saes(tmp_path.name)
    assert (found.sae_id, found.problem) == ("1/2/3", None)
    assert deep.sae_id == "1/2/x/4"
    assert "lies 4 folders down and only 3 are read; move it up" in (deep.problem or "")
    assert catalog.entry(tmp_path.name, deep.sae_id).problem == deep.problem


def test_folder_can_be_one_sae(tmp_path: Path) -> None:
    folder = put_sae(tmp_path / "one", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    entry = user_catalog(folder).entry("one", "one")
    assert entry.path == folder
    assert entry.source == "user"


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = []
    for parent in ("x", "y"):
        put_sae(tmp_path / parent / "saes/a", "blocks.0.hook_resid_pre", model_name="gpt2-small")
        folders.append(tmp_path / parent / "saes")
    names = [release.release for release in user_catalog(*folders).releases(hub=False)]
    assert names == ["x/saes", "y/saes"]


def test_config_from_before_version_6_is_read(tmp_path: Path) -> None:
    folder = put_sae(tmp_path / "old/a", "blocks.4.hook_resid_pre")
    config = {
        "model_name": "gpt2-small",
        "hook_point": "blocks.4.hook_resid_pre",
        "hook_point_layer": 4,
        "d_in": 16,
        "d_sae": 32,
        "dtype": "torch.float32",
        "device": "mps",
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    (entry,) = user_catalog(tmp_path / "old").saes("old")
    assert entry.problem is None
    assert (entry.hook_name, entry.layer, entry.width) == ("blocks.4.hook_resid_pre", 4, 32)
    assert (entry.model, entry.architecture) == ("gpt2-small", "standard")


def test_model_name_may_be_a_folder(tmp_path: Path, bundle: Path) -> None:
    near = put_model(tmp_path / "mine/tiny-model")
    far = put_model(tmp_path / "elsewhere/other-model")
    saes = tmp_path / "mine"
    put_sae(saes / "a", "blocks.0.hook_resid_pre", model_name="tiny-model")
    put_sae(saes / "b", "blocks.0.hook_resid_pre", model_name=str(far))
    put_sae(saes / "c", "blocks.0.hook_resid_pre", model_name="docs-small")
    put_sae(saes / "d", "blocks.0.hook_resid_pre", model_name="never-heard-of")
    catalog = user_catalog(saes, demo=bundle)
    entries = {entry.sae_id: entry for entry in catalog.saes("mine")}
    assert entries["a"].model == str(near)
    assert entries["b"].model == str(far)
    assert entries["c"].model == "docs-small"
    assert "'never-heard-of'" in (entries["d"].problem or "")
    assert catalog.model(str(near)).path == near
    names = [model.name for model in catalog.models(hub=False)]
    assert names == ["docs-small", "docs-small-it", str(near), str(far), "never-heard-of"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "cfg.json").write_text("{nope"), "not readable JSON"),
        (lambda folder: (folder / "cfg.json").write_text("[1]"), "holds a list, not an object"),
        (lambda folder: (folder / "cfg.json").write_text("{}"), "d_in, d_sae, hook_name"),
        (lambda folder: (folder / "sae_weights.safetensors").unlink(), "is missing"),
        (lambda folder: (folder / "sae_weights.safetensors").write_bytes(b"x" * 99), "cut short"),
        (
            lambda folder: (folder / "sae_weights.safetensors").write_bytes(
                (folder / "sae_weights.safetensors").read_bytes()[:-1]
            ),
            "should have",
        ),
    ],
)
def test_broken_folder_is_listed_with_the_reason_and_recovers(
    tmp_path: Path, damage: Any, reason: str
) -> None:
    saes = tmp_path / "mine"
    folder = put_sae(saes / "a", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    put_sae(saes / "good", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    damage(folder)
    catalog = user_catalog(saes)
    broken, good = catalog.saes("mine")
    assert reason in (broken.problem or "")
    assert good.problem is None
    shutil.rmtree(folder)
    put_sae(folder, "blocks.0.hook_resid_pre", model_name="gpt2-small")
    assert catalog.entry("mine", "a").problem is None


def test_missing_user_folder_is_listed_with_the_reason(tmp_path: Path) -> None:
    (release,) = user_catalog(tmp_path / "gone").releases(hub=False)
    assert "SAE_EXPLORER_SAES" in (release.problem or "")
    assert release.n_saes == 0


def test_ids_from_links_stay_inside_the_folder(tmp_path: Path) -> None:
    put_sae(tmp_path / "mine/a", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    outside = put_sae(tmp_path / "outside", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    catalog = user_catalog(tmp_path / "mine")
    for sae_id in ("../outside", str(outside), "a/../../outside", "1/2/3/4"):
        with pytest.raises(ValueError, match=r"no SAE .*did you mean a"):
            catalog.entry("mine", sae_id)
    assert catalog.entry("mine", "a").path == tmp_path / "mine/a"


def test_version_changes_with_the_files(tmp_path: Path) -> None:
    folder = put_sae(tmp_path / "mine/a", "blocks.0.hook_resid_pre", model_name="gpt2-small")
    catalog = user_catalog(tmp_path / "mine")
    before = catalog.entry("mine", "a").version
    assert catalog.entry("mine", "a").version == before
    put_sae(folder, "blocks.0.hook_resid_pre", d_sae=64, model_name="gpt2-small")
    assert catalog.entry("mine", "a").version != before


def test_a_config_above_does_not_hide_the_saes_below(tmp_path: Path) -> None:
    """Runs leave a cfg.json of all their SAEs above them; without any below, it is told of."""
    mine = tmp_path / "mine"
    put_sae(mine / "layer.1", "blocks.1.hook_resid_pre", model_name="gpt2-small")
    put_sae(mine / "layer.2", "blocks.2.hook_resid_pre", model_name="gpt2-small")
    (mine / "cfg.json").write_text("{}")
    catalog = user_catalog(mine)
    assert [entry.sae_id for entry in catalog.saes("mine")] == ["layer.1", "layer.2"]
    for name in ("layer.1", "layer.2"):
        assert catalog.entry("mine", name).problem is None
        shutil.rmtree(mine / name)
    (alone,) = catalog.saes("mine")
    assert "does not say d_in" in (alone.problem or "")
