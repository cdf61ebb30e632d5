"""Folders of SAEs as users and the demo have them, for the tests of the catalog and the engine."""

import json
from pathlib import Path
from typing import Any

from core.catalog import Catalog
from core.settings import Settings
from tests.builders import make_sae, write_sae

METRICS = {"l0": 7.5, "explained_variance": 0.9, "loss_recovered": 0.95, "dead_fraction": 0.1}
MODELS = {
    "docs-small": {"path": "models/docs-small", "title": "Docs", "description": "Reads docs."},
    "docs-small-it": {"path": "models/docs-small-it", "base_model": "docs-small"},
}
RELEASES = {
    name: {"model": "docs-small", "title": f"Title of {name}"}
    for name in ("docs-small-res", "docs-small-res-splitting", "docs-small-hook-z")
}


def put_sae(folder: Path, hook_name: str, *, metrics: bool = False, **options: Any) -> Path:
    """Write a standard SAE (16 numbers to 32 latents unless said otherwise) to `folder`."""
    sizes = {"d_in": 16, "d_sae": 32}
    write_sae(make_sae("standard", hook_name=hook_name, **{**sizes, **options}), folder)
    if metrics:
        (folder / "metrics.json").write_text(json.dumps(METRICS))
    return folder


def put_model(folder: Path) -> Path:
    """A folder that looks like a Hugging Face model to the catalog."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    return folder


def write_bundle(demo: Path) -> Path:
    """A tiny bundle in the layout of the demo."""
    (demo / "bundle.json").write_text(
        json.dumps({"version": 1, "models": MODELS, "releases": RELEASES})
    )
    saes = demo / "saes"
    for name in ("blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.3.hook_resid_post"):
        put_sae(saes / "docs-small-res" / name, name, metrics=True)
    for width in (64, 32, 128):
        hook = "blocks.2.hook_resid_pre"
        put_sae(saes / "docs-small-res-splitting" / f"{hook}_{width}", hook, d_sae=width)
    put_sae(saes / "docs-small-hook-z" / "blocks.1.hook_z", "blocks.1.attn.hook_z")
    return demo


def user_catalog(*folders: Path, demo: Path = Path("/nonexistent")) -> Catalog:
    """A catalog with these folders as SAE_EXPLORER_SAES."""
    return Catalog(Settings(demo_dir=demo, user_sae_dirs=folders))
