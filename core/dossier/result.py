"""A dossier: the sections that there are, and why others are not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from core.dossier.belongs import Belongs
from core.dossier.beside import Beside
from core.dossier.hides import Hides
from core.dossier.kept_steering import KeptSteering
from core.dossier.measure import Measure
from core.dossier.reads import Reads
from core.dossier.request import PARTS, DossierRequest
from core.dossier.says import Says
from core.dossier.works import Works
from core.dossier.writes import Writes
from core.fit_check.result import FitCheck

Section = Reads | Writes | Says | Belongs | Hides | Works


@dataclass(frozen=True, eq=False)
class Dossier:
    """Everything that is known of one latent."""

    request: DossierRequest
    """What was asked."""
    reads: Reads | None = None
    """What it responds to."""
    writes: Writes | None = None
    """What it does to the output."""
    says: Says | None = None
    """What is said of it."""
    belongs: Belongs | None = None
    """Its kin."""
    hides: Hides | None = None
    """Its exceptions."""
    works: Works | None = None
    """What feeds it, and what it feeds."""
    fit: FitCheck | None = None
    """Whether its SAE is read where it was trained."""
    beside: Beside = field(default_factory=Beside)
    """What longer runs about the whole SAE say of it."""
    not_run: Mapping[str, str] = field(default_factory=dict)
    """Parts that cannot be made, by name, and why."""
    kept: KeptSteering | None = None
    """What a reader steered it to, and kept for here."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """What it was made with: fingerprints of model and SAE, the text, versions of packages."""

    def section(self, part: str) -> Section | None:
        """A section by the name of its part."""
        found: Section | None = getattr(self, part)
        return found

    @property
    def missing(self) -> tuple[str, ...]:
        """Parts that were neither made nor found to be impossible."""
        return tuple(
            part for part in PARTS if self.section(part) is None and part not in self.not_run
        )

    def measures(self) -> Iterator[tuple[str, Measure]]:
        """Every number, with the name of its part."""
        for part in PARTS:
            section = self.section(part)
            if section is None:
                continue
            for measure in section.measures:
                yield part, measure
            for said in self.says.said if part == "says" and self.says is not None else ():
                for it in (
                    said.detection,
                    said.fuzzing,
                    said.neighbours,
                    said.precision,
                    said.recall,
                    said.output,
                ):
                    yield f"{part}: {said.source}", it
