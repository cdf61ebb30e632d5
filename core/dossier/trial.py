"""A hypothesis tried on held-out text: how often it is right, beside latents that fire as often."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Bool, Float, Int

from core.dossier.controls import nearest_by_rate
from core.dossier.hypothesis import Hypothesis, Prediction, predict
from core.dossier.measure import LEVEL, Measure, wilson
from core.dossier.shared import Shared, Units
from core.dossier.texts import ACTIVE, STRONG
from core.dossier.trial_examples import worst_mistakes
from core.latent.examples import ExampleRow
from core.steering.run import HELD_OUT_PACKAGES

N_NULL = 99
"""Random latents that a prediction is held against: the closest by their rate on the text."""
_DRAWS = 1000
VERDICTS = {
    "fits": "It fits: at least half of what it names fires, and at least half of what fires is "
    "named (whole intervals above 30 %), both beyond 95 % of the random latents.",
    "too wide": "It is too wide: it names most of where the latent fires, and the latent is silent "
    "at most of what it names.",
    "too narrow": "It is too narrow: the latent fires at what it names, and mostly elsewhere.",
    "beyond chance": "It is right more often than for 95 % of random latents, but the latent is "
    "silent at much of what it names, and fires at much that it does not name.",
    "like chance": "It fits this latent no better than random latents that fire as often.",
    "says nothing": "It names nothing in the held-out text, or the latent does not fire there.",
}
"""What a trial can come to, by stated rules."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One hypothesis and how it did; kept with its author."""

    when: str
    """Time, ISO 8601 in UTC."""
    who: str
    """Who tried it; may be empty."""
    kind: str
    """One of `core.dossier.view.KINDS`."""
    hypothesis: str
    """As it was typed."""
    judge: str
    """`tokens, exactly`, `words, offline`, or the name of a chat model."""
    reads_as: str
    """How the hypothesis was read."""
    text: str
    """The held-out text."""
    unit: str
    """What was told: tokens, words or texts."""
    n: int
    """How many of them."""
    verdict: str
    """One of `VERDICTS`."""
    measures: tuple[Measure, ...]
    """Precision, recall and the like, with intervals and what random latents reach."""
    silent: tuple[ExampleRow, ...]
    """What it names and where the latent is silent: the commonest mistakes first."""
    missed: tuple[ExampleRow, ...]
    """Where the latent fires and what it does not name, the strongest first."""
    peak: float
    """Activation of the full shade."""

    def cells(self) -> tuple[str, ...]:
        """As a line of a table: when, who, hypothesis, judge, precision, recall, verdict."""
        shares = {it.name: f"{it.value:.0%}" if it.known else "–" for it in self.measures}
        when = self.when[:16].replace("T", " ")
        return (
            *(when, self.who, self.hypothesis, self.judge),
            *(shares.get("precision", "–"), shares.get("recall", "–"), self.verdict),
        )


TRIAL_COLUMNS = ("when", "who", "hypothesis", "judge", "precision", "recall", "verdict")
"""Columns of `Trial.cells`."""


def try_hypothesis(shared: Shared, latent: int, hypothesis: Hypothesis, *, who: str = "") -> Trial:
    """The trial of a hypothesis, told exactly or by the offline judge.

    Raises ValueError for a latent that never fires on the text that was read, and as `predict`.
    """
    units = shared.own
    check_fires(units, latent)
    found = predict(hypothesis, units)
    some = [latent, *null_latents(units, latent)]
    weak, strong = (_fires(units, found, some, share) for share in (ACTIVE, STRONG))
    measures = _measures(found, weak, strong)
    silent, missed = worst_mistakes(units, found, latent)
    return Trial(
        when=now(),
        who=who,
        kind=hypothesis.kind,
        hypothesis=hypothesis.text.strip(),
        judge="tokens, exactly" if hypothesis.kind == "tokens" else "words, offline",
        reads_as=found.reads_as,
        text=held_out_name(),
        unit=found.unit,
        n=len(found.said),
        verdict=verdict_of(measures),
        measures=measures,
        silent=silent,
        missed=missed,
        peak=float(units.whole.peak[latent]),
    )


def check_fires(units: Units, latent: int) -> None:
    """Raises ValueError for a latent that does not exist, or never fires on the text."""
    if not 0 <= latent < units.index.d_sae:
        raise ValueError(f"There is no latent {latent}; choose 0 to {units.index.d_sae - 1:,}.")
    if not units.whole.peak[latent] > 0:
        raise ValueError(
            f"Latent {latent} never fires on this text, so no hypothesis can be tried; read a "
            "longer text."
        )


def null_latents(units: Units, latent: int, *, n: int = N_NULL) -> list[int]:
    """Other latents whose rate on the held-out text is closest, those that never fire left out."""
    rates = units.held_out.firings.frequency()
    alive = np.flatnonzero((rates > 0) & (units.whole.peak > 0))
    own = np.flatnonzero(alive == latent).tolist()
    near = nearest_by_rate(float(rates[latent]), rates[alive], n=n, leave=own)
    return [int(it) for it in alive[near]]


def verdict_of(measures: Sequence[Measure]) -> str:
    """One of `VERDICTS`, from precision and recall alone."""
    by_name = {it.name: it for it in measures}
    precision, recall = by_name["precision"], by_name["recall"]
    if not (precision.known and recall.known):
        return "says nothing"
    right, found = (it.value >= 0.5 and it.low > 0.3 for it in (precision, recall))
    beyond = all(it.p("latents") <= LEVEL for it in (precision, recall))
    if not beyond:
        return "like chance"
    if right and found:
        return "fits"
    if found:
        return "too wide"
    return "too narrow" if right else "beyond chance"


def held_out_name() -> str:
    """What the held-out text is."""
    return f"documentation of {' and '.join(HELD_OUT_PACKAGES)}"


def now() -> str:
    """The time as trials keep it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def share_by_row(
    hits: Bool[np.ndarray, " n"], among: Bool[np.ndarray, " n"], row_of: Int[np.ndarray, " n"]
) -> tuple[float, float, float]:
    """The share of `among` that are `hits`, and its 95 % interval.

    Units of one row are alike, so the interval is the wider of Wilson's and that of rows drawn with
    replacement; NaN of nothing.
    """
    n, k = int(among.sum()), int((hits & among).sum())
    low, high = wilson(k, n)
    if n == 0:
        return float("nan"), low, high
    rows = int(row_of.max()) + 1
    counts = np.stack(
        [np.bincount(row_of, weights=it, minlength=rows) for it in (hits & among, among)], axis=1
    )
    counts = counts[counts[:, 1] > 0]
    m = len(counts)
    weights = np.random.default_rng(0).multinomial(m, np.full(m, 1 / m), size=_DRAWS)
    right, whole = (weights @ counts).T
    drawn = np.quantile(right / whole, (0.025, 0.975))
    return k / n, min(low, float(drawn[0])), max(high, float(drawn[1]))


def _fires(
    units: Units, found: Prediction, latents: Sequence[int], share: float
) -> Bool[np.ndarray, "n_units n_latents"]:
    """Where each latent reaches a share of its largest activation on the text that was read."""
    acts = units.held_out.firings.latents.tocsc()[:, list(latents)].tocoo()
    bound = share * units.whole.peak[list(latents)]
    fires = np.zeros((len(found.said), len(latents)), dtype=bool)
    kept = acts.data > bound[acts.coords[1]]
    fires[found.unit_of[acts.coords[0][kept]], acts.coords[1][kept]] = True
    return fires


def _measures(found: Prediction, weak: np.ndarray, strong: np.ndarray) -> tuple[Measure, ...]:
    said, rows, unit = found.said, found.row_of, found.unit
    n_said = int(said.sum())
    hits, active = ((said[:, None] & weak).sum(0), weak.sum(0))
    strongly, both = strong.sum(0), (said[:, None] & strong).sum(0)

    def measure(
        name: str, title: str, right: np.ndarray, among: np.ndarray, of: str, null: np.ndarray
    ) -> Measure:
        value, low, high = share_by_row(right, among, rows)
        others = tuple(float(it) for it in null[1:] if np.isfinite(it))
        n = int(among.sum())
        return Measure(name, title, value, low, high, n, of, latents=others, is_share=True)

    own, own_strong = weak[:, 0], strong[:, 0]
    everything = np.ones(len(said), dtype=bool)
    return (
        measure(
            "precision",
            f"Of the {unit} that it names, those at which the latent fires",
            *(own, said, f"{unit} named"),
            hits / n_said if n_said else np.full(len(hits), np.nan),
        ),
        measure(
            "recall",
            f"Of the {unit} at which the latent fires, those that it names",
            *(said, own, f"{unit} at which it fires"),
            _divided(hits, active),
        ),
        measure(
            "recall_strong",
            f"Of the {unit} at which it fires strongly, those that it names",
            *(said, own_strong, f"{unit} at which it reaches half its largest activation"),
            _divided(both, strongly),
        ),
        measure(
            "base",
            f"{unit.capitalize()} at which the latent fires: what naming at random would hit",
            *(own, everything, unit),
            active / max(1, len(said)),
        ),
    )


def _divided(hits: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " n"]:
    return np.where(whole > 0, hits / np.maximum(whole, 1), np.nan)
