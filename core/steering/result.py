"""What the page of steering shows: rows of interventions with what they do, and their texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.steering.prepare import Setting

MEASURED = (
    *("kl", "boosted", "gain", "gain_low", "gain_high", "loss_change", "loss_low", "loss_high"),
    *("distinct", "share", "perplexity", "own", "later", "n_texts"),
)
"""What is measured of a row; NaN of one whose texts are still being written."""


@dataclass(frozen=True, eq=False)
class SteerResult:
    """Rows of interventions with what they do, and their texts."""

    rows: pd.DataFrame
    """A row for each intervention, the unsteered one first: `row`, `kind` (unsteered, latent,
    random), `group`, `latents`, `strength` (as asked), `activation` (of the first latent; NaN
    where it differs by position), `kl`, `boosted` (probability of the group's boosted tokens;
    NaN unsteered where there are several groups),
    `gain` (over unsteered), `gain_low`, `gain_high`, `loss_change`, `loss_low`, `loss_high` (95 %
    intervals over held-out texts), `distinct`, `share` (of boosted tokens in the texts),
    `perplexity` (of the texts, by the unsteered model), `own` (mean activation of the group's first
    latent, read again from the steered stream on the reference text), `later` (the same of
    the nearest latent of the SAE behind it), `n_texts`."""
    texts: pd.DataFrame
    """`row`, `sample`, `text`."""
    prompt_texts: tuple[str, ...]
    """The tokens of the prompt as the model reads them."""
    boosted: tuple[str, ...]
    """The tokens that each group pushes most, as one text."""
    notes: tuple[str, ...]
    """What a reader should know, in sentences."""
    n_reference: int
    """Predictions over which the divergence is averaged."""
    n_held_out: int
    """Held-out texts."""
    later: tuple[str, ...]
    """For each group the latent that `later` is of, in words; "" where there is none."""
    n_rows: int
    """Rows that were asked for; fewer are there where the work was stopped."""

    @property
    def is_whole(self) -> bool:
        """Whether every row was written and measured."""
        return len(self.rows) == self.n_rows and bool(self.rows["n_texts"].notna().all())


def result_of(
    setting: Setting,
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[Mapping[str, Any]],
    *,
    n_groups: int,
    n_held_out: int,
    later: tuple[str, ...],
) -> SteerResult:
    """A result of what there is of rows and texts."""
    about = ["row", *setting.about[0]]
    table = pd.DataFrame(list(rows), columns=[*about, *MEASURED])
    numbers = table.columns.difference(["row", "kind", "group", "latents"])
    table = table.astype(dict.fromkeys(numbers, "float64"))
    if n_groups > 1:
        # Each group has tokens of its own, so one figure for the unsteered model would mislead.
        table.loc[table["kind"] == "unsteered", ["boosted", "share", "own", "later"]] = np.nan
    return SteerResult(
        rows=table,
        texts=pd.DataFrame(list(texts), columns=["row", "sample", "text"]),
        prompt_texts=setting.prompt_texts,
        boosted=setting.names,
        notes=setting.notes,
        n_reference=setting.reference.n,
        n_held_out=n_held_out,
        later=later,
        n_rows=len(setting.interventions),
    )
