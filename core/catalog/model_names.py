"""The names under which transformer_lens knows models, read without importing it."""

import importlib.util
import json
from functools import cache
from pathlib import Path

GATED_PUBLISHERS = ("google/", "meta-llama/", "mistralai/")
"""Publishers whose models ask for a licence to be accepted on the hub."""

_BRIDGE_LIST = "tools/model_registry/data/supported_models.json"
_FAILED = 3
"""Status in that list of a model whose check failed."""


def package_file(package: str, filename: str) -> Path:
    """Path of `filename` in an installed `package`, which is not imported.

    Raises:
        ValueError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} is not installed; run `make run` to set up the environment.")
    return Path(spec.submodule_search_locations[0]) / filename


@cache
def _official_names() -> dict[str, str]:
    # Importing transformer_lens takes seconds; this one file of it is plain lists.
    path = package_file("transformer_lens", "supported_models.py")
    spec = importlib.util.spec_from_file_location("_transformer_lens_supported_models", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"Cannot read {path}; reinstall transformer-lens 3.9.")
    names = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(names)
    official = {}
    for name in names.OFFICIAL_MODEL_NAMES:
        for alias in (*names.MODEL_ALIASES.get(name, ()), name):
            official[alias.lower()] = name
    return official


def official_name(name: str) -> str | None:
    """Hub repository behind a transformer_lens name (`gpt2` for `gpt2-small`), or None."""
    return _official_names().get(name.lower())


@cache
def _bridge_repositories() -> frozenset[str]:
    """Repositories that transformer_lens' bridge lists, those that failed its checks left out."""
    path = package_file("transformer_lens", _BRIDGE_LIST)
    if not path.is_file():
        return frozenset()
    listed = json.loads(path.read_text(encoding="utf-8"))["models"]
    return frozenset(model["model_id"] for model in listed if model["status"] != _FAILED)


def hub_repository(name: str) -> str | None:
    """Hub repository of a model that transformer_lens can load under `name`, or None."""
    return official_name(name) or (name if name in _bridge_repositories() else None)


def looks_gated(repo_id: str) -> bool:
    """Whether a licence probably has to be accepted before downloading `repo_id`."""
    return repo_id.startswith(GATED_PUBLISHERS)
