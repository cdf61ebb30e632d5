"""What the figures of a fit check mean, in sentences."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.fit_check import FitCheck

FEWEST_TOKENS, FEWEST_DISTINCT, FEWEST_ROWS = 100, 30, 2
"""Below these, a text is too short or too monotonous to judge an SAE by."""
FACTOR = 3.0
"""L0 that differs from what is declared by more than this is warned about."""
BETTER = 0.85
"""An input fits clearly better when it leaves less than this share of the variance unexplained."""


@dataclass(frozen=True)
class FitWords:
    """Sentences."""

    warnings: tuple[str, ...]
    """Why the SAE looks as if it were read at the wrong place."""
    notes: tuple[str, ...]
    """What could not be judged, and why."""


def warnings_of(check: "FitCheck", *, n_distinct: int, rows: int) -> FitWords:
    """The sentences for a check on a text of `rows` rows and `n_distinct` different tokens."""
    n = f"{check.n_tokens:,} tokens"
    if check.dead_fraction == 1.0:
        sentence = (
            f"No latent is active at any of {n}: this SAE is read at the wrong place or on the "
            "wrong scale, or its weights are those of an untrained one."
        )
        return FitWords((_with_remedy(sentence, check),), ())
    few = check.n_tokens < FEWEST_TOKENS or n_distinct < FEWEST_DISTINCT or rows < FEWEST_ROWS
    if few:
        note = (
            f"The text has {n} ({n_distinct} different ones) in {rows} rows, too few to judge "
            "whether the SAE is read where it was trained."
        )
        return FitWords((), (note,))
    notes = []
    if check.fvu is None and check.own is not None:
        notes.append(
            f"{check.hook_name_out} holds the same numbers at every token of this text, so there "
            "is no variance to explain."
        )
    signs = []
    declared = check.declared_l0
    if declared and (check.l0.low > FACTOR * declared or check.l0.high < declared / FACTOR):
        signs.append(
            f"{check.l0.value:.3g} latents are active per token, where {declared:.3g} were declared"
        )
    if check.fvu is not None and check.fvu.value > 1 and check.fvu.low > 1:
        signs.append(
            f"what it writes is further from {check.hook_name_out} than the mean is "
            f"({check.fvu.value:.3g} of the variance is unexplained)"
        )
    better = _better(check)
    if not signs and better is None:
        return FitWords((), tuple(notes))
    sentence = f"This SAE does not seem to be read where it was trained (on {n})"
    sentence += f": {', and '.join(signs)}." if signs else "."
    return FitWords((_with_remedy(sentence, check),), tuple(notes))


def _with_remedy(sentence: str, check: "FitCheck") -> str:
    better = _better(check)
    if better is None or check.own is None:
        if check.own is None:
            return sentence
        return (
            f"{sentence} None of the neighbouring sites and normalisations that were tried fits "
            "better; see where and on which model it was trained."
        )
    return (
        f"{sentence} It fits {better.words} better: {better.fvu.value:.3g} of the variance "
        f"is unexplained there, {check.own.fvu.value:.3g} as it is read now. Correct its config."
    )


def _better(check: "FitCheck"):  # type: ignore[no-untyped-def]
    """The alternative that fits clearly better, or None."""
    own = check.own
    if own is None:
        return None
    best = next(iter(check.alternatives), None)
    if best is None or not best.surely_better or best.fvu.value > 1:
        return None
    return best if best.fvu.value < BETTER * own.fvu.value else None
