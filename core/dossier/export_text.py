"""A dossier as JSON with a schema of its own, and as Markdown."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.dossier.blocks import (
    MEASURE_COLUMNS,
    Block,
    Chapter,
    Grid,
    Numbers,
    Picture,
    Prose,
    Texts,
    measure_cells,
)
from core.dossier.cite import citation, title_of
from core.dossier.conclude import Conclusion
from core.dossier.document import chapters
from core.dossier.notes import Note
from core.dossier.readers import Told, readers_chapters
from core.dossier.request import PARTS
from core.dossier.result import Dossier
from core.dossier.trial import Trial
from core.view.markup import escape_markdown, visible_character

SCHEMA = 1
"""Version of the JSON: raised whenever a field changes its meaning or leaves.

    schema      this number
    kind        "sae-latent-dossier"
    request     model, sae (release, sae_id, version), latent, corpus (name, digest), tokens,
                speaker, family, before, after, texts, seed
    citation    one line
    conclusion  name, source, kind, sentence, sure, why_sure, sorts, warnings, change, and lines:
                name, title, part, stand (agrees, disagrees, silent), why, change
    sections    by part (reads, writes, says, belongs, hides, works): the fields of the dataclass
                of that name in `core.dossier`; tables as lists of rows by column, arrays as lists;
                `measures`: name, title, value, low, high, n, of, latents, directions, is_share
    beside      what longer runs on the whole SAE say of the latent: `map` (its row alone), `meta`,
                `absorption` as lists of rows; null where one was not made
    fit         what the fit check of the SAE found; null where it was not made
    not_run     by part: why it could not be made
    versions    fingerprints (sha256), text, and versions of packages
    kept        what a reader steered it to: when, who, how, link, later, rows; null without
    notes       when, who, hypothesis, verdict, confidence, tags, about; the latest first
    trials      hypotheses that were tried on held-out text, the latest first: when, who, kind,
                hypothesis, judge, reads_as, text, unit, n, verdict, measures, silent, missed, peak
    told        what a chat model wrote at a reader's request: text, model, when, foreign; or null

Numbers that cannot be told are null.
"""


def dossier_json(
    dossier: Dossier,
    conclusion: Conclusion,
    notes: Sequence[Note] = (),
    *,
    trials: Sequence[Trial] = (),
    told: Told | None = None,
) -> str:
    """The whole dossier; `SCHEMA` says what stands in it."""
    request = {name: value for name, value in vars(dossier.request).items() if name != "corpus"}
    corpus = dossier.request.corpus
    sections = {part: dossier.section(part) for part in PARTS}
    whole = {
        "schema": SCHEMA,
        "kind": "sae-latent-dossier",
        "request": {**request, "corpus": {"name": corpus.name, "digest": corpus.digest}},
        "citation": citation(dossier),
        "conclusion": conclusion,
        "sections": {part: it for part, it in sections.items() if it is not None},
        "beside": _beside(dossier),
        "fit": None if dossier.fit is None else dossier.fit.to_json(),
        "not_run": dossier.not_run,
        "versions": dossier.versions,
        "kept": dossier.kept,
        "notes": list(notes),
        "trials": list(trials),
        "told": told,
    }
    return json.dumps(plain(whole), ensure_ascii=False, indent=1, allow_nan=False)


def _beside(dossier: Dossier) -> dict[str, Any]:
    request, beside = dossier.request, dossier.beside
    found: dict[str, Any] = {
        name: beside.of(name, request.latent) if beside.has(name) else None
        for name in ("meta", "absorption")
    }
    whole = beside.map
    if whole is not None:
        whole = whole[(whole["sae_id"] == request.sae[1]) & (whole["latent"] == request.latent)]
    return {"map": whole, **found}


def plain(value: Any) -> Any:
    """Any value of a section as JSON."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return [plain(it) for it in value.tolist()]
    if isinstance(value, pd.DataFrame):
        names = [str(name) for name in value.columns]
        rows = value.itertuples(index=False, name=None)
        return [dict(zip(names, map(plain, row), strict=True)) for row in rows]
    if isinstance(value, Mapping):
        return {str(name): plain(it) for name, it in value.items()}
    if isinstance(value, list | tuple):
        return [plain(it) for it in value]
    if dataclasses.is_dataclass(value):
        return {it.name: plain(getattr(value, it.name)) for it in dataclasses.fields(value)}
    raise ValueError(f"A {type(value).__name__} has no place in a dossier's JSON.")


def dossier_markdown(
    dossier: Dossier,
    conclusion: Conclusion,
    notes: Sequence[Note] = (),
    *,
    trials: Sequence[Trial] = (),
    told: Told | None = None,
) -> str:
    """The dossier as Markdown; texts of models and corpora are escaped."""
    lines = [f"# {_safe(title_of(dossier, conclusion))}", ""]
    whole = (*chapters(dossier, conclusion), *readers_chapters(trials, told))
    lines += [chapter_markdown(chapter, chapter.blocks) for chapter in whole]
    if notes:
        columns = ("when", "who", "hypothesis", "verdict", "confidence", "tags")
        lines += ["## Notes", "", *_table(columns, [it.cells() for it in notes])]
    return "\n".join([*lines, "---", "", _safe(citation(dossier)), ""])


def chapter_markdown(chapter: Chapter, blocks: Sequence[Block]) -> str:
    """A chapter, or some of its blocks, as Markdown."""
    lines = [f"## {chapter.title}", "", f"*{chapter.question}*", ""]
    return "\n".join([*lines, *(line for block in blocks for line in _block(block))])


def _block(block: Block) -> list[str]:
    if isinstance(block, Prose):
        return [_safe(block.text), ""]
    if isinstance(block, Numbers):
        rows = [measure_cells(it) for it in block.measures]
        return ["### Numbers", "", *_table(MEASURE_COLUMNS, rows)]
    if isinstance(block, Grid):
        if not block.rows:
            return []
        note = [_safe(block.note), ""] if block.note else []
        return [f"### {_safe(block.title)}", "", *_table(block.columns, block.cells()), *note]
    if isinstance(block, Texts):
        if not block.rows:
            return []
        rows = [_example(row) for row in block.rows]
        return [f"### {_safe(block.title)}", "", *_table(("activation", "text", "from"), rows)]
    if isinstance(block, Picture):
        return [f"### {_safe(block.title)}", "", _safe(block.note), ""]
    pairs = list(zip(block.labels, (f"{it:.4g}" for it in block.counts), strict=True))
    return [f"### {_safe(block.title)}", "", *_table(("bin", "value"), pairs)]


def _example(row: Any) -> tuple[str, str, str]:
    parts = [
        f"«{token}»" if number == row.peak else token for number, token in enumerate(row.tokens)
    ]
    return row.value, "".join(parts), row.source


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = "| " + " | ".join(_cell(it) or " " for it in columns) + " |"
    rule = "|" + "---|" * len(columns)
    return [head, rule, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows), ""]


def _cell(text: str) -> str:
    return _safe(text)


def _safe(text: str) -> str:
    return escape_markdown("".join(map(visible_character, str(text))))
