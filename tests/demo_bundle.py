"""A tiny demo bundle with a real (random) model, in the layout of the demo."""

import json
from pathlib import Path

from tests.builders import make_sae, write_sae, write_tiny_gpt2

D_MODEL = 32
MODELS = {
    "docs-small": {
        "path": "models/docs-small",
        "title": "Docs small",
        "description": "A small model of documentation.",
    },
    "docs-small-it": {
        "path": "models/docs-small-it",
        "title": "Docs small, tuned",
        "base_model": "docs-small",
    },
}
RELEASES = {
    "docs-small-res": {"model": "docs-small", "title": "Docs: residual stream, every layer"},
    "docs-small-res-splitting": {"model": "docs-small", "title": "Docs: one layer, several widths"},
    "docs-small-hook-z": {"model": "docs-small", "title": "Docs: attention"},
}
METRICS = {"l0": 7.53, "explained_variance": 0.912, "loss_recovered": 0.953, "dead_fraction": 0.11}


def write_demo(folder: Path) -> Path:
    """Write the bundle to `folder`, as `make demo` lays it out, and return the folder."""
    for seed, name in enumerate(MODELS):
        write_tiny_gpt2(folder / "models" / name, d_model=D_MODEL, seed=seed)
    for layer in range(3):
        hook = f"blocks.{layer}.hook_resid_pre"
        _write_sae(folder, "docs-small-res", hook, hook, d_sae=64, seed=layer)
    hook = "blocks.1.hook_resid_pre"
    for width in (32, 64, 128):
        sae_id = f"{hook}_{width}"
        _write_sae(folder, "docs-small-res-splitting", sae_id, hook, d_sae=width, seed=width)
    hook = "blocks.1.attn.hook_z"
    _write_sae(folder, "docs-small-hook-z", "blocks.1.hook_z", hook, d_sae=64, seed=7)
    bundle = {"version": 1, "models": MODELS, "releases": RELEASES}
    (folder / "bundle.json").write_text(json.dumps(bundle))
    return folder


def write_user_sae(folder: Path, *, model_name: str = "docs-small", d_sae: int = 48) -> Path:
    """One SAE of a user's, as `sae.save_model` leaves it."""
    hook = "blocks.2.hook_resid_pre"
    sae = make_sae("jumprelu", d_in=D_MODEL, d_sae=d_sae, hook_name=hook, model_name=model_name)
    return write_sae(sae, folder)


def _write_sae(
    folder: Path, release: str, sae_id: str, hook_name: str, *, d_sae: int, seed: int
) -> None:
    sae = make_sae(
        "standard",
        d_in=D_MODEL,
        d_sae=d_sae,
        hook_name=hook_name,
        model_name="docs-small",
        seed=seed,
        dataset_path="documentation of the installed packages",
        context_size=64,
    )
    path = write_sae(sae, folder / "saes" / release / sae_id)
    (path / "metrics.json").write_text(json.dumps(METRICS))
