"""What is in a release, in a few words for a menu: where its SAEs read, and how wide they are."""

from collections import Counter
from collections.abc import Sequence

from core.catalog.entries import SaeEntry
from core.catalog.families import families

_SITES = (
    ("hook_embed", "embeddings"),
    ("resid", "residual stream"),
    ("hook_z", "attention heads"),
    ("attn", "attention output"),
    ("mlp_out", "MLP output"),
    ("mlp", "MLP input"),
    ("ln2", "MLP input"),
)
_known: dict[tuple[str, int], str] = {}
"""Words by release and number of SAEs, of published ones alone: those never change here."""


def words_of_release(entries: Sequence[SaeEntry]) -> str:
    """For example "residual stream · layers 0–11 · 24,576 latents"; "" for no SAE.

    A release that has several widths at one site, between which latents split, is marked as a
    family.
    """
    if not entries:
        return ""
    name = entries[0].release, len(entries)
    if entries[0].source != "hub":
        return _words(entries)
    if name not in _known:
        _known[name] = _words(entries)
    return _known[name]


def _words(entries: Sequence[SaeEntry]) -> str:
    ((site, _),) = Counter(map(_site, entries)).most_common(1)
    parts = [site, _layers(entries), _widths(entries)]
    return " · ".join(part for part in parts if part)


def _site(entry: SaeEntry) -> str:
    if entry.kind == "transcoder":
        return "transcoders"
    hook = entry.hook_name or ""
    return next((words for part, words in _SITES if part in hook), "")


def _layers(entries: Sequence[SaeEntry]) -> str:
    layers = sorted({entry.layer for entry in entries if entry.layer is not None})
    if not layers:
        return ""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) == layers[-1] - layers[0] + 1:
        return f"layers {layers[0]}–{layers[-1]}"
    listed = ", ".join(map(str, layers[:4]))
    return f"layers {listed}" if len(layers) <= 4 else f"{len(layers)} layers"


def _widths(entries: Sequence[SaeEntry]) -> str:
    found = families(entries)
    if found:
        most = max(len(family.entries) for family in found)
        return f"a family of {most} widths"
    widths = sorted({entry.width for entry in entries if entry.width is not None})
    return f"{widths[0]:,} latents" if len(widths) == 1 else ""
