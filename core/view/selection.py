"""What is being looked at, as the four parameters of a link, and how one choice changes another.

A link may be old or typed by hand: whatever in it cannot be shown is replaced by a default, with a
sentence that says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.catalog import Catalog
from core.catalog.entries import SaeEntry
from core.view.choices import Choices
from core.view.first_choice import first_release, first_sae

PARAMETERS = ("model", "release", "sae", "latent")
"""Query parameters that carry a selection, on every page."""

_HIGHEST_LATENT = 2**31 - 1


@dataclass(frozen=True)
class Selection:
    """One latent of one SAE, and the model it is looked at in."""

    model: str
    """Name of the model in the catalog."""
    release: str
    """Release of the SAE."""
    sae_id: str
    """SAE within the release."""
    latent: int = 0
    """Latent of the SAE, from 0."""

    @property
    def sae(self) -> tuple[str, str]:
        """`(release, sae_id)`, as `Engine.use` takes it."""
        return self.release, self.sae_id


@dataclass(frozen=True)
class ParsedLink:
    """What a link means here."""

    selection: Selection | None
    """What to show; None when there is nothing at all to choose."""
    problems: tuple[str, ...] = ()
    """A sentence for each part of the link that could not be followed."""


def to_parameters(selection: Selection) -> dict[str, str]:
    """The query parameters of a link to `selection`."""
    return {
        "model": selection.model,
        "release": selection.release,
        "sae": selection.sae_id,
        "latent": str(selection.latent),
    }


def needs_published_list(parameters: Mapping[str, str], local: Choices) -> bool:
    """Whether only the list of published SAEs (slow to read) can tell what a link means.

    `local` is what this machine has: `read_choices(catalog, hub=False)`.
    """
    here = {release.release for release in local.releases}
    if not here:
        return True
    if parameters.get("release"):
        return parameters["release"] not in here
    model = parameters.get("model")
    return bool(model) and model not in {entry.name for entry in local.models}


def parse_link(parameters: Mapping[str, str], catalog: Catalog, choices: Choices) -> ParsedLink:
    """The selection that query parameters describe; missing and unusable ones get a default."""
    selection = default_selection(choices)
    if selection is None:
        return ParsedLink(None)
    problems: list[str] = []
    release, sae_id = parameters.get("release"), parameters.get("sae")
    model, latent = parameters.get("model"), parameters.get("latent")
    named = None  # the SAE, or any SAE of the release, that the link names
    try:
        if release:
            selection = with_release(choices, selection, _known_release(catalog, choices, release))
            named = choices.saes[release][0]
        if sae_id:
            named = _usable(catalog.entry(selection.release, sae_id))
            selection = with_sae(choices, selection, named.sae_id)
    except ValueError as error:
        problems.append(f"The SAE of this link cannot be shown: {_sentence(error)}")
    if model:
        try:
            selection = _on_model(catalog, choices, selection, model, named)
        except ValueError as error:
            problems.append(f"The model of this link cannot be used: {_sentence(error)}")
    # Another SAE's latent of the same number would mislead.
    if latent and not problems:
        entry = choices.sae(*selection.sae)
        try:
            number = parse_latent(latent, width=entry.width if entry else None)
            selection = replace(selection, latent=number)
        except ValueError as error:
            problems.append(f"The latent of this link cannot be shown: {_sentence(error)}")
    return ParsedLink(selection, tuple(problems))


def parse_latent(text: str, *, width: int | None) -> int:
    """A latent's number. Raises ValueError unless it is 0 to `width` - 1 (where that is known)."""
    highest = _HIGHEST_LATENT if width is None else width - 1
    # int() would also take "1_000", " 7" and digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= highest):
        limits = "from 0 up" if width is None else f"from 0 to {highest}"
        raise ValueError(f"{text[:40]!r} is not a latent of this SAE; choose a number {limits}.")
    return int(text)


def default_selection(choices: Choices) -> Selection | None:
    """Latent 0 of the first model's SAE to begin with: the demo's where there is one."""
    if not choices.releases:
        return None
    release = choices.releases[0]
    if release.source == "hub":
        release = first_release(choices, choices.models[0].name)
    chosen = first_sae(choices.saes[release.release])
    return Selection(chosen.model, release.release, chosen.sae_id)


def with_model(choices: Choices, selection: Selection, model: str) -> Selection:
    """`selection` on another model: the same SAE if it can be used there, else a default one.

    Raises:
        ValueError: there is no SAE for that model.
    """
    first = first_release(choices, model)
    moved = replace(selection, model=model)
    if any(entry.key == selection.sae for entry in choices.saes_for(selection.release, model)):
        return moved
    if choices.saes_for(selection.release, model):
        return with_release(choices, moved, selection.release)
    # The same layer of another model is no closer than any other.
    entries = choices.saes_for(first.release, model)
    return with_sae(choices, replace(moved, release=first.release), first_sae(entries).sae_id)


def with_release(choices: Choices, selection: Selection, release: str) -> Selection:
    """`selection` moved to another release: the same site if it has that, else the SAE that
    one begins with."""
    entries = choices.saes_for(release, selection.model) or choices.saes[release]
    old = choices.sae(*selection.sae)
    same_site = [
        entry
        for entry in entries
        if old and (entry.hook_name, entry.head) == (old.hook_name, old.head)
    ]
    chosen = same_site[0] if same_site else first_sae(entries)
    return with_sae(choices, replace(selection, release=release), chosen.sae_id)


def with_sae(choices: Choices, selection: Selection, sae_id: str) -> Selection:
    """`selection` moved to another SAE of its release, at the same latent where it has that.

    Raises:
        ValueError: the release has no such SAE, or it cannot be loaded.
    """
    entry = choices.sae(selection.release, sae_id)
    if entry is None:
        raise ValueError(f"{selection.release} has no SAE {sae_id!r}; choose another.")
    model = selection.model if entry.model in choices.names_of(selection.model) else entry.model
    has_latent = entry.width is not None and selection.latent < entry.width
    latent = selection.latent if has_latent else 0
    return replace(selection, model=model, sae_id=sae_id, latent=latent)


def _on_model(
    catalog: Catalog, choices: Choices, selection: Selection, name: str, named: SaeEntry | None
) -> Selection:
    """`selection` on the model `name`, which must suit the SAE if the link names one."""
    model = catalog.model(name)
    if model.problem is not None:
        raise ValueError(model.problem)
    if named is not None and named.model not in (model.name, model.base_model):
        raise ValueError(
            f"the SAEs of {named.release} were trained on {named.model}, not on {model.name}; "
            f"{named.model} is used instead."
        )
    if named is not None:
        return replace(selection, model=model.name)
    return with_model(choices, selection, model.name)


def _known_release(catalog: Catalog, choices: Choices, release: str) -> str:
    if release not in choices.saes:
        entries = catalog.saes(release)  # raises for unknown names
        reasons = [entry.problem for entry in catalog.releases() if entry.release == release]
        reasons += [entry.problem for entry in entries]
        raise ValueError(next(filter(None, reasons), f"{release} holds no SAE; choose another."))
    return release


def _usable(entry: SaeEntry) -> SaeEntry:
    if entry.problem is not None:
        raise ValueError(entry.problem)
    return entry


def _sentence(error: ValueError) -> str:
    text = str(error).strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."
