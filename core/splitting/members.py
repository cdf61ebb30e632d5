"""Which SAEs can lie on one map with the selected one, and which of them do at first?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from core.catalog.entries import Family, SaeEntry
from core.catalog.families import families
from core.view.choices import Choices
from core.view.selection import Selection

FIRST_WIDTHS = (1, 4, 16)
"""Widths shown at first, as multiples of the family's narrowest (ARENA's choice)."""


@dataclass(frozen=True)
class Member:
    """An SAE that can be on the map."""

    label: str
    """Its name there: the id, with the release in front where ids repeat."""
    entry: SaeEntry
    """What the catalog says of it."""

    @property
    def title(self) -> str:
        """Width and name, for a menu."""
        width = "? latents" if self.entry.width is None else f"{self.entry.width:,} latents"
        return f"{width} · {self.label}"


def members_of(choices: Choices, selection: Selection, entry: SaeEntry) -> tuple[Member, ...]:
    """SAEs that read the same site of the same model as `entry`, narrowest first.

    Transcoders write another space than they read and are compared among themselves only.
    """
    names = choices.names_of(selection.model)
    found = [
        other
        for entries in choices.saes.values()
        for other in entries
        if other.model in names
        and (other.hook_name, other.head) == (entry.hook_name, entry.head)
        and other.kind == entry.kind
        and (other.d_in is None or entry.d_in is None or other.d_in == entry.d_in)
    ]
    if entry.hook_name is None or entry not in found:
        found = [entry]
    repeated = {name for name, n in Counter(sae.sae_id for sae in found).items() if n > 1}
    found.sort(key=lambda sae: (sae.width or 0, sae.release, sae.sae_id))
    return tuple(
        Member(f"{sae.release}/{sae.sae_id}" if sae.sae_id in repeated else sae.sae_id, sae)
        for sae in found
    )


def family_labels(members: Sequence[Member], entry: SaeEntry) -> tuple[str, ...]:
    """The family of widths that `entry` belongs to, else the largest there is; narrowest first."""
    label_of = {member.entry.key: member.label for member in members}
    found = families(member.entry for member in members)
    own = [family for family in found if entry.key in {other.key for other in family.entries}]
    chosen = max(own or found, key=lambda family: len(family.entries), default=None)
    if chosen is None:
        return (label_of[entry.key],)
    return tuple(label_of[sae.key] for sae in chosen.entries)


def first_labels(members: Sequence[Member], entry: SaeEntry) -> tuple[str, ...]:
    """What is on the map before anybody chooses: narrow, four and sixteen times as wide.

    The selected SAE is among them if it belongs to the family.
    """
    family = family_labels(members, entry)
    width_of = {member.label: member.entry.width or 0 for member in members}
    own = next(member.label for member in members if member.entry.key == entry.key)
    narrowest = min(width_of[label] for label in family)
    wanted = {multiple * narrowest for multiple in FIRST_WIDTHS}
    chosen = tuple(label for label in family if width_of[label] in wanted or label == own)
    if len(chosen) > 1:
        return chosen
    return tuple(label for label in family if label in family[:3] or label == own)


def families_elsewhere(
    choices: Choices, selection: Selection, entry: SaeEntry
) -> tuple[Family, ...]:
    """Families of several widths at other sites of the selected model, the nearest layer first.

    For an SAE that reads a site alone: there is nothing to split from there.
    """
    names = choices.names_of(selection.model)
    usable = [
        other for entries in choices.saes.values() for other in entries if other.model in names
    ]
    here = entry.layer if entry.layer is not None else 0

    def distance(family: Family) -> tuple[bool, bool, int, int]:
        first = family.entries[0]
        away = abs((first.layer if first.layer is not None else 0) - here)
        return first.kind != entry.kind, first.release != entry.release, away, -len(family.entries)

    found = [
        family
        for family in families(usable)
        if (family.hook_name, family.entries[0].head) != (entry.hook_name, entry.head)
    ]
    return tuple(sorted(found, key=distance))
