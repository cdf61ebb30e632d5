"""Links to selections and back, and what the menus offer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from core.catalog import Catalog
from core.settings import Settings
from core.view.choices import Choices, LatestChoices, read_choices
from core.view.contrast import token_shade
from core.view.markup import escape_markdown, exact_markdown, shaded_tokens, visible_token
from core.view.selection import (
    Selection,
    default_selection,
    needs_published_list,
    parse_latent,
    parse_link,
    to_parameters,
    with_model,
    with_release,
    with_sae,
)
from tests.sae_folders import put_sae, write_bundle

MIDDLE = Selection("docs-small", "docs-small-res", "blocks.1.hook_resid_pre")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    root = tmp_path_factory.mktemp("selection")
    (root / "demo").mkdir()
    write_bundle(root / "demo")
    put_sae(root / "mine/good", "blocks.0.hook_resid_pre", model_name="docs-small")
    put_sae(root / "mine/bad", "blocks.0.hook_resid_pre", model_name="docs-small")
    (root / "mine/bad/sae_weights.safetensors").write_bytes(b"broken")
    return Catalog(Settings(demo_dir=root / "demo", user_sae_dirs=(root / "mine",)))


@pytest.fixture(scope="module")
def choices(catalog: Catalog) -> Choices:
    return read_choices(catalog)


def test_default_is_the_middle_layer_of_the_demo(choices: Choices) -> None:
    assert default_selection(choices) == MIDDLE


def test_runs_of_a_moment_share_a_reading_and_later_ones_see_new_folders(tmp_path: Path) -> None:
    now = [100.0]
    (tmp_path / "demo").mkdir()
    write_bundle(tmp_path / "demo")
    put_sae(tmp_path / "mine/one", "blocks.0.hook_resid_pre", model_name="docs-small")
    catalog = Catalog(Settings(demo_dir=tmp_path / "demo", user_sae_dirs=(tmp_path / "mine",)))
    latest = LatestChoices(catalog, seconds=1.0, clock=lambda: now[0])
    with ThreadPoolExecutor(8) as threads:
        shared = [it.result() for it in [threads.submit(latest, hub=False) for _ in range(16)]]
    assert all(it is shared[0] for it in shared)
    assert shared[0] == read_choices(catalog, hub=False)
    assert latest(hub=True) is not shared[0], "what the hub has is another reading"
    put_sae(tmp_path / "mine/two", "blocks.0.hook_resid_pre", model_name="docs-small")
    now[0] += 0.9
    assert [entry.sae_id for entry in latest(hub=False).saes["mine"]] == ["one"]
    now[0] += 0.2
    assert {entry.sae_id for entry in latest(hub=False).saes["mine"]} == {"one", "two"}


def test_every_selection_survives_its_link(catalog: Catalog, choices: Choices) -> None:
    for release in ("docs-small-res", "docs-small-hook-z", "mine", "gpt2-small-res-jb"):
        for entry in choices.saes[release][:3]:
            selection = Selection(entry.model, *entry.key, latent=17)
            link = parse_link(to_parameters(selection), catalog, choices)
            assert link.selection == selection
            assert link.problems == ()


@pytest.mark.parametrize(
    ("parameters", "model"),
    [
        ({}, "docs-small"),
        ({"latent": "31"}, "docs-small"),
        ({"model": "docs-small-it"}, "docs-small-it"),
        ({"release": "docs-small-hook-z"}, "docs-small"),
        ({"sae": "blocks.3.hook_resid_post"}, "docs-small"),
        ({"model": "gpt2", "release": "gpt2-small-res-jb"}, "gpt2-small"),
        ({"release": "gemma-2b-res-jb"}, "gemma-2b"),
    ],
)
def test_missing_parameters_get_a_default(
    catalog: Catalog, choices: Choices, parameters: dict[str, str], model: str
) -> None:
    link = parse_link(parameters, catalog, choices)
    assert link.problems == ()
    assert link.selection is not None
    shown = to_parameters(link.selection)
    assert shown == {**shown, **parameters, "model": model}


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"model": "docs-smal"}, "Unknown model 'docs-smal'; did you mean docs-small"),
        ({"release": "docs-res"}, "Unknown release 'docs-res'; did you mean docs-small-res"),
        ({"sae": "blocks.9.x"}, "no SAE 'blocks.9.x'; did you mean blocks"),
        ({"release": "mine", "sae": "bad"}, "sae_weights.safetensors"),
        (
            {"model": "gpt2-small", "release": "docs-small-res"},
            "trained on docs-small, not on gpt2",
        ),
        ({"latent": "32"}, "'32' is not a latent of this SAE; choose a number from 0 to 31."),
        ({"latent": "-1"}, "from 0 to 31"),
        ({"latent": "1e3"}, "from 0 to 31"),
        ({"latent": "٣"}, "from 0 to 31"),
        ({"latent": "9" * 5000}, "from 0 to 31"),
        ({"release": "../../etc", "sae": "passwd"}, "Unknown release"),
        ({"release": "mine", "sae": "../../demo"}, "no SAE"),
    ],
)
def test_bad_values_are_said_and_replaced(
    catalog: Catalog, choices: Choices, parameters: dict[str, str], sentence: str
) -> None:
    link = parse_link({"latent": "3", **parameters}, catalog, choices)
    assert len(link.problems) == 1
    assert sentence in link.problems[0]
    assert len(link.problems[0]) < 500
    assert link.selection is not None
    assert choices.sae(*link.selection.sae) is not None
    assert link.selection.latent == 0


def test_only_what_can_be_loaded_is_offered(choices: Choices) -> None:
    assert [entry.sae_id for entry in choices.saes["mine"]] == ["good"]
    assert [it.name for it in choices.unavailable if "mine" in it.name] == ["mine / bad"]
    assert [model.name for model in choices.models[:2]] == ["docs-small", "docs-small-it"]
    assert len(choices.models) > 30
    layers = [entry.layer for entry in choices.saes["gpt2-small-res-jb"]]
    assert layers == sorted(layers, key=lambda layer: layer or 0)


def test_changing_one_choice_keeps_what_still_fits(choices: Choices) -> None:
    start = Selection("docs-small", "docs-small-res", "blocks.0.hook_resid_pre", latent=31)
    assert with_model(choices, start, "docs-small-it").sae == start.sae
    moved = with_model(choices, start, "gpt2-small")
    assert (moved.model, choices.saes[moved.release][0].model) == ("gpt2-small", "gpt2-small")
    # Not the layer of the other model's SAE, but a middle one.
    assert moved.sae == ("gpt2-small-res-jb", "blocks.6.hook_resid_pre")
    assert with_release(choices, start, "mine").sae_id == "good"
    wide = replace(with_release(choices, start, "docs-small-res-splitting"), latent=99)
    assert with_sae(choices, wide, "blocks.2.hook_resid_pre_128").latent == 99
    assert with_sae(choices, wide, "blocks.2.hook_resid_pre_64").latent == 0
    with pytest.raises(ValueError, match="no SAE for nothing"):
        with_model(choices, start, "nothing")


def test_local_links_do_not_wait_for_the_published_list(catalog: Catalog) -> None:
    local = read_choices(catalog, hub=False)
    assert not needs_published_list({}, local)
    assert not needs_published_list(to_parameters(MIDDLE), local)
    assert needs_published_list({"model": "gpt2-small"}, local)
    assert needs_published_list({"release": "gpt2-small-res-jb"}, local)
    assert needs_published_list({}, Choices((), (), {}, ()))


def test_unknown_width_allows_any_number() -> None:
    assert parse_latent("123456", width=None) == 123456
    with pytest.raises(ValueError, match="from 0 up"):
        parse_latent("99999999999", width=None)


def test_markup_of_others_has_no_effect() -> None:
    link = "![x](http://evil.example/p.png) <b>SAE_EXPLORER_SAES</b> _it_ $x$ `c`"
    escaped = escape_markdown(link)
    assert "\\!\\[x\\](http" in escaped
    assert "SAE_EXPLORER_SAES" in escaped
    assert "\\_it\\_" in escaped
    assert exact_markdown(":a:").replace("\u2060", "") == "\\:a\\:"
    assert visible_token(" a\n\x00日") == "␣a↵\\x00日"
    assert visible_token(" the\n") == "␣the↵"


def test_shades_follow_the_activations() -> None:
    shaded = shaded_tokens([" a", "b\n", "<c>"], [0.0, 2.0, 1.0])
    assert shaded.count("background") == 2
    assert f'background="{token_shade(1.0, dark=False).background}"' in shaded
    assert f'background="{token_shade(0.5, dark=False).background}"' in shaded
    assert "<c" not in shaded
    assert "background" not in shaded_tokens(["a"], [0.0])
