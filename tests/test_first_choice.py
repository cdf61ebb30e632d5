"""What a model with many releases opens on, and what releases are called."""

import pytest

from core.catalog import Catalog
from core.catalog.entries import ReleaseEntry, SaeEntry
from core.catalog.release_words import words_of_release
from core.settings import Settings
from core.view.choices import Choices, read_choices
from core.view.first_choice import first_release, first_sae
from core.view.selection import Selection, default_selection, with_model

pytestmark = pytest.mark.slow  # reading the published list takes seconds
ANYTHING = Selection("none", "none", "none")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Choices:
    """The list of the installed sae_lens alone."""
    folder = tmp_path_factory.mktemp("no-demo")
    return read_choices(Catalog(Settings(cache_dir=folder, demo_dir=folder, device="cpu")))


@pytest.mark.parametrize(
    ("model", "release", "layer", "width"),
    [
        ("gpt2-small", "gpt2-small-res-jb", 6, 24_576),
        ("gemma-2-2b", "gemma-scope-2b-pt-res-canonical", 13, 16_384),
        ("pythia-70m-deduped", "pythia-70m-deduped-res-sm", 3, None),
        ("meta-llama/Llama-3.1-8B", "llama_scope_lxr_8x", 16, 32_768),
        ("google/gemma-3-1b-pt", "gemma-scope-2-1b-pt-res", 17, 16_384),
        ("gemma-2b", "gemma-2b-res-jb", 10, 16_384),
    ],
)
def test_a_model_opens_on_the_residual_stream_of_a_middle_layer(
    published: Choices, model: str, release: str, layer: int, width: int | None
) -> None:
    chosen = with_model(published, ANYTHING, model)
    entry = published.sae(*chosen.sae)
    assert entry is not None
    assert (chosen.release, entry.layer, entry.width) == (release, layer, width)
    assert entry.kind == "sae"
    assert "resid" in (entry.hook_name or "")
    assert entry.neuronpedia_id is not None


def test_every_model_opens_and_on_the_stream_where_it_has_one(published: Choices) -> None:
    for model in published.models:
        chosen = with_model(published, ANYTHING, model.name)
        entry = published.sae(*chosen.sae)
        assert entry is not None
        every = [
            other
            for release in published.releases_for(model.name)
            for other in published.saes_for(release.release, model.name)
        ]
        has_stream = any(it.kind == "sae" and "resid" in (it.hook_name or "") for it in every)
        assert ("resid" in (entry.hook_name or "")) == has_stream, model.name
    start = default_selection(published)
    assert start is not None
    assert start == with_model(published, ANYTHING, published.models[0].name)


def test_what_is_on_this_machine_comes_first() -> None:
    local = SaeEntry("mine", "a", "gpt2", "user", hook_name="blocks.0.hook_mlp_out", layer=0)
    hub = SaeEntry("pub", "b", "gpt2", "hub", hook_name="blocks.6.hook_resid_pre", layer=6)
    releases = (ReleaseEntry("pub", "gpt2", "hub", 1), ReleaseEntry("mine", "gpt2", "user", 1))
    choices = Choices((), releases, {"mine": (local,), "pub": (hub,)}, ())
    assert first_release(choices, "gpt2").release == "mine"
    with pytest.raises(ValueError, match="there is no SAE for nothing"):
        first_release(choices, "nothing")


def test_the_middle_layer_of_the_stream_where_a_release_has_several_sites() -> None:
    def sae(layer: int, site: str) -> SaeEntry:
        hook = f"blocks.{layer}.{site}"
        return SaeEntry("mine", hook, "m", "user", hook_name=hook, layer=layer)

    mixed = [sae(layer, site) for layer in range(6) for site in ("hook_mlp_out", "hook_resid_pre")]
    assert first_sae(mixed).sae_id == "blocks.3.hook_resid_pre"
    assert first_sae([it for it in mixed if "mlp" in it.sae_id]).sae_id == "blocks.3.hook_mlp_out"


def test_releases_are_called_by_what_is_in_them(published: Choices) -> None:
    def words(release: str) -> str:
        return words_of_release(published.saes[release])

    assert words("gpt2-small-res-jb") == "residual stream · layers 0–11 · 24,576 latents"
    family = words("gpt2-small-res-jb-feature-splitting")
    assert family == "residual stream · layer 8 · a family of 8 widths"
    assert words("gpt2-small-hook-z-kk").startswith("attention heads · layers 0–11")
    assert words("gemma-scope-2b-pt-transcoders").startswith("transcoders · layers 0–25")
    assert words_of_release([]) == ""
