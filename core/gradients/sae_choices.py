"""Which SAEs of a model can be looked at together, and in which order the model passes them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.catalog.entries import SaeEntry
from core.catalog.trained_sites import weights_asked
from core.view.choices import Choices, distinct_labels

if TYPE_CHECKING:
    from core.descriptions.sources import DescribedSae
    from core.lease import Lease

_PLACES = (
    ("hook_resid_pre", "residual stream before"),
    ("attn.hook_z", "attention heads"),
    ("hook_attn_out", "attention output"),
    ("hook_resid_mid", "residual stream after attention"),
    ("ln2.hook_normalized", "MLP input"),
    ("hook_mlp_in", "MLP input"),
    ("hook_mlp_out", "MLP output"),
    ("hook_resid_post", "residual stream after"),
)
_MOST_IN_CHAIN = 5
_LAYERS_BACK = 3


def described_saes(lease: "Lease", entries: Sequence[SaeEntry]) -> "dict[str, DescribedSae]":
    """Each SAE of a lease, which are those of `entries`, by its name in links."""
    from core.descriptions.sources import DescribedSae

    with lease.turn() as (_, saes):
        fingerprints = lease.sae_fingerprints
        return {
            name_of(entry): DescribedSae(fingerprint, int(sae.cfg.d_sae), entry.neuronpedia_id)
            for entry, fingerprint, sae in zip(entries, fingerprints, saes, strict=True)
        }


def depth(entry: SaeEntry) -> tuple[int, int]:
    """Where in the model the SAE reads: layer, and place within the layer."""
    layer = -1 if entry.layer is None else entry.layer
    return layer, next((n for n, (end, _) in enumerate(_PLACES) if _ends(entry, end)), 0)


def name_of(entry: SaeEntry) -> str:
    """Name of an SAE in a link."""
    return "/".join(entry.key)


def title_of(entry: SaeEntry) -> str:
    """What an SAE is called in a menu."""
    place = next((words for end, words in _PLACES if _ends(entry, end)), entry.hook_name or "?")
    if entry.kind == "transcoder":
        place = "MLP (transcoder)"
    layer = "" if entry.layer is None else f"Layer {entry.layer}: "
    if place.endswith(("before", "after")):
        place = f"{place} it"
    if entry.head is not None:
        place = f"{place}, head {entry.head} alone"
    width = "" if entry.width is None else f", {entry.width:,} latents"
    return f"{layer}{place}{width} · {entry.release}"


def menu(entries: Sequence[SaeEntry]) -> dict[str, str]:
    """What the SAEs are called in a menu, by name; no two are called the same."""
    titles = {name_of(entry): title_of(entry) for entry in entries}
    return distinct_labels(titles, {name_of(entry): entry.sae_id for entry in entries})


def read_alike(one: SaeEntry, other: SaeEntry) -> bool:
    """Whether one model and one text suit both: the same weight processing, BOS or none."""
    weights = [weights_asked(dict(entry.processing)) for entry in (one, other)]
    return weights[0] == weights[1] and one.prepend_bos == other.prepend_bos


def usable(choices: Choices, model: str) -> tuple[SaeEntry, ...]:
    """SAEs of a model, those that it passes first in front."""
    names = choices.names_of(model)
    found = [
        entry for entries in choices.saes.values() for entry in entries if entry.model in names
    ]
    return tuple(
        sorted(
            found, key=lambda entry: (depth(entry), entry.release, entry.width or 0, entry.sae_id)
        )
    )


def find(entries: Sequence[SaeEntry], name: str) -> SaeEntry | None:
    """The SAE of that name, or None."""
    return next((entry for entry in entries if name_of(entry) == name), None)


def check_name(choices: Choices, model: str, name: str) -> str:
    """`name`, if it is an SAE of the model. Raises ValueError with the reason where it is not."""
    if find(usable(choices, model), name) is not None:
        return name
    everything = [entry for entries in choices.saes.values() for entry in entries]
    other = find(everything, name)
    if other is not None:
        raise ValueError(f"{name} was trained on {other.model}, not on {model}.")
    raise ValueError(f"there is no SAE {name[:80]!r} here.")


def default_pair(entries: Sequence[SaeEntry], chosen: SaeEntry) -> tuple[SaeEntry, SaeEntry]:
    """An earlier SAE (up to three layers back) and a later one, `chosen` where it has a companion.

    From its own release if that has another site, else from all; only SAEs that are read alike.
    """
    entries = [entry for entry in entries if read_alike(entry, chosen)]
    for companions in ([entry for entry in entries if entry.release == chosen.release], entries):
        earlier = [entry for entry in companions if depth(entry) < depth(chosen)]
        near = [entry for entry in earlier if depth(entry)[0] >= depth(chosen)[0] - _LAYERS_BACK]
        if earlier:
            return (near or earlier[-1:])[0], chosen
        later = [entry for entry in companions if depth(entry) > depth(chosen)]
        if later:
            return chosen, later[0]
    return chosen, chosen


def default_chain(entries: Sequence[SaeEntry], chosen: SaeEntry) -> tuple[SaeEntry, ...]:
    """SAEs of the residual stream to trace a circuit through: one a site, at most five.

    From the release of `chosen` where that has several sites, else from the one that has most;
    only SAEs that are read alike.
    """
    by_release: dict[str, dict[tuple[int, int], SaeEntry]] = {}
    for entry in entries:
        is_stream = "resid" in (entry.hook_name or "") and entry.kind == "sae"
        if is_stream and read_alike(entry, chosen):
            by_release.setdefault(entry.release, {}).setdefault(depth(entry), entry)
    if not by_release:
        return (chosen,)
    own = by_release.get(chosen.release, {})
    chain = own if len(own) > 1 else max(by_release.values(), key=len)
    sites = [chain[place] for place in sorted(chain)]
    if len(sites) <= _MOST_IN_CHAIN:
        return tuple(sites)
    step = (len(sites) - 1) / (_MOST_IN_CHAIN - 1)
    return tuple(sites[round(number * step)] for number in range(_MOST_IN_CHAIN))


def attention(entries: Sequence[SaeEntry]) -> tuple[SaeEntry, ...]:
    """Those that read attention heads, between which induction can be seen."""
    return tuple(entry for entry in entries if _ends(entry, "hook_z"))


def _ends(entry: SaeEntry, end: str) -> bool:
    return (entry.hook_name or "").endswith(end)
