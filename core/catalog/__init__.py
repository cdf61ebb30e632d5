"""Every model, release and SAE that can be chosen: the demo, the user's folders, the hub.

The hub part is sae_lens' own list, parsed when first asked for; everything local is looked at
afresh at each call (thousands of SAEs in the background, see `core.catalog.scan`), so that a folder
dropped there appears without a restart. What cannot be loaded stays in the lists, with its
`problem`.
"""

import difflib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from core.catalog import families, local_saes, model_names, pretrained
from core.catalog.entries import Family, ModelEntry, ReleaseEntry, SaeEntry
from core.catalog.formats.sites import SIDECAR
from core.catalog.model_folders import existing_folder, model_folder
from core.catalog.scan import Listing, Scan
from core.settings import Settings

__all__ = ["Catalog", "Family", "ModelEntry", "ReleaseEntry", "SaeEntry"]


class Catalog:
    """What there is to choose from. Safe to share between threads."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.from_environment()
        self._user_releases = Scan(self._look_at_user_folders)

    def models(self, *, hub: bool = True) -> tuple[ModelEntry, ...]:
        """Models: the demo's, then those of the user's SAEs, then the hub's.

        With `hub=False` sae_lens' list (about a second to parse) is not touched.
        """
        return self._models_of(self._user_releases(), hub=hub)

    def everything(self, *, hub: bool = True) -> tuple[tuple[ModelEntry, ...], Listing]:
        """All models, and all releases with their SAEs, from one look at the folders."""
        user = self._user_releases()
        listing = [*self._demo_releases(), *user, *(self._published() if hub else ())]
        return self._models_of(user, hub=hub), listing

    def _models_of(self, user: Listing, *, hub: bool) -> tuple[ModelEntry, ...]:
        models = {model.name: model for model in self._demo_models()}
        for _, entries in user:
            for entry in entries:
                if entry.model and entry.model not in models:
                    models[entry.model] = self._model_of_user(entry.model)
        if hub:
            for model in pretrained.read_pretrained().models:
                models.setdefault(model.name, model)
        return tuple(models.values())

    def model(self, name: str) -> ModelEntry:
        """The model `name`: a name of the catalog, any name transformer_lens knows, or a folder.

        Raises:
            ValueError: there is no such model; the message names similar ones.
        """
        for model in self._demo_models():
            if model.name == name:
                return model
        folder = existing_folder(Path(name))
        if folder is not None:
            return _folder_model(folder)
        repo_id = model_names.hub_repository(name)
        if repo_id is not None:
            listed = pretrained.read_pretrained().models
            same = [model for model in listed if model.repo_id == repo_id]
            return same[0] if same else pretrained.hub_model(name)
        models = {model.name: model for model in self.models()}
        if name in models:
            return models[name]
        raise ValueError(f"Unknown model {name!r}; {_similar(name, list(models))}")

    def releases(self, model: str | None = None, *, hub: bool = True) -> tuple[ReleaseEntry, ...]:
        """Releases, all or those whose SAEs can be used with `model` or the model it came from.

        With `hub=False`, only those on this machine.
        """
        return tuple(release for release, _ in self._listing(model, hub=hub))

    def unavailable(self) -> tuple[ReleaseEntry, ...]:
        """Releases of which nothing can be loaded, each with its `problem`."""
        return tuple(release for release in self.releases() if release.problem is not None)

    def saes(self, release: str) -> tuple[SaeEntry, ...]:
        """SAEs of one release, in its own order.

        Raises:
            ValueError: there is no such release; the message names similar ones.
        """
        demo, user = self._bundle().get("releases", {}), self._user_folders()
        if release in demo:
            return self._demo_release(release, demo[release])[1]
        if release in user:
            listed = {entry.release: saes for entry, saes in self._user_releases()}
            return listed[release]
        published = pretrained.read_pretrained().entries
        if release in published:
            return published[release]
        known = [*demo, *user, *published]
        raise ValueError(f"Unknown release {release!r}; {_similar(release, known)}")

    def entry(self, release: str, sae_id: str) -> SaeEntry:
        """One SAE. A local release hides a published one of the same name.

        Raises:
            ValueError: there is no such release or SAE; the message names similar ones.
        """
        local = self._local_entry(release, sae_id)
        if local is not None:
            return local
        saes = self.saes(release)
        for sae in saes:
            if sae.sae_id == sae_id:
                return sae
        known = [sae.sae_id for sae in saes]
        raise ValueError(f"Release {release!r} has no SAE {sae_id!r}; {_similar(sae_id, known)}")

    def search(
        self, text: str, *, model: str | None = None, hub: bool = True
    ) -> tuple[SaeEntry, ...]:
        """SAEs in which every word of `text` occurs, in whichever field, without regard to case.

        All SAEs for a blank `text`. Local ones come first.
        """
        words = text.lower().split()
        found = (sae for _, saes in self._listing(model, hub=hub) for sae in saes)
        return tuple(sae for sae in found if all(word in sae.haystack for word in words))

    def family_of(self, entry: SaeEntry) -> Family:
        """SAEs of the same release, model and hook as `entry` at other widths, and `entry`."""
        return families.family_of(entry, self._relatives(entry))

    def families(self, model: str, *, hub: bool = True) -> tuple[Family, ...]:
        """Families of two or more widths among the SAEs for `model`."""
        return families.families(self.search("", model=model, hub=hub))

    def _relatives(self, entry: SaeEntry) -> Iterable[SaeEntry]:
        if entry.source != "hub":
            return self.saes(entry.release)
        published = pretrained.read_pretrained()
        # Some publishers give each width a release of its own.
        names = [
            name for name, release in published.releases.items() if release.model == entry.model
        ]
        return (sae for name in names for sae in published.entries[name])

    def _listing(self, model: str | None, *, hub: bool) -> Listing:
        listing = self._local_releases()
        if hub:
            listing += self._published()
        if model is None:
            return listing
        entry = self.model(model)
        wanted = {entry.name, model, entry.base_model}
        return [(release, saes) for release, saes in listing if release.model in wanted]

    def _local_releases(self) -> Listing:
        return [*self._demo_releases(), *self._user_releases()]

    def _bundle(self) -> dict[str, dict[str, dict[str, str]]]:
        path = self.settings.demo_dir / "bundle.json"
        if not path.is_file():
            return {}
        try:
            bundle = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not readable JSON ({error}); run `make demo`.") from error
        if bundle.get("version") != 1:
            raise ValueError(f"{path} has version {bundle.get('version')!r}, not 1; update it.")
        return bundle

    def _demo_models(self) -> list[ModelEntry]:
        return [
            ModelEntry(
                name=name,
                source="demo",
                title=info.get("title", name),
                description=info.get("description", ""),
                path=self.settings.demo_dir / info["path"],
                base_model=info.get("base_model"),
            )
            for name, info in self._bundle().get("models", {}).items()
        ]

    def _demo_releases(self) -> Listing:
        releases = self._bundle().get("releases", {})
        return [self._demo_release(name, info) for name, info in releases.items()]

    def _demo_release(
        self, name: str, info: dict[str, str]
    ) -> tuple[ReleaseEntry, tuple[SaeEntry, ...]]:
        folder = self.settings.demo_dir / "saes" / name
        ids = [path.relative_to(folder).as_posix() for path in local_saes.sae_folders(folder)]
        saes = tuple(self._demo_sae(name, sae_id, info) for sae_id in ids)
        release = ReleaseEntry(
            release=name,
            model=info["model"],
            source="demo",
            n_saes=len(saes),
            title=info.get("title", name),
            problem=None if saes else f"{folder} holds no SAE; run `make demo`.",
        )
        return release, saes

    def _demo_sae(self, release: str, sae_id: str, info: dict[str, str]) -> SaeEntry:
        return local_saes.read_sae_folder(
            self.settings.demo_dir / "saes" / release / sae_id,
            release=release,
            sae_id=sae_id,
            source="demo",
            model=info["model"],
        )

    def _user_folders(self) -> dict[str, Path]:
        return local_saes.release_names(self.settings.user_sae_dirs)

    def _published(self) -> Listing:
        published = pretrained.read_pretrained()
        return [(it, published.entries[name]) for name, it in published.releases.items()]

    def _look_at_user_folders(self) -> Listing:
        return [self._user_release(name, folder) for name, folder in self._user_folders().items()]

    def _user_release(self, name: str, folder: Path) -> tuple[ReleaseEntry, tuple[SaeEntry, ...]]:
        try:
            release, entries = local_saes.user_release(folder, name)
        except Exception as error:  # noqa: BLE001 — no folder may hide all the others
            problem = f"{folder} cannot be looked at ({type(error).__name__}: {error})"[:300]
            problem += "; correct SAE_EXPLORER_SAES."
            return ReleaseEntry(name, "", "user", 0, title=str(folder), problem=problem), ()
        resolved = tuple(self._with_model(entry) for entry in entries)
        if resolved:
            release = replace(release, model=resolved[0].model)
        return release, resolved

    def _local_entry(self, release: str, sae_id: str) -> SaeEntry | None:
        """A local SAE without reading the others of its release: this is asked often."""
        demo = self._bundle().get("releases", {})
        user = {} if release in demo else self._user_folders()
        if release not in demo and release not in user:
            return None
        folder = user.get(release, self.settings.demo_dir / "saes" / release)
        place = local_saes.find_sae(folder, sae_id)
        if place is None:
            return None
        if release in demo:
            return self._demo_sae(release, sae_id, demo[release])
        return self._with_model(local_saes.read_place(place, release=release, sae_id=sae_id))

    def _with_model(self, entry: SaeEntry) -> SaeEntry:
        """Say which model the `model_name` of one of the user's SAEs is."""
        try:
            name, problem = self._resolve_model(entry)
        except Exception as error:  # noqa: BLE001 — nor may the model that one SAE names
            name, problem = entry.model, f"its model cannot be looked for ({error!r:.200})."
        return replace(entry, model=name, problem=entry.problem or problem)

    def _resolve_model(self, entry: SaeEntry) -> tuple[str, str | None]:
        """Catalog name of the model an SAE folder names, and why there is none."""
        name = entry.model
        if not name or entry.path is None:
            return name, None
        folder = model_folder(name, entry.path)
        if folder is not None:
            return str(folder), None
        if any(model.name == name for model in self._demo_models()):
            return name, None
        if model_names.hub_repository(name) is not None:
            return name, None
        where = "cfg.json" if entry.conversion is None else f"{entry.path.name}'s {SIDECAR}"
        return name, (
            f"its config names the model {name!r}, which is neither a Hugging Face folder near "
            f"{entry.path}, nor a demo model, nor known to transformer_lens; put the model's "
            f"folder beside the SAE or correct model_name in {where}."
        )

    def _model_of_user(self, name: str) -> ModelEntry:
        folder = existing_folder(Path(name))
        return pretrained.hub_model(name) if folder is None else _folder_model(folder)


def _folder_model(folder: Path) -> ModelEntry:
    return ModelEntry(name=str(folder), source="user", title=folder.name, path=folder)


def _similar(name: str, known: list[str]) -> str:
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
    names = [lowered[match] for match in close] or known[:3]
    return f"did you mean {', '.join(names)}?" if names else "there is none at all."
