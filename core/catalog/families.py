"""What the name of an SAE says: hook, layer, width, and which others differ only in width."""

import re
from collections.abc import Iterable

from core.catalog.entries import Family, SaeEntry

_POWERS_IN_THOUSANDS = {65: 65536, 131: 131072, 262: 262144, 524: 524288}
"""Widths named after a power of two in thousands; the other `Nk` mean N·1024."""

_WIDTH_PATTERNS = (
    r"(?<![a-z0-9])width[_-]?(?P<short>\d+k|\dm)(?![a-z0-9])",
    r"(?<![a-z0-9])2pow(?P<power>\d+)",
    r"(?:hook_\w+?|resid_(?:pre|post|mid)|mlp_out|attn_out|hook_z)_(?P<full>\d{3,7})(?!\d)",
    r"_ds(?P<ds>\d{3,7})(?!\d)",
    r"_fs(?P<fs>\d{3,7})(?!\d)",
    # Not `70m`: that is the size of a model or of a corpus.
    r"(?<![a-z0-9.])w?-?(?P<token>\d+k|\dm)(?![a-z0-9.])",
)

_VARIABLE_PARTS = (
    (r"average_l0_\d+", "average_l0"),
    (r"width[_-]?\d+[km](?![a-z0-9])", "width"),
    (r"2pow\d+", "2pow"),
    (r"(\.hook_[a-z_]+?)_\d+$", r"\1_W"),
    (r"(?<=[-_])\d+k(?![a-z0-9])", "W"),
    (r"(?<=_)\d+x$", "X"),
)


def width_from_names(*names: str | None) -> int | None:
    """Number of latents that the first telling name states, or None.

    >>> width_from_names("blocks.8.hook_resid_pre_768")
    768
    >>> width_from_names("layer_20/width_65k/canonical")
    65536
    """
    for pattern in _WIDTH_PATTERNS:
        for name in names:
            match = re.search(pattern, (name or "").lower())
            if match:
                return _parse_width(match.lastgroup or "", match.group(match.lastgroup or 0))
    return None


def _parse_width(kind: str, text: str) -> int:
    if kind == "power":
        return 2 ** int(text)
    if text.endswith("m"):
        return int(text[:-1]) * 1024**2
    if text.endswith("k"):
        thousands = int(text[:-1])
        return _POWERS_IN_THOUSANDS.get(thousands, thousands * 1024)
    return int(text)


def layer_of(hook_name: str | None) -> int | None:
    """Layer of a hook: 8 for `blocks.8.hook_resid_pre`, 0 for `hook_embed`."""
    if hook_name is None:
        return None
    match = re.search(r"(?:blocks|layers|h)\.(\d+)\.", hook_name)
    if match:
        return int(match.group(1))
    return 0 if hook_name == "hook_embed" else None


def guess_hook(sae_id: str, repo_id: str, repo_path: str, conversion: str | None) -> str | None:
    """Hook that sae_lens' loader `conversion` will report, guessed without reading the config."""
    match = re.match(r"blocks\.(\d+)\.(\w+)", sae_id)
    if match:
        layer, site = match.group(1), re.sub(r"(_+trainer.*|_\d+)$", "", match.group(2))
        return f"blocks.{layer}.attn.hook_z" if site == "hook_z" else f"blocks.{layer}.{site}"
    if "embedding" in repo_path:
        return "hook_embed"
    text = f"{repo_id}/{repo_path}/{sae_id}".lower()
    layer_match = re.search(r"layer_?(\d+)|/l(\d+)[arm]|-l(\d+)[arm]-", text)
    if not layer_match:
        return None
    layer = next(group for group in layer_match.groups() if group)
    if conversion == "mntss_clt_layer_transcoder":
        # The hook is in a config file of the repository.
        return None
    return f"blocks.{layer}.{_site(text, conversion)}"


def _site(text: str, conversion: str | None) -> str:
    if conversion == "gemma_2_transcoder":
        return "ln2.hook_normalized"
    if conversion == "mwhanna_transcoder":
        return "mlp.hook_in"
    if conversion == "gemma_3" and re.search(r"transcoder|/clt", text):
        return "hook_mlp_in"
    if conversion in ("gemma_2", "gemma_3"):
        if re.search(r"attn_out|-att\b", text):
            return "attn.hook_z"
        return "hook_mlp_out" if re.search(r"mlp_out|-mlp\b", text) else "hook_resid_post"
    sublayer = re.search(r"-l\d+([arm])-", text)
    if sublayer:
        return {"a": "hook_attn_out", "m": "hook_mlp_out", "r": "hook_resid_post"}[
            sublayer.group(1)
        ]
    return "hook_resid_post"


def _template(name: str) -> str:
    for pattern, replacement in _VARIABLE_PARTS:
        name = re.sub(pattern, replacement, name)
    return name


def family_key(entry: SaeEntry) -> tuple[str, ...] | None:
    """What the members of a family share, or None where width or hook is unknown."""
    if entry.width is None or entry.hook_name is None or entry.problem is not None:
        return None
    if entry.source == "hub":
        names = (_template(entry.release), _template(entry.sae_id))
    else:
        # People name their own folders as they like; the config tells the width.
        names = (entry.release, "")
    head = "" if entry.head is None else str(entry.head)
    return (*names, entry.model, entry.hook_name, head, entry.kind, entry.source)


def families(entries: Iterable[SaeEntry]) -> tuple[Family, ...]:
    """All families with at least two widths among `entries`."""
    groups: dict[tuple[str, ...], list[SaeEntry]] = {}
    for entry in entries:
        key = family_key(entry)
        if key is not None:
            groups.setdefault(key, []).append(entry)
    found = (_one_per_width(group, near=group[0]) for group in groups.values())
    return tuple(family for family in found if len(family.entries) > 1)


def family_of(entry: SaeEntry, entries: Iterable[SaeEntry]) -> Family:
    """The family of `entry` among `entries`; alone in it where there is no other width."""
    key = family_key(entry)
    members = [] if key is None else [other for other in entries if family_key(other) == key]
    return _one_per_width([entry, *members], near=entry)


def _one_per_width(group: list[SaeEntry], near: SaeEntry) -> Family:
    """Where a width comes at several sparsities, keep the one whose L0 is nearest to `near`'s."""

    def distance(other: SaeEntry) -> tuple[bool, float, str]:
        gap = abs((other.l0 or 0) - (near.l0 or 0))
        return other.key != near.key, gap, other.sae_id

    chosen: dict[int | None, SaeEntry] = {}
    for entry in sorted(group, key=distance):
        chosen.setdefault(entry.width, entry)
    ordered = sorted(chosen.values(), key=lambda member: member.width or 0)
    return Family(model=near.model, hook_name=near.hook_name or "", entries=tuple(ordered))
