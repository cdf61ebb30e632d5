"""Which model does an SAE's config mean, and of what type is it? Read without importing torch."""

import json
import re
from functools import lru_cache
from pathlib import Path

_LEVELS_UP = 4
"""How far above an SAE's folder a model that it names by a relative path may lie."""

_TYPES_BY_NAME = (
    (re.compile(r"gemma-?3(?![0-9n])"), "gemma3"),
    (re.compile(r"pythia|gpt-?neox"), "gpt_neox"),
    (re.compile(r"(?:^|/)gpt-?2"), "gpt2"),
    (re.compile(r"gpt-?oss"), "gpt_oss"),
)
"""Types of models that are named rather than lying here, as far as anything depends on them."""


def model_folder(name: str, sae_path: Path | None) -> Path | None:
    """Hugging Face folder that `name` means in the config of the SAE at `sae_path`, or None."""
    try:
        given = Path(name).expanduser()
    except RuntimeError:  # "~someone" whom this machine does not know
        return None
    near = not given.is_absolute() and sae_path is not None
    bases = list(sae_path.resolve().parents)[:_LEVELS_UP] if near and sae_path else []
    candidates = [given] if given.is_absolute() else [base / given for base in bases]
    for candidate in candidates:
        folder = existing_folder(candidate)
        # SAEs have a config.json too, in some formats.
        if folder is not None and _type_in(folder) is not None:
            return folder.resolve()
    return None


def existing_folder(path: Path) -> Path | None:
    """`path` where a config.json lies there; None for names that can be no path, too."""
    try:
        folder = path.expanduser()
        return folder if (folder / "config.json").is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def model_type(name: str | None, sae_path: Path | None = None) -> str | None:
    """`model_type` of a model ("gemma3", "gemma3_text", "llama"), by its folder or else its name.

    None where neither tells. `sae_path` is the folder of the SAE whose config says `name`.
    """
    if not name:
        return None
    folder = model_folder(name, sae_path)
    if folder is not None:
        return _type_in(folder)
    lowered = name.lower()
    return next((kind for pattern, kind in _TYPES_BY_NAME if pattern.search(lowered)), None)


def _type_in(folder: Path) -> str | None:
    path = folder / "config.json"
    try:
        return _model_type_in(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _model_type_in(path: Path, mtime_ns: int) -> str | None:
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None
    return kind if isinstance(kind, str) else None
