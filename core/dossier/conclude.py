"""One conclusion from the lines of evidence: what sort of latent, how sure, what would change it.

Nothing is asked here and nothing is drawn by chance: the same lines give the same conclusion.
"""

import math
from dataclasses import dataclass
from typing import Literal

from core.dossier.judging import FEW, Stand
from core.dossier.measure import named
from core.dossier.result import Dossier
from core.dossier.sorts import beside_all, rather, sorts_of
from core.dossier.verdict import DENSE, Line, lines_of

Kind = Literal[
    "clear",
    "mostly clear",
    "contradictory",
    "open",
    "like chance",
    "dense",
    "silent",
    "too few",
]
Sure = Literal["sure", "fairly sure", "unsure"]
RULES = {
    "silent": "it never fires on the text",
    "dense": f"it fires at more than {DENSE:.0%} of the positions",
    "too few": f"it fires at fewer than {FEW} positions",
    "like chance": "neither its examples nor detection set it apart from random directions, and "
    "fewer than two lines agree",
    "contradictory": "two lines or more disagree, or one does and it is the held-out text or fewer "
    "than four agree",
    "clear": "no line disagrees and at least five agree, among them detection or held-out text",
    "mostly clear": "one line disagrees and at least four agree",
    "open": "anything else",
}
"""When a conclusion is drawn, in the order in which it is tried (the first that fits counts)."""
_LEAST_AGREE, _MOSTLY = 5, 4


@dataclass(frozen=True)
class Conclusion:
    """What the lines of evidence come to."""

    name: str
    """What the latent is called: its best explanation, in short; empty without one."""
    source: str
    """Who says so."""
    kind: Kind
    """One of `RULES`."""
    sentence: str
    """The conclusion in words."""
    sure: Sure
    """How sure it is."""
    why_sure: str
    """What that rests on, in a sentence."""
    sorts: tuple[str, ...]
    """What sort of latent it is, each with its figure."""
    lines: tuple[Line, ...]
    """The lines of evidence."""
    change: tuple[str, ...]
    """What would change the conclusion, in sentences, those lines first that disagree."""
    warnings: tuple[str, ...]
    """What a reader should know before believing any of it."""

    def count(self, stand: str) -> int:
        """Lines that agree, disagree or are silent."""
        return sum(line.stand == stand for line in self.lines)

    @property
    def disagreement(self) -> float:
        """How much the lines contradict one another: 0 for not at all, 1 for half against half."""
        agree, against = self.count("agrees"), self.count("disagrees")
        both = agree + against
        return 4 * agree * against / both**2 if both else 0.0

    @property
    def misleads(self) -> tuple[Line, ...]:
        """Lines that say yes where others say no: alone they would mislead."""
        if not self.count("disagrees"):
            return ()
        return tuple(line for line in self.lines if line.stand == "agrees")


def conclude(dossier: Dossier) -> Conclusion:
    """The conclusion from the sections that there are; the others are silent."""
    lines = lines_of(dossier)
    stands = {line.name: line.stand for line in lines}
    agree = [line for line in lines if line.stand == "agrees"]
    against = [line for line in lines if line.stand == "disagrees"]
    best = dossier.says.best if dossier.says is not None else None
    reads = dossier.reads
    text = best.text if best is not None else (reads.explanation if reads is not None else "")
    source = best.source if best is not None else ("offline" if text else "")
    if best is not None and not best.names_something:
        text = ""
    kind = _kind(dossier, stands, len(agree), len(against))
    if kind in ("dense", "like chance", "silent", "too few"):
        text = source = ""  # a name would be taken for more than it is
    elif source == "offline" and reads is not None:
        text = beside_all(reads) or text
    sorts = sorts_of(dossier)
    sure, why = _sureness(dossier, kind, len(agree), len(against), len(lines))
    return Conclusion(
        name=_short(text),
        source=source,
        kind=kind,
        sentence=_sentence(kind, text, agree, against, dossier) + rather(kind, sorts),
        sure=sure,
        why_sure=why,
        sorts=sorts,
        lines=lines,
        change=tuple(
            f"{line.title}: if {line.change}."
            for line in (*against, *(it for it in lines if it.stand == "silent"))
            if line.change
        ),
        warnings=_warnings(dossier),
    )


def _kind(dossier: Dossier, stands: dict[str, Stand], agree: int, against: int) -> Kind:
    reads = dossier.reads
    if reads is not None and reads.count == 0:
        return "silent"
    if reads is not None and reads.count > DENSE * reads.n_tokens:
        return "dense"
    if reads is not None and reads.count < FEW:
        return "too few"
    apart = "agrees" in (stands["examples"], stands["detection"])
    if reads is not None and dossier.says is not None and not apart and agree < 2:
        return "like chance"
    alone = agree < _MOSTLY or stands["held_out"] == "disagrees"
    if against >= 2 or (against == 1 and alone):
        return "contradictory"
    predicts = "agrees" in (stands["detection"], stands["held_out"])
    if against == 0 and agree >= _LEAST_AGREE and predicts:
        return "clear"
    return "mostly clear" if against == 1 else "open"


def _sureness(dossier: Dossier, kind: Kind, agree: int, against: int, n: int) -> tuple[Sure, str]:
    reads = dossier.reads
    missing = [*dossier.missing, *dossier.not_run]
    spoke = agree + against
    why = f"{spoke} of {n} lines speak"
    if missing:
        why += f"; {len(missing)} of 6 parts are missing"
    if reads is None or kind == "too few":
        return "unsure", why + "; there are too few examples."
    if kind == "silent":
        share = 3 / reads.n_tokens
        return "fairly sure", (
            f"It did not fire in {reads.n_tokens:,} tokens: with 95 % certainty it fires at fewer "
            f"than {share:.2g} of such positions."
        )
    if spoke >= 9 and not missing and kind in ("clear", "contradictory"):
        return "sure", why + "."
    return ("fairly sure" if spoke >= 6 else "unsure"), why + "."


def _sentence(
    kind: Kind, text: str, agree: list[Line], against: list[Line], dossier: Dossier
) -> str:
    said = f"“{text}”" if text else "What its examples have in common"
    yes, no = _listed(agree), _listed(against)
    if kind == "silent":
        return "It never fires on this text: nothing can be said of what it reads."
    if kind == "dense":
        reads = dossier.reads
        rate = 0.0 if reads is None else reads.count / max(1, reads.n_tokens)
        return (
            f"It fires at {rate:.0%} of the positions: examples cannot tell what it is for; look "
            "at how its strength follows the text, and at what it writes."
        )
    if kind == "too few":
        n = 0 if dossier.reads is None else dossier.reads.count
        return f"It fires at only {n} positions of this text: too few to say what it reads."
    if kind == "clear":
        return f"{said} holds: {len(agree)} lines of evidence agree ({yes}) and none disagrees."
    if kind == "mostly clear":
        return f"{said} holds but for one line, {no}; {len(agree)} agree ({yes})."
    if kind == "contradictory":
        doubt = f"{said} is not the whole of it: {no} " + (
            "disagree" if len(against) > 1 else "disagrees"
        )
        return f"{doubt}, though {yes} would let one believe it." if agree else f"{doubt}."
    if kind == "like chance":
        return "Nothing sets it apart from random directions that fire as often."
    if not agree:
        return f"{said} is open: no line of evidence speaks for it yet."
    return f"{said} is open: {yes} speak for it, which is too little to conclude."


def _warnings(dossier: Dossier) -> tuple[str, ...]:
    found = []
    reads, says, writes, works = dossier.reads, dossier.says, dossier.writes, dossier.works
    if reads is not None:
        if 0 < reads.count < 10 * FEW:
            found.append(
                f"It fires at only {reads.count} of {reads.n_tokens:,} positions: few examples."
            )
        elif reads.count == 0:
            found.append(f"It is dead on this text ({reads.n_tokens:,} tokens).")
        if reads.count > DENSE * reads.n_tokens:
            found.append("It is dense: it fires at more than a tenth of all positions.")
        first = reads.positions[:1].sum() / max(1, reads.positions.sum())
        base = reads.positions_all[:1].sum() / max(1, reads.positions_all.sum())
        if first > 0.2 and first > 5 * base:
            found.append(
                f"{first:.0%} of its firings are at the first token of a text, where activations "
                "are often unusually large; examples there say little."
            )
    if says is not None and says.spoken is not None and not says.spoken.carries_over:
        found.append(says.spoken.transfer)
    if works is not None:
        rest = named(works.measures, "rest")
        if rest is not None and math.isfinite(rest.value) and rest.value > 0.5:
            found.append(
                f"{rest.value:.0%} of what feeds it is left unexplained by the SAE before it."
            )
    if writes is not None:
        found += list(writes.notes)
    if dossier.fit is not None:
        found += list(dossier.fit.warnings)
    return tuple(found)


def _short(text: str, most: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _listed(lines: list[Line]) -> str:
    return ", ".join(line.title.lower() for line in lines)
