"""What the figures of a fit check mean, in sentences."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.fit_check.result import Fit, FitCheck

FEWEST_TOKENS, FEWEST_DISTINCT, FEWEST_ROWS = 100, 30, 2
"""Below these, a text is too short or too monotonous to judge an SAE by."""
FACTOR = 3.0
"""L0 that differs from what is declared by more than this is warned about."""
BETTER, BETTER_WITH_BOS, BETTER_WITHOUT_BOS = 0.85, 0.8, 0.7
"""An input fits clearly better when it leaves less than this share of what is unexplained now.

BOS moves the variance of the first tokens itself, and few SAEs are trained without.
"""
MUCH_BETTER, MORE_ACTIVE = 0.5, 1.2
"""Shares of the unexplained and of the active latents, for SAEs whose L0 depends on the input."""
AS_GOOD, NEARLY_AS_GOOD = 1.1, 1.25
"""Of inputs that differ by less than this, the one that explains most simply is named."""


@dataclass(frozen=True)
class FitSentences:
    """Sentences."""

    warnings: tuple[str, ...]
    """Why the SAE looks as if it were read at the wrong place."""
    notes: tuple[str, ...]
    """What could not be judged, and why."""


def sentences_of(check: "FitCheck", *, n_distinct: int, rows: int) -> FitSentences:
    """The sentences for a check on a text of `rows` rows and `n_distinct` different tokens."""
    n = f"{check.n_tokens:,} tokens"
    if check.dead_fraction == 1.0:
        sentence = (
            f"No latent is active at any of {n}: this SAE is read at the wrong place or on the "
            "wrong scale, or its weights are those of an untrained one."
        )
        return FitSentences((_with_remedy(sentence, check),), ())
    few = check.n_tokens < FEWEST_TOKENS or n_distinct < FEWEST_DISTINCT or rows < FEWEST_ROWS
    if few:
        note = (
            f"The text has {n} ({n_distinct} different ones) in {rows} rows, too few to judge "
            "whether the SAE is read where it was trained."
        )
        return FitSentences((), (note,))
    notes = []
    if check.loss_recovered is None and check.loss_tokens:
        notes.append(
            "Loss recovered cannot be told: the model predicts this text no worse with zeros in "
            f"place of {check.hook_name_out}."
        )
    if check.fvu is None and check.own is not None:
        notes.append(
            f"{check.hook_name_out} holds the same numbers at every token of this text, so there "
            "is no variance to explain."
        )
    signs = _signs(check)
    better = _better(check)
    if not signs and better is None:
        return FitSentences((), tuple(notes))
    sentence = f"This SAE does not seem to be read where it was trained (on {n})"
    sentence += f": {', and '.join(signs)}." if signs else "."
    return FitSentences((_with_remedy(sentence, check),), tuple(notes))


def _signs(check: "FitCheck") -> list[str]:
    """What is wrong with the figures themselves, whatever else might fit."""
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
    return signs


def _with_remedy(sentence: str, check: "FitCheck") -> str:
    if check.own is None:
        return sentence
    better = _better(check)
    if better is None:
        return (
            f"{sentence} None of the neighbouring sites and normalisations that were tried fits "
            "better; see where and on which model it was trained."
        )
    n = f"{check.compared_tokens:,} tokens"
    return (
        f"{sentence} It fits better {better.words}: {better.fvu.value:.3g} of the variance is "
        f"unexplained there, {check.own.fvu.value:.3g} as it is read now (compared on {n}). "
        f"{_remedy(better, check.own)}"
    )


def _remedy(better: "Fit", own: "Fit") -> str:
    """Where a user's own SAE says what seems wrong."""
    if better.change:
        name, value = "prepend_bos", json.dumps(better.change == "with BOS")
    elif better.hook_name != own.hook_name:
        name, value = "hook_name", json.dumps(better.hook_name)
    elif better.normalisation:
        name, value = "normalize_activations", json.dumps(better.normalisation)
    else:
        return "If it is yours, see how its input was scaled when it was trained."
    return (
        f'If it is yours, put "{name}": {value} into its cfg.json, or in formats other than '
        "sae_lens' into an explorer.json beside it."
    )


def _better(check: "FitCheck") -> "Fit | None":
    """The alternative that fits clearly better, or None; the simplest of those that are as good."""
    own = check.own
    if own is None:
        return None
    good = [fit for fit in check.alternatives if _is_better(fit, own, lost=bool(_signs(check)))]
    if not good:
        return None
    best = good[0].fvu.value
    as_good = [fit for fit in good if fit.fvu.value <= NEARLY_AS_GOOD * best]
    return min(as_good, key=lambda fit: (_oddity(fit, own, best), fit.fvu.value))


def _oddity(fit: "Fit", own: "Fit", best: float) -> int:
    """How much has to be wrong for this to be the reason: the least wins among nearly equals."""
    if fit.hook_name == own.hook_name:
        return 0 if fit.fvu.value <= AS_GOOD * best else 3
    site, said = (name.split(".", 2)[-1] for name in (fit.hook_name, own.hook_name))
    if site == said:
        return 1
    # What a norm makes of the stream is so like it that SAEs of one fit the other.
    return 3 if site.endswith("hook_normalized") else 2


def _is_better(fit: "Fit", own: "Fit", *, lost: bool) -> bool:
    """Whether an input fits clearly better, not just because more latents take part.

    An SAE with thresholds explains more when its input is larger, trained so or not. So an input
    that makes more latents active does not count, unless the SAE is `lost` where it is read, or,
    at another site, less than half remains unexplained.
    """
    if not fit.surely_better or fit.fvu.value >= min(1.0, _share(fit) * own.fvu.value):
        return False
    elsewhere = fit.hook_name != own.hook_name and fit.fvu.value < MUCH_BETTER * own.fvu.value
    return lost or elsewhere or fit.l0 <= MORE_ACTIVE * own.l0


def _share(fit: "Fit") -> float:
    return {"with BOS": BETTER_WITH_BOS, "without BOS": BETTER_WITHOUT_BOS}.get(fit.change, BETTER)
