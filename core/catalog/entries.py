"""What the catalog lists: models, releases, SAEs and families of widths. Plain data."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

Source = Literal["demo", "user", "hub"]
NEURONPEDIA = "https://www.neuronpedia.org"


@dataclass(frozen=True)
class SaeEntry:
    """One SAE (or transcoder) that can be chosen, or the reason why it cannot."""

    release: str
    """Release it belongs to; for the user's own SAEs, the name of their folder."""
    sae_id: str
    """Name within the release; for the user's own SAEs, the path relative to their folder."""
    model: str
    """Name of the model it was trained on, as `Catalog.model` takes it."""
    source: Source
    """Whether it ships with the explorer, is the user's own, or is on the hub."""
    hook_name: str | None = None
    """Hook it is read at (`core.catalog.trained_sites`); a guess from the name until the SAE is
    loaded (hub only)."""
    layer: int | None = None
    """Layer of that hook."""
    head: int | None = None
    """Head of that hook that it reads alone, where the config tells; None for all of it."""
    width: int | None = None
    """Number of latents, where the name or the config tells."""
    d_in: int | None = None
    """Width of the activations it reads, where the config tells."""
    kind: str = "sae"
    """`sae`, or `transcoder` where input and output are different hooks."""
    architecture: str | None = None
    """sae_lens' name of the architecture, where the config tells."""
    l0: float | None = None
    """Mean number of active latents a token, as published or measured."""
    explained_variance: float | None = None
    """Fraction of the variance of the activations that it reconstructs."""
    loss_recovered: float | None = None
    """Fraction of the loss kept when its reconstruction replaces the activations."""
    dead_fraction: float | None = None
    """Fraction of latents that never fired when it was measured."""
    neuronpedia_id: str | None = None
    """`model/source` on Neuronpedia, where it has a dashboard."""
    repo_id: str | None = None
    """Hub repository of its weights."""
    repo_path: str | None = None
    """Folder or file inside that repository."""
    conversion: str | None = None
    """File format: sae_lens' loader for it (hub), or its name in `core.catalog.formats` (the user's
    own); None is sae_lens' own format."""
    path: Path | None = None
    """Folder on this machine, for the demo and the user's own SAEs; a weight file where a folder
    holds several SAEs."""
    version: str = ""
    """Changes when its file does (local ones only) and when it is read otherwise than its config
    says: part of whatever identifies its contents."""
    processing: tuple[tuple[str, object], ...] = ()
    """Weight processing that it asks of its model, as far as known before loading."""
    prepend_bos: bool = True
    """Whether its texts begin with BOS, where its tokenizer has one, as far as known before
    loading."""
    title: str = ""
    """A few words for people."""
    problem: str | None = None
    """Why it cannot be loaded; None for all that can."""

    @property
    def key(self) -> tuple[str, str]:
        """`(release, sae_id)`, which identifies it."""
        return self.release, self.sae_id

    @property
    def neuronpedia_url(self) -> str | None:
        """Page of its dashboard."""
        return f"{NEURONPEDIA}/{self.neuronpedia_id}" if self.neuronpedia_id else None

    @cached_property
    def haystack(self) -> str:
        """Everything a search looks at, in lower case."""
        width = "" if self.width is None else f"{self.width} {self.width // 1024}k"
        layer = "" if self.layer is None else f"layer {self.layer}"
        fields = (
            *(self.release, self.sae_id, self.model, self.source, self.hook_name, layer, width),
            *(self.kind, self.architecture, self.neuronpedia_id, self.repo_id, self.conversion),
            *(self.title, self.path and str(self.path), self.problem),
        )
        return " ".join(text for text in fields if text).lower()


@dataclass(frozen=True)
class ReleaseEntry:
    """SAEs published together."""

    release: str
    """Name, as sae_lens knows it, or the folder's."""
    model: str
    """Model of its SAEs."""
    source: Source
    """Where it comes from."""
    n_saes: int
    """SAEs in it, broken ones included."""
    title: str = ""
    """A few words for people."""
    repo_id: str | None = None
    """Hub repository."""
    problem: str | None = None
    """Why nothing in it can be loaded."""


@dataclass(frozen=True)
class ModelEntry:
    """A model that SAEs are listed for."""

    name: str
    """Name in links: transformer_lens' for hub models, the bundle's, or a folder."""
    source: Source
    """Where it comes from."""
    title: str = ""
    """A few words for people."""
    description: str = ""
    """A sentence for people."""
    repo_id: str | None = None
    """Hub repository of its weights."""
    path: Path | None = None
    """Hugging Face folder on this machine."""
    base_model: str | None = None
    """Model that it was tuned from, whose SAEs can be used with it."""
    gated: bool = False
    """Whether its publisher asks for a licence to be accepted (a guess from its publisher)."""
    problem: str | None = None
    """Why it cannot be loaded."""

    @property
    def location(self) -> str:
        """What `core.models.load_model` is given: its folder, or its name on the hub."""
        return str(self.path) if self.path else self.name


@dataclass(frozen=True)
class Family:
    """SAEs of one site that differ in width, for feature splitting."""

    model: str
    """Model of all of them."""
    hook_name: str
    """Hook that all of them read."""
    entries: tuple[SaeEntry, ...] = field(default=())
    """One SAE a width, narrowest first."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of latents, increasing."""
        return tuple(entry.width for entry in self.entries if entry.width is not None)
