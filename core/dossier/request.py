"""What a dossier is asked for: everything that its result depends on."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # brings torch, and the page is drawn before that is there
    from core.corpus.documents import Corpus

PARTS = ("reads", "writes", "says", "belongs", "hides", "works")
"""Sections that are computed, in their order."""
TITLES = {
    "reads": "Reads",
    "writes": "Writes",
    "says": "Says",
    "belongs": "Belongs",
    "hides": "Hides",
    "works": "Works",
}
"""What they are called."""
TOKENS = 200_000
"""Text that is read, in tokens: as much as for the dashboards, which share the index."""

SaeVersion = tuple[str, str, str]
"""`(release, sae_id, version)`."""


@dataclass(frozen=True)
class DossierRequest:
    """One latent, and what it is looked at with."""

    model: str
    """Name of the model."""
    sae: SaeVersion
    """The latent's SAE."""
    latent: int
    """The latent."""
    corpus: "Corpus" = field(compare=False)
    """The text that is read."""
    tokens: int = TOKENS
    """How much of it."""
    speaker: str = ""
    """Model that says itself what the latent means; empty where there is none."""
    speaker_layers: tuple[int, ...] = ()
    """Layers before which the latent is put into it."""
    family: tuple[SaeVersion, ...] = ()
    """SAEs of other widths at the same site, narrowest first, the latent's own among them; empty
    where there are none."""
    before: SaeVersion | None = None
    """The nearest SAE that the model passes earlier; None where there is none."""
    after: SaeVersion | None = None
    """The nearest one that it passes later."""
    speaker_by: str = "combined"
    """How the text of the model that speaks is chosen (`core.patch_scoping.choice`)."""
    texts: tuple[tuple[str, str], ...] = ()
    """`(source, text)`: what others say of the latent (`yours`, `neuronpedia`, a chat model), to be
    scored beside the rest."""
    seed: int = 0
    """Of the random latents, directions and examples."""

    def __post_init__(self) -> None:
        if self.latent < 0:
            raise ValueError(f"The latent is {self.latent}; give a number from 0 up.")
        if self.tokens < 1000:
            raise ValueError(f"{self.tokens} tokens are too few to judge by; read 1,000 or more.")

    @property
    def sae_name(self) -> tuple[str, str]:
        """`(release, sae_id)`, as a lease takes it."""
        return self.sae[:2]

    @property
    def family_names(self) -> list[tuple[str, str]]:
        """`(release, sae_id)` of the family, the latent's own first."""
        others = [it[:2] for it in self.family if it[:2] != self.sae_name]
        return [self.sae_name, *others]

    @property
    def key(self) -> str:
        """Key of the job: two users who want the same share it."""
        return "dossier:" + self.digest()

    def digest(self, part: str = "") -> str:
        """What names the request, or what one part of it depends on, by names and versions."""
        plain = {name: value for name, value in vars(self).items() if name != "corpus"}
        if part:
            unused = {it for other, names in _USED.items() if other != part for it in names}
            plain = {n: v for n, v in plain.items() if n not in unused - set(_USED.get(part, ()))}
        text = json.dumps([plain, self.corpus.digest, part], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def of(self, latent: int, texts: tuple[tuple[str, str], ...] = ()) -> "DossierRequest":
        """The same of another latent of the SAE, of which others say other things."""
        return replace(self, latent=latent, texts=texts)


_USED = {
    "reads": (),
    "writes": (),
    "says": ("speaker", "speaker_layers", "speaker_by", "texts"),
    "belongs": ("family",),
    "hides": (),
    "works": ("before", "after"),
}
"""Fields of a request that one part alone depends on."""
