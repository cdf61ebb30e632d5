"""Rules for the lines of evidence on where the latent fires."""

import math

from core.dossier.judging import FEW, Found, beside, interval, number, silent
from core.dossier.measure import LEVEL, Measure, named
from core.dossier.reads import Reads
from core.dossier.says import Says

_NOTHING_NAMED = (
    "No description names anything to look for: its examples have nothing in common by their words."
)


def examples(reads: Reads) -> Found:
    """Whether the strongest examples are of one kind, beyond random directions."""
    purity = named(reads.measures, "purity")
    n = 0 if purity is None else purity.n
    if purity is None or n < FEW:
        return silent(f"There are {n} examples; {FEW} are needed.", "more text were read")
    p = purity.p()
    why = f"{number(purity)} of {n} strongest examples on one token; {beside(purity, p)}."
    if reads.pattern.kind not in ("mixed", "none") and p <= LEVEL:
        return "agrees", why, ""
    if reads.pattern.kind == "mixed" and p > 0.5:
        return "disagrees", why, "examples of another text had a token in common"
    return silent(why, "its examples had more in common than those of random directions")


def weak(reads: Reads) -> Found:
    """Whether weak activations read what strong ones do."""
    measure = named(reads.measures, "weak_same")
    if measure is None or measure.n < FEW:
        return silent("Too few weak examples.", "more text were read")
    chance = measure.chance("latents")
    why = (
        f"{number(measure)} of {measure.n} weak examples are on tokens of the strong ones; of "
        f"random latents {chance:.0%}."
    )
    if measure.low > 0.5:
        return "agrees", why, ""
    if measure.p("latents", above=False) <= LEVEL and measure.high < chance:
        return "disagrees", why, "the explanation covered what its weak activations read"
    return silent(why, "weak and strong activations were of one kind")


def detection(says: Says) -> Found:
    """Whether the best description tells texts in which it fires."""
    return _accuracy(says, "detection", "texts", beyond=True)


def fuzzing(says: Says) -> Found:
    """Whether it tells at which token it fires."""
    return _accuracy(says, "fuzzing", "marks", beyond=False)


def neighbours(says: Says) -> Found:
    """Whether it tells its texts from those of the nearest latents."""
    words = "its own and its neighbours' texts"
    return _accuracy(says, "neighbours", words, beyond=False)


def held_out(says: Says) -> Found:
    """Whether it fires on what the description names, on text that nothing was made from."""
    return _held_out(says, "precision", "of the words that it names make the latent fire")


def misses(says: Says) -> Found:
    """Whether the description names what it fires on there."""
    return _held_out(says, "recall", "of the words at which it fires strongly are named")


def _accuracy(says: Says, name: str, words: str, *, beyond: bool) -> Found:
    best = says.best
    if best is None or not best.names_something:
        return silent(_NOTHING_NAMED, "somebody described it in words that can be looked for")
    measure: Measure = getattr(best, name)
    if not measure.known:
        return silent(f"No score for {words}.", "there were examples of both kinds to tell apart")
    p = measure.p()
    why = f"{number(measure)} of {words} told right {interval(measure)}, n = {measure.n}"
    why += f"; {beside(measure, p)}." if math.isfinite(p) else "."
    if measure.low > 0.5 and (not beyond or not math.isfinite(p) or p <= LEVEL):
        return "agrees", why, ""
    if measure.high < 0.6:
        return "disagrees", why, f"another description told {words} right"
    return silent(why, "more examples, or a better description, set it apart from chance")


def _held_out(says: Says, name: str, words: str) -> Found:
    best = says.best
    if best is None or not best.names_something:
        return silent(_NOTHING_NAMED, "somebody described it in words that can be looked for")
    measure: Measure = getattr(best, name)
    if measure.n < FEW:
        return silent(
            f"{measure.n} {measure.of} in the held-out text; {FEW} are needed.",
            "more held-out text were read",
        )
    why = f"{number(measure)} {words} {interval(measure)}, n = {measure.n}."
    if measure.value >= 0.5 and measure.low > 0.3:
        return "agrees", why, ""
    if measure.high < 0.3:
        return "disagrees", why, "the description were drawn narrower or wider"
    return silent(why, "more held-out text were read")
