"""A dossier as chapters of plain blocks, in the order in which they are read."""

import math

import pandas as pd

from core.dossier.beside_shown import beside_blocks
from core.dossier.blocks import Block, Chapter, Grid, Numbers, Prose, grid
from core.dossier.conclude import RULES as CONCLUSIONS
from core.dossier.conclude import Conclusion
from core.dossier.request import PARTS, TITLES
from core.dossier.result import Dossier
from core.dossier.sections_shown import BLOCKS
from core.dossier.verdict import RULES

QUESTIONS = {
    "reads": "Where does it fire, how strongly, and on what?",
    "writes": "Which tokens does it push, and what comes of adding or removing it?",
    "says": "What is said of it, by whom, and how well does that predict?",
    "belongs": "What lies near it, fires with it, and is its kin in other widths?",
    "hides": "Where should it fire and does not, and what fires instead?",
    "works": "What feeds it, and what does it feed?",
}
"""What each section answers."""
SIGNS = {"agrees": "✓", "disagrees": "✗", "silent": "·"}
"""Marks of what a line of evidence says."""


def chapters(dossier: Dossier, conclusion: Conclusion) -> tuple[Chapter, ...]:
    """All that there is to show, from the conclusion to the doubts."""
    found = [_breath(conclusion)]
    for part in PARTS:
        section = dossier.section(part)
        blocks: tuple[Block, ...]
        if section is not None:
            blocks = (*BLOCKS[part](section), Numbers(section.measures))
        elif part in dossier.not_run:
            blocks = (Prose(f"Not run: {dossier.not_run[part]}"),)
        else:
            blocks = (Prose("Not computed yet."),)
        if part == "writes" and dossier.kept is not None:
            blocks = (*blocks, dossier.kept.block())
        more = beside_blocks(part, dossier.beside, dossier.request, dossier.belongs)
        found.append(Chapter(part, TITLES[part], QUESTIONS[part], (*blocks, *more)))
    found.append(_doubts(dossier, conclusion))
    return tuple(found)


def _breath(conclusion: Conclusion) -> Chapter:
    lines = pd.DataFrame(
        {
            "": [SIGNS[line.stand] for line in conclusion.lines],
            "line of evidence": [line.title for line in conclusion.lines],
            "says": [line.stand for line in conclusion.lines],
            "because": [line.why for line in conclusion.lines],
        }
    )
    agree, against, silent = (conclusion.count(it) for it in ("agrees", "disagrees", "silent"))
    blocks: list[Block] = [
        Prose(conclusion.sentence),
        Prose(
            f"{conclusion.sure.capitalize()}: {conclusion.why_sure} {agree} agree, {against} "
            f"disagree, {silent} are silent. Concluded as “{conclusion.kind}”: "
            f"{CONCLUSIONS[conclusion.kind]}."
        ),
    ]
    if conclusion.sorts:
        blocks.append(Prose("What sort: " + "; ".join(conclusion.sorts) + "."))
    blocks.append(grid("Lines of evidence", lines, list(lines), wraps=True))
    if conclusion.change:
        blocks.append(
            Grid(
                "What would change it",
                ("if",),
                tuple((it,) for it in conclusion.change),
                wraps=True,
            )
        )
    return Chapter("breath", "In one breath", "What is it, and how do we know?", tuple(blocks))


def _doubts(dossier: Dossier, conclusion: Conclusion) -> Chapter:
    blocks: list[Block] = []
    warnings = conclusion.warnings or ("No warning.",)
    blocks.append(Grid("Warnings", ("warning",), tuple((it,) for it in warnings), wraps=True))
    rows = [
        (TITLES.get(part, part), it.title, it.value, it.chance("latents"), it.chance())
        for part, it in dossier.measures()
        if math.isfinite(it.value) and (it.latents or it.directions)
    ]
    columns = ("section", "what", "this latent", "random latents", "random directions")
    note = (
        "Up to 19 random latents and 19 random directions that fire about as often went through "
        "the same sections; means."
    )
    blocks.append(Grid("Beside random latents and random directions", columns, tuple(rows), note))
    rules = tuple((rule,) for rule in RULES.values())
    blocks.append(Grid("Rules by which lines are judged", ("rule",), rules, wraps=True))
    kinds = tuple(CONCLUSIONS.items())
    title = "Rules by which a conclusion is drawn"
    blocks.append(Grid(title, ("conclusion", "when"), kinds, wraps=True))
    made = tuple(dossier.versions.items())
    blocks.append(Grid("Made with", ("what", "version"), made))
    return Chapter("doubts", "Doubts", "What should keep one from believing it?", tuple(blocks))
