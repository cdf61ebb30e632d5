"""What is said of the latents on the page: the user's words, the published, the offline ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from sae_lens import SAE

from core.activations import fingerprint_of_sae
from core.catalog.entries import SaeEntry
from core.descriptions.saved import load_user_descriptions
from core.descriptions.table import Descriptions
from core.gradients.sae_choices import name_of
from core.store import Store
from core.view.splitting.members import Member


@dataclass(frozen=True)
class SaePrint:
    """What identifies an SAE's weights."""

    fingerprint: str
    """Hash of its parameters."""
    width: int
    """Number of latents."""


def sae_prints(entries: Sequence[SaeEntry], saes: Sequence[SAE]) -> dict[str, SaePrint]:
    """Of each SAE, by its name in links."""
    return {
        name_of(entry): SaePrint(fingerprint_of_sae(sae), int(sae.cfg.d_sae))
        for entry, sae in zip(entries, saes, strict=True)
    }


def members(entries: Sequence[SaeEntry]) -> tuple[Member, ...]:
    """The SAEs as those functions take them that read a sample of text or ask Neuronpedia."""
    return tuple(Member(name_of(entry), entry) for entry in dict.fromkeys(entries))


def gather(
    prints: Mapping[str, SaePrint],
    store: Store,
    *,
    published: Mapping[str, Descriptions],
    offline: Mapping[str, Descriptions],
) -> dict[str, Descriptions]:
    """The best description of each latent: the user's, the published, the offline one."""
    found = {}
    for name, it in prints.items():
        own = load_user_descriptions(store, it.fingerprint, it.width)
        chain = [own, published.get(name), offline.get(name)]
        known = [one for one in chain if one is not None and one.d_sae == it.width]
        found[name] = Descriptions.none(it.width).merge(*known)
    return found


def by_label(
    axes: Sequence[tuple[pd.DataFrame, SaeEntry | None]], descriptions: Mapping[str, Descriptions]
) -> dict[str, str]:
    """Description of each label on the axes of a matrix; tokens and logits have none."""
    found: dict[str, str] = {}
    for axis, entry in axes:
        known = descriptions.get(name_of(entry)) if entry is not None else None
        if known is not None:
            texts = known.texts[axis["index"].to_numpy()]
            found |= dict(zip(axis["label"], texts, strict=True))
    return found
