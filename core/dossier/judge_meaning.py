"""Rules for the lines of evidence on what the latent writes, and what else is known of it."""

import math

from core.dossier.hides import Hides
from core.dossier.judging import FEW, Found, beside, interval, number, silent
from core.dossier.measure import LEVEL, named
from core.dossier.says import Says
from core.dossier.works import Works
from core.dossier.writes import Writes

_READ = 0.4
"""Word overlap from which on a text counts as the definition of a word."""


def lens(writes: Writes) -> Found:
    """Whether it pushes the tokens of its examples, or those behind them."""
    found = [named(writes.measures, name) for name in ("on_peak", "on_next")]
    both = [it for it in found if it is not None and it.known and it.n >= FEW]
    spread = named(writes.measures, "kurtosis")
    if not both or spread is None:
        return silent("Too few examples to compare with what it pushes.", "more text were read")
    best = min(both, key=lambda it: (it.p("latents"), -it.value))
    which = {"on_peak": "their own token", "on_next": "their next token"}[best.name]
    why = (
        f"It pushes {which} in {number(best)} of {best.n} strongest examples; random latents "
        f"{best.chance('latents'):.0%}, random directions {best.chance():.0%}."
    )
    stands_out = spread.p() <= LEVEL
    if best.low > 0 and best.value > 0 and (best.p("latents") <= LEVEL or best.value >= 0.5):
        return "agrees", why, ""
    if stands_out and all(it.value == 0 for it in both):
        return (
            "disagrees",
            f"{why} Yet few tokens stand far out of its effects (excess kurtosis "
            f"{spread.value:.2f}, random directions {spread.chance():.2f}).",
            "later layers were found to turn what it writes into something else",
        )
    return silent(why, "what it pushes stood out more from what random directions push")


def steering(writes: Writes) -> Found:
    """Whether it makes the model say what it pushes."""
    score, gain = (named(writes.measures, name) for name in ("output_score", "gain"))
    parts = []
    if score is not None and score.known:
        parts.append(f"output score {score.value:.3f}; {beside(score, score.p())}")
    if gain is not None and gain.known:
        parts.append(
            f"gain of its tokens {gain.value:.3f} {interval(gain)}, random directions "
            f"{gain.chance():.3f}"
        )
    why = f"At an equal change of the predictions: {'; '.join(parts)}." if parts else ""
    if not parts:
        return silent(writes.steer_problem or "There is no score.", "it could be steered with")
    if score is not None and score.known and score.p() <= LEVEL:
        return "agrees", why, ""
    return silent(why, "it made the model say what it pushes, more than random directions do")


def removal(writes: Writes) -> Found:
    """Whether the prediction at its peaks rests on it."""
    measure = named(writes.measures, "ablation")
    if measure is None or not measure.known or measure.n < 3:
        return silent("Too few examples to remove it in.", "more text were read")
    chance = measure.chance()
    why = (
        f"Removing it changes the prediction at its peaks by {measure.value:.3f} nats "
        f"{interval(measure)}, n = {measure.n}; random directions {chance:.3f}."
    )
    if measure.low > chance:
        return "agrees", why, ""
    return silent(why, "the model relied on it more than on random directions")


def model(says: Says) -> Found:
    """Whether the model itself says what the latent is about."""
    own = says.spoken
    said = next((it for it in says.said if it.source == "model"), None)
    if own is None or said is None:
        return silent(says.not_said.get("model", "The model says nothing."), "a model were asked")
    null, names = own.against_null, said.output.p("latents")
    text = f"“{said.text}” ({null.p:.0%} of directions speak as clearly)"
    if null.verdict != "stands out":
        return silent(f"{null.verdict}: {text}.", "it spoke more clearly than random directions")
    if own.p <= LEVEL and own.reading >= _READ:
        return (
            "agrees",
            f"{text} is like its own definition of “{own.word}” (F1 {own.reading:.2f}; the best "
            f"of {len(own.others)} other words {max(own.others.values(), default=0):.2f}).",
            "",
        )
    if said.output.value > 0 and names <= LEVEL:
        return (
            "agrees",
            f"{text} names {said.output.value:.0%} of the latent's tokens, as {names:.0%} of "
            "other latents' are.",
            "",
        )
    other = own.best_other
    reading = own.reading if math.isfinite(own.reading) else 0.0
    if other and own.others[other] >= _READ and own.others[other] > 2 * reading:
        whose = "a nearest latent's word" if other in own.nearest else "another latent's word"
        return (
            "disagrees",
            f"{text} is like the definition of “{other}”, {whose} (F1 {own.others[other]:.2f}; "
            f"of its own {reading:.2f}).",
            "the text were found to fit this latent in other words",
        )
    return silent(f"{text} names nothing of the latent.", "it named more of the latent's tokens")


def sources(says: Says) -> Found:
    """Whether the descriptions share words."""
    measure = named(says.measures, "agreement")
    if measure is None or not measure.known:
        return silent("There are fewer than two descriptions.", "somebody else described it")
    p = measure.p("latents")
    why = (
        f"Word overlap {measure.value:.2f} over {measure.n} pairs; with random latents' "
        f"descriptions {measure.chance('latents'):.2f}."
    )
    if measure.value > 0 and p <= LEVEL:
        return "agrees", why, ""
    if measure.value == 0 and len(says.said) > 2:
        return "disagrees", why, "the descriptions meant the same in other words"
    return silent(why, "the descriptions shared more words than with those of other latents")


def exceptions(hides: Hides) -> Found:
    """Whether it fires where its best kind of tokens says it should."""
    covers = named(hides.measures, "covers")
    if not hides.fits or covers is None or covers.n < FEW:
        return silent(
            f"No kind of tokens fits its firing (best: “{hides.concept}”, F1 {hides.fit:.2f}, by "
            f"chance {hides.chance_fit:.2f}).",
            "a set of tokens were known that it should fire on",
        )
    why = (
        f"It fires at {number(covers)} of the positions of “{hides.concept}”, "
        f"{interval(covers)}, n = {covers.n}."
    )
    if covers.high < 0.5:
        return "disagrees", why, "the exceptions were found to be of another kind"
    if covers.low > 0.5:
        return "agrees", why, ""
    return silent(why, "more text were read")


def circuit(works: Works) -> Found:
    """Whether the same latents feed it in all examples, by intervention too."""
    repeated, check = (named(works.measures, name) for name in ("repeated", "check_into"))
    if repeated is None or check is None or not repeated.known or not check.known:
        return silent(
            "There is no SAE in front of it whose latents could feed it.",
            "an SAE of an earlier layer were here",
        )
    why = (
        f"The strongest feeding latent is among the ten strongest in {number(repeated)} of "
        f"{repeated.n} examples; ablation against gradients: correlation {check.value:.2f} over "
        f"{check.n} interventions."
    )
    if repeated.value > 0.5 and check.value >= 0.6:
        return "agrees", why, ""
    return silent(why, "the same latents fed it in most examples, and ablation confirmed it")
