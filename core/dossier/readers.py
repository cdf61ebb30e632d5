"""What readers had tried or told of a latent, as chapters behind those of its evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.dossier.blocks import Block, Chapter, Grid, Numbers, Prose, Texts
from core.dossier.trial import TRIAL_COLUMNS, VERDICTS, Trial

_IN_FULL = 5


@dataclass(frozen=True)
class Told:
    """What a chat model wrote."""

    text: str
    """Its text."""
    model: str
    """The service's name of the model."""
    when: str
    """Time, ISO 8601 in UTC."""
    foreign: tuple[str, ...]
    """Numbers in the text that do not stand in the evidence."""

    @property
    def mark(self) -> str:
        """What stands above the text, wherever it is shown."""
        warning = (
            f" Numbers that are not in the evidence: {', '.join(self.foreign)}."
            if self.foreign
            else ""
        )
        return (
            f"Written by {self.model} on {self.when[:10]}, at a reader's request, from the "
            f"evidence on this page alone. It is no line of evidence, and the conclusion does not "
            f"rest on it.{warning}"
        )


def readers_chapters(trials: Sequence[Trial], told: Told | None) -> tuple[Chapter, ...]:
    """The trials, the latest in full, and what a chat model wrote; those that there are."""
    found = []
    if trials:
        rows = tuple(it.cells() for it in trials)
        blocks: list[Block] = [Grid("All trials", TRIAL_COLUMNS, rows, wraps=True)]
        for trial in trials[:_IN_FULL]:
            blocks += trial_blocks(trial)
        title, question = "Hypotheses tried", "Where do readers say that it fires, and does it?"
        found.append(Chapter("trials", title, question, tuple(blocks)))
    if told is not None:
        paragraphs = [Prose(it.strip()) for it in told.text.split("\n\n") if it.strip()]
        question = "What does a chat model make of the evidence?"
        blocks = [Prose(told.mark), *paragraphs]
        found.append(Chapter("told", "Told by a chat model", question, tuple(blocks)))
    return tuple(found)


def trial_blocks(trial: Trial) -> tuple[Block, ...]:
    """One trial in full."""
    return (
        Prose(f"“{trial.hypothesis}”: {trial.verdict}. {VERDICTS[trial.verdict]}"),
        Prose(
            f"Read as {trial.reads_as.rstrip('.')}. Tried on {trial.n:,} {trial.unit} of "
            f"{trial.text}."
        ),
        Numbers(trial.measures),
        Texts("It names this, and the latent is silent", trial.silent, trial.peak),
        Texts("The latent fires here, and it does not name it", trial.missed, trial.peak),
    )
