"""A dossier as one HTML page that asks for nothing: no script, no picture, no font from outside.

Every text of a model, a corpus or a reader is escaped, and the page forbids itself to load or run
anything (its content security policy), so markup in a text is shown and does nothing.
"""

import base64
import html
from collections.abc import Sequence

from core.dossier.blocks import (
    MEASURE_COLUMNS,
    Bars,
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
from core.dossier.result import Dossier
from core.dossier.trial import Trial
from core.latent.examples import STYLE, rows_html
from core.view.markup import visible_character

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
_STYLE = """<style>
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0 0 .2rem} h2{font-size:1.25rem;margin:2.2rem 0 .2rem}
h3{font-size:1rem;margin:1.2rem 0 .3rem} .q{opacity:.7;margin:0 0 .6rem}
table{border-collapse:collapse;font-size:.86rem;margin:.3rem 0 .8rem;max-width:100%}
td,th{border-bottom:1px solid rgba(128,128,128,.3);padding:.22rem .6rem .22rem 0;text-align:left;
 vertical-align:top;overflow-wrap:anywhere} .note{font-size:.82rem;opacity:.7;margin:-.5rem 0 .8rem}
td:nth-child(2){min-width:5.2rem}
.lead{font-size:1.1rem}.cite{font-size:.8rem;opacity:.75;overflow-wrap:anywhere}
</style>"""
TABLE_STYLE = """<style>
.dx table{border-collapse:collapse;font-size:.86rem;margin:.2rem 0 .6rem;width:100%}
.dx td,.dx th{border-bottom:1px solid rgba(128,128,128,.3);padding:.3rem .7rem .3rem 0;
 text-align:left;vertical-align:top;overflow-wrap:anywhere}
.dx th{opacity:.65;font-weight:400}
.dx td:nth-child(2){min-width:5.2rem}
.agrees,.disagrees{white-space:nowrap}.agrees{color:#17803d}.disagrees{color:#c0262d}
@media (prefers-color-scheme:dark){.agrees{color:#5fd38d}.disagrees{color:#ff7b80}}
.dx-bars{display:flex;align-items:flex-end;height:5.6rem;max-width:40rem;gap:1px}
.dx-bars span{position:relative;flex:1;height:100%;display:flex;align-items:flex-end}
.dx-bars b{background:#ff8c00;width:100%;min-height:1px}
.dx-bars i{position:absolute;left:0;right:0;height:2px;background:#808080}
.dx-map{max-width:35rem;width:100%;height:auto;border:1px solid rgba(128,128,128,.3);
 border-radius:.5rem}
.dx-note{font-size:.82rem;opacity:.75;margin:.2rem 0 .8rem}
.dx-ends{display:flex;justify-content:space-between;max-width:40rem;font-size:.75rem;opacity:.7}
</style>"""
"""Look of tables and bars, to be put on a page once."""


def dossier_html(
    dossier: Dossier,
    conclusion: Conclusion,
    notes: Sequence[Note] = (),
    *,
    trials: Sequence[Trial] = (),
    told: Told | None = None,
) -> str:
    """The whole page."""
    title = title_of(dossier, conclusion)
    whole = (*chapters(dossier, conclusion), *readers_chapters(trials, told))
    parts = [_chapter(it) for it in whole]
    if notes:
        parts.append(_notes(notes))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="referrer" content="no-referrer">'
        '<link rel="icon" href="data:,">'
        f"<title>{escaped(title)}</title>{STYLE}{TABLE_STYLE}{_STYLE}</head><body>"
        f"<h1>{escaped(title)}</h1>"
        f"{''.join(parts)}"
        f'<p class="cite">{escaped(citation(dossier))}</p></body></html>'
    )


def escaped(text: str) -> str:
    """`text` as HTML that shows it and does nothing."""
    return html.escape("".join(map(visible_character, str(text))), quote=True)


def _chapter(chapter: Chapter) -> str:
    blocks = "".join(_block(it, lead=chapter.name == "breath") for it in chapter.blocks)
    return (
        f'<section id="{chapter.name}"><h2>{escaped(chapter.title)}</h2>'
        f'<p class="q">{escaped(chapter.question)}</p>{blocks}</section>'
    )


def _block(block: Block, *, lead: bool) -> str:
    if isinstance(block, Prose):
        return f"<p{' class=lead' if lead else ''}>{escaped(block.text)}</p>"
    if isinstance(block, Numbers):
        rows = [measure_cells(it) for it in block.measures]
        return f"<h3>Numbers</h3>{_table(MEASURE_COLUMNS, rows)}"
    if isinstance(block, Grid):
        if not block.rows:
            return ""
        note = f'<p class="note">{escaped(block.note)}</p>' if block.note else ""
        return f"<h3>{escaped(block.title)}</h3>{table_html(block)}{note}"
    if isinstance(block, Texts):
        if not block.rows:
            return ""
        shaded = rows_html(block.rows, strongest=block.strongest)
        return f"<h3>{escaped(block.title)}</h3><div>{shaded}</div>"
    if isinstance(block, Picture):
        return f"<h3>{escaped(block.title)}</h3>{picture_html(block)}"
    return f"<h3>{escaped(block.title)}</h3>{bars_html(block)}" + (
        f'<p class="note">{escaped(block.note)}</p>' if block.note else ""
    )


def picture_html(block: Picture) -> str:
    """A picture whose bytes are in the page, and what is to be seen."""
    data = base64.b64encode(block.png).decode("ascii")
    return (
        f'<img class="dx-map" alt="{escaped(block.note)}" src="data:image/png;base64,{data}">'
        f'<p class="dx-note">{escaped(block.note)}</p>'
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escaped(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td{_class(cell)}>{escaped(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _class(cell: str) -> str:
    return f' class="{cell}"' if cell in ("agrees", "disagrees") else ""


def bars_html(block: Bars) -> str:
    """A histogram in plain HTML; each bar says its value when pointed at."""
    if not block.counts:
        return ""
    most = max([*block.counts, *block.other]) or 1.0
    others = block.other or (None,) * len(block.counts)
    bars = []
    for count, other, label in zip(block.counts, others, block.labels, strict=True):
        said = f"{label}: {count:.4g}" + ("" if other is None else f" (chance {other:.4g})")
        mark = "" if other is None else f'<i style="bottom:{100 * other / most:.1f}%"></i>'
        bars.append(
            f'<span title="{escaped(said)}"><b style="height:{100 * count / most:.1f}%"></b>{mark}'
            "</span>"
        )
    ends = f"<span>{escaped(block.labels[0])}</span><span>{escaped(block.labels[-1])}</span>"
    return f'<div class="dx-bars">{"".join(bars)}</div><div class="dx-ends">{ends}</div>'


def table_html(block: Grid) -> str:
    """A table whose cells are read whole."""
    return _table(block.columns, block.cells())


def _notes(notes: Sequence[Note]) -> str:
    columns = ("when", "who", "hypothesis", "verdict", "confidence", "tags")
    rows = [it.cells() for it in notes]
    table = _table(columns, rows)
    return f'<section id="notes"><h2>Notes</h2><p class="q">What readers say.</p>{table}</section>'
