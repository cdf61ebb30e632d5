"""sae_lens' list of published SAEs, read from its YAML file without importing sae_lens."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from core.catalog import model_names
from core.catalog.entries import ModelEntry, ReleaseEntry, SaeEntry
from core.catalog.families import guess_hook, layer_of, width_from_names
from core.catalog.sae_kinds import format_problem
from core.catalog.trained_sites import reading_of

TRANSCODER_LOADERS = ("gemma_2_transcoder", "mwhanna_transcoder", "mntss_clt_layer_transcoder")

KNOWN_LOADERS = (
    *(None, "sae_lens", "connor_rob_hook_z", "gemma_2", "gemma_3", "llama_scope"),
    *("llama_scope_r1_distill", "dictionary_learning_1", "deepseek_r1", "qwen_scope", "sparsify"),
    *("temporal", "goodfire", *TRANSCODER_LOADERS),
)
"""Loaders of the pinned sae_lens whose files `core.hub` knows how to fetch."""

KNOWN_WIDTHS = {
    "gpt2-small-res-jb": 24576,
    "goodfire-llama-3.3-70b-instruct": 65536,
    "goodfire-llama-3.1-8b-instruct": 65536,
}
"""Widths that no name tells, from the published configs."""

LLAMA_D_MODEL = 4096
"""`8x` in a Llama Scope name means 8·4096 latents."""


@dataclass(frozen=True)
class PretrainedList:
    """Everything published, as the installed sae_lens lists it."""

    models: tuple[ModelEntry, ...]
    """Models, those with most releases first."""
    releases: dict[str, ReleaseEntry]
    """Releases by name."""
    entries: dict[str, tuple[SaeEntry, ...]]
    """SAEs by release."""


@cache
def read_pretrained() -> PretrainedList:
    """Parse the list once a process; about a second with libyaml.

    Raises:
        ValueError: sae_lens is not installed.
    """
    path = model_names.package_file("sae_lens", "pretrained_saes.yaml")
    # PyYAML may have been built without libyaml; the pure Python loader takes about 8 s.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open("rb") as file:
        listing = yaml.load(file, Loader=loader)  # noqa: S506 (both loaders are safe)
    releases = {name: _release(name, content) for name, content in listing.items()}
    entries = {
        name: tuple(_entries(name, content, releases[name])) for name, content in listing.items()
    }
    counts: dict[str, int] = {}
    for release in releases.values():
        counts[release.model] = counts.get(release.model, 0) + 1
    models = tuple(_model(name) for name in sorted(counts, key=lambda name: (-counts[name], name)))
    return PretrainedList(models=models, releases=releases, entries=entries)


def unknown_model_reason(name: str) -> str | None:
    """Why a model of this name cannot be loaded from the hub, or None."""
    if model_names.hub_repository(name) is not None:
        return None
    return (
        f"transformer_lens does not know the model {name!r}, so its activations cannot be read; "
        "a local Hugging Face folder of a supported architecture can stand in for it."
    )


def hub_model(name: str) -> ModelEntry:
    """A model that transformer_lens knows (or a `problem` that says it does not)."""
    return _model(name)


def _model(name: str) -> ModelEntry:
    repo_id = model_names.hub_repository(name)
    return ModelEntry(
        name=name,
        source="hub",
        title=name,
        repo_id=repo_id,
        gated=model_names.looks_gated(repo_id or ""),
        problem=unknown_model_reason(name),
    )


def _release(name: str, content: dict[str, Any]) -> ReleaseEntry:
    problem = unknown_model_reason(content["model"])
    conversion = content.get("conversion_func")
    refusals = {format_problem(conversion, str(sae["path"])) for sae in content["saes"]}
    if None not in refusals:
        # Whatever model it belongs to, nothing in it can be shown.
        problem = f"each of its SAEs {min(refusal for refusal in refusals if refusal)}"
    if problem is None and conversion not in KNOWN_LOADERS:
        problem = (
            f"its file format {conversion!r} is newer than this explorer; "
            "load it with sae_lens, save it with save_model and add that folder to "
            "SAE_EXPLORER_SAES."
        )
    return ReleaseEntry(
        release=name,
        model=content["model"],
        source="hub",
        n_saes=len(content["saes"]),
        title=name,
        repo_id=content["repo_id"],
        problem=problem,
    )


def _entries(name: str, content: dict[str, Any], release: ReleaseEntry) -> Iterator[SaeEntry]:
    conversion = content.get("conversion_func")
    overrides = content.get("config_overrides") or {}
    asked = overrides.get("model_from_pretrained_kwargs") or {}
    if conversion in ("mwhanna_transcoder", "mntss_clt_layer_transcoder"):
        asked = {"fold_ln": False, **asked}
    for sae in content["saes"]:
        sae_id, repo_path = str(sae["id"]), str(sae["path"])
        hook_name = overrides.get("hook_name") or guess_hook(
            sae_id, content["repo_id"], repo_path, conversion
        )
        is_transcoder = conversion in TRANSCODER_LOADERS or "transcoder" in repo_path
        refusal = format_problem(conversion, repo_path)
        config = {
            "hook_name": hook_name,
            "model_name": content["model"],
            "architecture": "transcoder" if is_transcoder else "",
            "model_from_pretrained_kwargs": asked,
        }
        reading = reading_of(config, loader=conversion, release=name)
        yield SaeEntry(
            release=name,
            sae_id=sae_id,
            model=content["model"],
            source="hub",
            hook_name=reading.hook_name,
            layer=layer_of(reading.hook_name),
            width=_width(name, sae_id, repo_path, content["repo_id"], sae, conversion),
            kind="transcoder" if is_transcoder else "sae",
            # sae_lens fills absent figures with 0 and 1; here absent means unknown.
            l0=sae.get("l0"),
            explained_variance=sae.get("variance_explained"),
            neuronpedia_id=sae.get("neuronpedia"),
            repo_id=content["repo_id"],
            repo_path=repo_path,
            conversion=conversion,
            version=reading.version,
            processing=reading.processing,
            problem=f"{sae_id} of {name} {refusal}" if refusal else release.problem,
        )


def _width(
    release: str,
    sae_id: str,
    repo_path: str,
    repo_id: str,
    sae: dict[str, Any],
    conversion: str | None,
) -> int | None:
    if conversion == "llama_scope":
        return int(sae_id.rsplit("_", 1)[1].rstrip("x")) * LLAMA_D_MODEL
    if release in KNOWN_WIDTHS:
        return KNOWN_WIDTHS[release]
    neuronpedia = (sae.get("neuronpedia") or "").split("/", 1)[-1]
    if conversion == "llama_scope_r1_distill":
        # Its paths name corpora (`OpenR1-Math-220k`), not widths.
        return width_from_names(neuronpedia)
    return width_from_names(sae_id, repo_path, neuronpedia, repo_id)
