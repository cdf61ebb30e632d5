"""Write the demo folder: fp16 models in Hugging Face form, SAEs in sae_lens form, bundle.json."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import GPT2LMHeadModel

from make_demo.text import hugging_face_tokenizer

BUNDLE = {
    "version": 1,
    "models": {
        "docs-small": {
            "path": "models/docs-small",
            "title": "docs-small",
            "description": "4-layer GPT-2-style model of Python documentation, made for this demo",
        },
        "docs-small-it": {
            "path": "models/docs-small-it",
            "base_model": "docs-small",
            "title": "docs-small-it",
            "description": "docs-small tuned to say what a word, or a vector in its place, means",
        },
    },
    "releases": {
        "docs-small-res": {"model": "docs-small", "title": "Residual stream, one SAE a layer"},
        "docs-small-res-splitting": {
            "model": "docs-small",
            "title": "Feature splitting: seven widths at one site",
        },
        "docs-small-hook-z": {"model": "docs-small", "title": "Attention outputs, one SAE a layer"},
    },
}


def save_model(model: GPT2LMHeadModel, tokenizer_json: Path, folder: Path, *, chat: bool) -> None:
    """config.json with `n_ctx`, model.safetensors in fp16, tokenizer files."""
    context = model.config.n_positions
    model.half().save_pretrained(folder)
    model.float()
    tokenizer = hugging_face_tokenizer(tokenizer_json, context=context, chat=chat)
    tokenizer.save_pretrained(folder)


def copy_sae(source: Path, target: Path, metrics: dict[str, Any]) -> None:
    """The SAE's two files and its measured figures."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("cfg.json", "sae_weights.safetensors"):
        shutil.copyfile(source / name, target / name)
    (target / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")


def write_index(folder: Path) -> None:
    """bundle.json, which the catalog reads."""
    (folder / "bundle.json").write_text(json.dumps(BUNDLE, indent=1) + "\n")


def size_in_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
