"""What the catalog lists of published releases and of a demo bundle, and how it is searched."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.catalog import Catalog, pretrained
from core.settings import Settings
from tests.sae_folders import RELEASES, user_catalog, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def catalog(bundle: Path) -> Catalog:
    return Catalog(Settings(demo_dir=bundle))


def test_every_release_is_listed_with_its_model(catalog: Catalog) -> None:
    releases = {release.release: release for release in catalog.releases()}
    assert len([release for release in releases.values() if release.source == "hub"]) == 170
    assert releases["gpt2-small-res-jb"].repo_id == "jbloom/GPT2-Small-SAEs-Reformatted"
    models = {model.name: model for model in catalog.models()}
    assert {release.model for release in releases.values()} <= set(models)
    assert models["gpt2-small"].repo_id == "gpt2"
    assert models["gemma-2b"].gated
    assert not models["gpt2-small"].gated


def test_published_entry_says_what_the_list_says(catalog: Catalog) -> None:
    entry = catalog.entry("gpt2-small-hook-z-kk", "blocks.5.hook_z")
    assert (entry.hook_name, entry.layer, entry.width) == ("blocks.5.attn.hook_z", 5, 49152)
    assert entry.neuronpedia_url == "https://www.neuronpedia.org/gpt2-small/5-att-kk"
    assert entry.conversion == "connor_rob_hook_z"
    assert entry.repo_path is not None
    assert entry.repo_path.endswith(".pt")
    res_jb = catalog.entry("gpt2-small-res-jb", "blocks.8.hook_resid_pre")
    assert res_jb.processing == (("center_writing_weights", True),)
    assert res_jb.explained_variance is not None
    # Figures that the list does not have are unknown, not 0 or 1.
    assert (
        catalog.entry("gemma-scope-2b-pt-res-canonical", "layer_20/width_16k/canonical").l0 is None
    )
    assert catalog.entry("gemma-2b-res-jb", "blocks.17.hook_resid_post").neuronpedia_id is None


@pytest.mark.slow
def test_releases_of_unknown_models_and_formats_are_listed_with_the_reason(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pretrained.model_names,
        "hub_repository",
        lambda name: None if name == "gemma-2b" else f"somebody/{name}",
    )
    monkeypatch.setattr(pretrained, "KNOWN_LOADERS", (None, "gemma_2"))
    pretrained.read_pretrained.cache_clear()
    try:
        problems = {it.release: it.problem for it in catalog.unavailable() if it.source == "hub"}
        entry = catalog.entry("gemma-2b-res-jb", "blocks.6.hook_resid_post")
        assert len(catalog.releases(hub=True)) == 173
    finally:
        pretrained.read_pretrained.cache_clear()
    assert "does not know the model 'gemma-2b'" in (problems["gemma-2b-res-jb"] or "")
    assert "'connor_rob_hook_z' is newer" in (problems["gpt2-small-hook-z-kk"] or "")
    assert "gpt2-small-res-jb" not in problems
    assert entry.problem == problems["gemma-2b-res-jb"]


def test_demo_is_listed_first_with_its_figures(catalog: Catalog) -> None:
    models = catalog.models(hub=False)
    assert [(model.name, model.title, model.source) for model in models] == [
        ("docs-small", "Docs", "demo"),
        ("docs-small-it", "docs-small-it", "demo"),
    ]
    assert catalog.models()[0].name == "docs-small"
    entry = catalog.entry("docs-small-res", "blocks.3.hook_resid_post")
    assert (entry.l0, entry.explained_variance) == (7.5, 0.9)
    assert (entry.loss_recovered, entry.dead_fraction) == (0.95, 0.1)
    assert (entry.model, entry.layer, entry.width, entry.d_in) == ("docs-small", 3, 32, 16)
    assert entry.problem is None
    assert catalog.releases(hub=False)[0].title == "Title of docs-small-res"


def test_a_tuned_model_has_the_saes_of_its_base(catalog: Catalog) -> None:
    for model in ("docs-small", "docs-small-it"):
        assert [release.release for release in catalog.releases(model)] == list(RELEASES)
    assert catalog.model("docs-small-it").base_model == "docs-small"


def test_damaged_bundle_says_how_to_rebuild(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{")
    with pytest.raises(ValueError, match="make demo"):
        user_catalog(demo=tmp_path).models(hub=False)


def test_search_wants_every_word_in_any_field(catalog: Catalog) -> None:
    found = catalog.search("gpt2-small RES-JB layer 8 24576")
    assert {entry.release for entry in found} == {
        "gpt2-small-res-jb",
        "gpt2-small-res-jb-feature-splitting",
    }
    assert all(entry.layer == 8 for entry in found)
    assert catalog.search("gpt2 zebra") == ()
    assert len(catalog.search("", model="docs-small")) == 7
    assert catalog.search("resid", hub=False)[0].source == "demo"


def test_unknown_names_are_answered_with_close_ones(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=r"'gpt2-small-res-bj'.*gpt2-small-res-jb"):
        catalog.entry("gpt2-small-res-bj", "blocks.0.hook_resid_pre")
    with pytest.raises(ValueError, match=r"no SAE 'blocks\.8\.resid'.*blocks\."):
        catalog.entry("gpt2-small-res-jb", "blocks.8.resid")
    with pytest.raises(ValueError, match=r"'docs-smal'.*docs-small"):
        catalog.model("docs-smal")


def test_models_are_found_under_any_of_their_names(catalog: Catalog) -> None:
    assert catalog.model("gpt2").name == "gpt2-small"
    assert catalog.model("google/gemma-2b").name == "gemma-2b"
    # Known to transformer_lens though no SAE is published for it.
    assert catalog.model("gpt2-xl").repo_id == "gpt2-xl"


def test_listing_local_things_imports_nothing_heavy(bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from core.catalog import Catalog;"
        "import core.device, core.engine, core.hub; from core.settings import Settings;"
        f"catalog = Catalog(Settings(demo_dir=Path({str(bundle)!r})));"
        "assert catalog.models(); assert catalog.search('gpt2'); core.device.memory_report();"
        "heavy = {'torch', 'sae_lens', 'transformer_lens', 'transformers', 'huggingface_hub'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
