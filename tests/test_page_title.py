"""What the browser's tab calls a view."""

from dataclasses import replace

import pytest

from core.catalog.entries import SaeEntry
from core.view.page_title import page_title
from core.view.selection import Selection

SELECTION = Selection("docs-small", "r", "blocks.2.hook_resid_pre_1024", latent=420)
ENTRY = SaeEntry(
    release="r",
    sae_id=SELECTION.sae_id,
    source="demo",
    model="docs-small",
    kind="sae",
    hook_name="blocks.2.hook_resid_pre",
)


@pytest.mark.parametrize(
    ("hook_name", "place"),
    [
        ("blocks.2.hook_resid_pre", "blocks.2"),
        ("blocks.11.hook_resid_post", "blocks.11"),
        ("blocks.0.attn.hook_z", "blocks.0.attn.z"),
        ("blocks.0.hook_mlp_out", "blocks.0.mlp_out"),
        (None, "blocks.2.hook_resid_pre_1024"),
    ],
)
def test_the_place_is_short_and_tells_sites_apart(hook_name: str | None, place: str) -> None:
    entry = replace(ENTRY, hook_name=hook_name)
    assert page_title("Latent 420", SELECTION, entry) == f"Latent 420 · {place} · docs-small"


def test_the_latent_is_named_once_and_not_where_it_does_not_matter() -> None:
    assert page_title("Latent 420 · Browse", SELECTION, ENTRY).count("420") == 1
    assert page_title("Steering", SELECTION, ENTRY).startswith("Steering · Latent 420 · blocks.2")
    assert "420" not in page_title("Autointerp", SELECTION, ENTRY, about_latent=False)
    assert page_title("Steering", None, None) == "Steering"
