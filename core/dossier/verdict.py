"""What each line of evidence says of the latent's explanation, by stated rules.

A line agrees, disagrees or is silent. The rules are those of `RULES`, in words that the page shows;
they look at nothing but the numbers of the sections, so the same dossier always gives the same
verdict, and a table of planted numbers tests it (`tests/test_dossier_verdict.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.dossier import judge_firing as firing
from core.dossier import judge_meaning as meaning
from core.dossier.judging import Found, Stand, not_there
from core.dossier.result import Dossier

DENSE = 0.1
"""Share of positions above which a latent fires nearly everywhere."""


@dataclass(frozen=True)
class Line:
    """One line of evidence."""

    name: str
    """Which."""
    title: str
    """What it is called."""
    part: str
    """Section that it is from."""
    stand: Stand
    """What it says of the explanation."""
    why: str
    """The numbers that decide, in a sentence."""
    change: str
    """What would change it, to follow "if"; empty where it agrees."""


RULES = {
    "examples": "Its strongest examples: agrees where their commonest token is commoner than among "
    "95 % of random directions that fire as often; disagrees where the pattern is mixed and no "
    "random direction is less of one kind.",
    "detection": "Detection: agrees where the balanced accuracy is above 50 % with its whole "
    "interval and beyond 95 % of random directions; disagrees where the interval ends below 60 %.",
    "tokens": "Fuzzing: agrees where the marked token is told right above 50 % with the whole "
    "interval; disagrees where the interval ends below 60 %.",
    "neighbours": "Neighbours: agrees where its texts are told from its nearest latents' above "
    "50 % with the whole interval; disagrees where the interval ends below 60 %.",
    "held_out": "Held-out text: agrees where it fires on at least half of the words that the "
    "description names (whole interval above 30 %); disagrees where the interval ends below 30 %.",
    "misses": "Misses: agrees where the description names at least half of the words at which it "
    "fires strongly (whole interval above 30 %); disagrees where the interval ends below 30 %.",
    "weak": "Weak activations: agrees where most weak examples are on tokens of the strong ones; "
    "disagrees where fewer are than in 95 % of random latents that fire as often.",
    "lens": "Logit lens: agrees where it pushes the tokens of its examples, or those behind them, "
    "more than 95 % of random latents do; disagrees where few tokens stand out of its effects more "
    "than for 95 % of random directions and none of these examples holds one.",
    "steering": "Steering: agrees where it makes the model say what it pushes (output score at an "
    "equal change of the predictions), beyond 95 % of random directions; else silent.",
    "removal": "Removal: agrees where the prediction at its peaks changes more than for every "
    "random direction, with the whole interval above their mean; else silent.",
    "model": "What the model says: agrees where it stands out from random directions and is like "
    "the model's own definition of the latent's word (F1 of 0.4 or more, beyond 95 % of other "
    "words), or names its tokens more than those of 95 % of other latents; disagrees where it "
    "stands out and is like the definition of another latent's word; else silent.",
    "sources": "Descriptions: agrees where they share more words than with 95 % of random latents' "
    "descriptions; disagrees where they share no word; silent for fewer than two.",
    "exceptions": "Exceptions: disagrees where its firing fits a kind of tokens and it fires at "
    "fewer than half of them with the whole interval; agrees where it fires at more than half; "
    "silent where no kind fits.",
    "circuit": "What feeds it: agrees where the same latent feeds it in most examples and ablation "
    "confirms the gradients (correlation of 0.6 or more); else silent.",
}
"""How each line is judged, in words."""


def lines_of(dossier: Dossier) -> tuple[Line, ...]:
    """All lines of evidence, in the order of `RULES`; those of missing sections are silent."""
    return tuple(_judged(dossier, name) for name in _JUDGES)


def _judged(dossier: Dossier, name: str) -> Line:
    part = PART_OF[name]
    section = getattr(dossier, part)
    stand, why, change = not_there(dossier, part) if section is None else _JUDGES[name](section)
    title = RULES[name].split(":")[0]
    return Line(name, title, part, stand, why, "" if stand == "agrees" else change)


_JUDGES: dict[str, Callable[[Any], Found]] = {
    "examples": firing.examples,
    "detection": firing.detection,
    "tokens": firing.fuzzing,
    "neighbours": firing.neighbours,
    "held_out": firing.held_out,
    "misses": firing.misses,
    "weak": firing.weak,
    "lens": meaning.lens,
    "steering": meaning.steering,
    "removal": meaning.removal,
    "model": meaning.model,
    "sources": meaning.sources,
    "exceptions": meaning.exceptions,
    "circuit": meaning.circuit,
}
"""The rule of each line, which is given the section of `PART_OF`."""
PART_OF = {
    **dict.fromkeys(("examples", "weak"), "reads"),
    **dict.fromkeys(("lens", "steering", "removal"), "writes"),
    **dict.fromkeys(
        ("detection", "tokens", "neighbours", "held_out", "misses", "model", "sources"), "says"
    ),
    "exceptions": "hides",
    "circuit": "works",
}
"""Section that each line is from."""
