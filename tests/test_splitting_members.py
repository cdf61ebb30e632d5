"""Which SAEs share a map, which are on it at first, and the memory of recent maps."""

from dataclasses import replace

import pytest

from core.catalog import Catalog
from core.jobs.recent import Recent
from core.settings import Settings
from core.splitting.members import (
    families_elsewhere,
    family_labels,
    first_labels,
    members_of,
)
from core.view.choices import Choices, read_choices
from core.view.selection import Selection
from tests.demo_bundle import write_demo, write_user_sae

HOOK = "blocks.1.hook_resid_pre"


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Choices:
    folder = tmp_path_factory.mktemp("members")
    write_user_sae(folder / "mine" / "one")
    settings = Settings(demo_dir=write_demo(folder / "demo"), user_sae_dirs=(folder / "mine",))
    return read_choices(Catalog(settings), hub=False)


def _at(choices: Choices, release: str, sae_id: str):
    entry = choices.sae(release, sae_id)
    assert entry is not None
    return Selection("docs-small", release, sae_id), entry


def test_all_saes_of_the_site_are_members_narrowest_first(choices: Choices) -> None:
    members = members_of(choices, *_at(choices, "docs-small-res", HOOK))
    assert [member.label for member in members] == [
        f"{HOOK}_32",
        HOOK,
        f"{HOOK}_64",
        f"{HOOK}_128",
    ]
    assert members[0].title.startswith("32 latents")


def test_the_family_is_shown_and_the_selected_one_if_it_belongs_to_it(choices: Choices) -> None:
    selection, entry = _at(choices, "docs-small-res", HOOK)
    members = members_of(choices, selection, entry)
    family = tuple(f"{HOOK}_{width}" for width in (32, 64, 128))
    assert family_labels(members, entry) == family
    assert first_labels(members, entry) == (family[0], family[2])  # 1 and 4 times the narrowest
    _, middle = _at(choices, "docs-small-res-splitting", family[1])
    assert first_labels(members, middle) == family


def test_an_sae_alone_at_its_site_is_shown_alone(choices: Choices) -> None:
    selection, entry = _at(choices, "docs-small-hook-z", "blocks.1.hook_z")
    members = members_of(choices, selection, entry)
    assert [member.label for member in members] == ["blocks.1.hook_z"]
    assert first_labels(members, entry) == ("blocks.1.hook_z",)


def test_an_sae_alone_at_its_site_is_told_where_a_family_is(choices: Choices) -> None:
    selection, entry = _at(choices, "docs-small-hook-z", "blocks.1.hook_z")
    (family,) = families_elsewhere(choices, selection, entry)
    assert family.hook_name == HOOK
    assert family.widths == (32, 64, 128)
    # Not where the family itself is read.
    assert families_elsewhere(choices, *_at(choices, "docs-small-res", HOOK)) == ()
    # The nearest layer first.
    moved = tuple(
        replace(
            other,
            release="far",
            hook_name="blocks.9.hook_resid_pre",
            layer=9,
        )
        for other in family.entries
    )
    more = replace(choices, saes={**choices.saes, "far": moved})
    found = families_elsewhere(more, selection, entry)
    assert [it.hook_name for it in found] == [HOOK, "blocks.9.hook_resid_pre"]


def test_equal_ids_of_two_releases_are_told_apart(choices: Choices) -> None:
    selection, entry = _at(choices, "docs-small-res", HOOK)
    other = replace(entry, release="another")
    both = replace(choices, saes={**choices.saes, "another": (other,)})
    labels = [member.label for member in members_of(both, selection, entry)]
    assert f"docs-small-res/{HOOK}" in labels
    assert f"another/{HOOK}" in labels
    assert len(set(labels)) == len(labels)


def test_recent_keeps_what_was_used_last_of_each_kind() -> None:
    recent = Recent(2)
    recent.put("map:a", 1)
    recent.put("map:b", 2)
    recent.put("index:a", 10)
    assert recent.get("map:a") == 1
    recent.put("map:c", 3)
    assert [recent.get(f"map:{name}") for name in "abc"] == [1, None, 3]
    assert recent.get("index:a") == 10
