"""Is this folder a model that can be loaded safely? Answered before anything is loaded."""

import json
from pathlib import Path
from typing import Any

from core.weight_files import safetensors_problem

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; ValueError when it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # numbers and nesting without end among them
        raise ValueError(f"{path} is not valid JSON: {error}. Copy it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; copy it again.")
    return content


def pickle_files(folder: Path) -> list[str]:
    """Names of the files in `folder` that look like pickles, which can run code when loaded."""
    return sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))


def check_model_folder(folder: Path) -> None:
    """Raise ValueError, saying what to do, unless `folder` can be loaded as a model.

    Needed are config.json, weights as safetensors (whole, every shard there) and a tokenizer.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(
            f"{folder} has no config.json; give the folder that the model's save_pretrained wrote."
        )
    if not isinstance(read_json_object(config).get("model_type"), str):
        raise ValueError(f"{config} names no model_type; it is not a Hugging Face model config.")
    for path in _weight_files(folder):
        problem = safetensors_problem(path)
        if problem:
            raise ValueError(f"{problem} Copy or download the weights again.")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ValueError(
            f"{folder} has no tokenizer (tokenizer.json); save it there with "
            "tokenizer.save_pretrained(folder)."
        )


def _weight_files(folder: Path) -> list[Path]:
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        shards = sorted(set(read_json_object(index).get("weight_map", {}).values()))
        missing = [name for name in shards if not (folder / name).is_file()]
        if missing or not shards:
            names = ", ".join(missing) or "that its index should name"
            raise ValueError(f"{folder} lacks the weight files {names}; copy or download them.")
        return [folder / name for name in shards]
    pickles = pickle_files(folder)
    if pickles:
        raise ValueError(
            f"{folder} has its weights only as pickle ({', '.join(pickles)}), which can run code "
            "when loaded. Convert them: AutoModelForCausalLM.from_pretrained(folder)"
            ".save_pretrained(new_folder), if you trust their author."
        )
    raise ValueError(f"{folder} has no weights (model.safetensors); copy or download them.")
