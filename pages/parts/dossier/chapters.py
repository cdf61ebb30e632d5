"""The chapters of a dossier on the page, each with a way to the page that says more."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import streamlit as st

from core.view.markup import escape_markdown
from core.view.selection import Selection, to_parameters
from pages.parts import programs, registry, token_rows

if TYPE_CHECKING:
    from core.dossier.blocks import Bars, Block, Grid
    from core.dossier.conclude import Conclusion
    from core.dossier.measure import Measure
    from core.dossier.result import Dossier

LINKS = {
    "reads": (("latent", "The dashboard", {"tab": "dashboard"}),),
    "writes": (
        ("latent", "Logit lens", {"tab": "lens"}),
        ("latent", "Token enrichment", {"tab": "enrichment"}),
        ("steering", "Steering at this KL", {"unit": "kl", "strengths": "0.5"}),
    ),
    "says": (
        ("autointerp", "Autointerp of this latent", {"choose": "this"}),
        ("patch-scoping", "Patch scoping", {}),
    ),
    "belongs": (
        ("feature-splitting", "On the map", {}),
        ("sae", "Decompositions", {"tab": "meta"}),
    ),
    "hides": (("sae", "Exceptions and absorption", {"tab": "absorption", "exceptions": "1"}),),
    "works": (
        ("latent", "Sources of its examples", {"tab": "sources"}),
        ("gradients", "Gradients and circuits", {}),
    ),
}
"""Of each section: the address of a page, what the link is called, and the state it opens in."""

_FEW_COLUMNS, _SIDE_BY_SIDE = 4, 2


def draw(
    dossier: "Dossier",
    conclusion: "Conclusion",
    selection: Selection,
    *,
    states: Mapping[str, Mapping[str, str]],
    behind: Callable[[str], None],
) -> None:
    """Everything, top to bottom.

    `states` is what links to pages carry besides, by address; `behind` draws what stands below a
    chapter, by its name.
    """
    from core.dossier.document import chapters

    styles()
    for chapter in chapters(dossier, conclusion):
        st.header(chapter.title, divider="gray")
        with st.container(horizontal=True, gap="medium"):
            st.caption(chapter.question)
            for address, label, state in LINKS.get(chapter.name, ()):
                _link(address, label, {**states.get(address, {}), **state}, selection)
            if chapter.name == "writes" and dossier.kept is not None:
                kept = dict(parse_qsl(urlsplit(dossier.kept.link).query))
                _link("steering", "As a reader steered it", kept, selection)
        blocks = chapter.blocks
        if chapter.name == "breath":
            blocks = blocks[1:]  # the conclusion stands at the top of the page
        draw_blocks(blocks, key=f"dossier_{chapter.name}")
        behind(chapter.name)


def styles() -> None:
    """Look of tables and examples, to be put on the page once."""
    from core.dossier.export_html import TABLE_STYLE
    from core.latent.examples import STYLE

    st.html(STYLE + TABLE_STYLE)


def draw_blocks(blocks: "Sequence[Block]", *, key: str, fold: bool = True) -> None:
    """Blocks below one another; small tables side by side, further examples folded away unless
    `fold` is false."""
    from core.dossier.blocks import Grid, Texts

    def kind(block: "Block") -> str:
        if isinstance(block, Grid) and not block.wraps and len(block.columns) <= _FEW_COLUMNS:
            return "small"
        return "texts" if isinstance(block, Texts) else ""

    number = 0
    for name, group in itertools.groupby(blocks, key=kind):
        some = [it for it in group if not isinstance(it, Grid) or it.rows]
        if name == "small":
            for start in range(0, len(some), _SIDE_BY_SIDE):
                columns = st.columns(_SIDE_BY_SIDE, gap="medium")
                for column, block in zip(
                    columns, some[start : start + _SIDE_BY_SIDE], strict=False
                ):
                    with column:
                        _block(block, key=f"{key}_{number}")
                    number += 1
            continue
        if name == "texts" and len(some) > 1 and fold:
            _block(some[0], key=f"{key}_{number}")
            title = "Examples by part of its range, and by kind of context"
            with st.expander(title, key=f"{key}_{number}_folded"):
                for block in some[1:]:
                    _block(block, key=key)
            number += 1
            continue
        for block in some:
            _block(block, key=f"{key}_{number}")
            number += 1


def _link(address: str, label: str, state: dict[str, str], selection: Selection) -> None:
    tool = next(it for it in registry.TOOLS if it.url_path == address)
    st.page_link(
        tool.file,
        label=label,
        icon=tool.icon,
        query_params={**to_parameters(selection), **state},
    )


def _block(block: "Block", *, key: str) -> None:
    from core.dossier.blocks import Grid, Numbers, Picture, Prose, Texts
    from core.dossier.export_html import bars_html, picture_html

    if isinstance(block, Prose):
        st.markdown(escape_markdown(block.text))
    elif isinstance(block, Numbers):
        _numbers(block.measures, key=key)
    elif isinstance(block, Grid):
        _grid(block, key=key)
    elif isinstance(block, Texts):
        if block.rows:
            st.markdown(f"**{escape_markdown(block.title)}**")
            token_rows.draw(block.rows, strongest=block.strongest)
    elif isinstance(block, Picture):
        st.markdown(f"**{escape_markdown(block.title)}**")
        st.html(picture_html(block))
    else:
        st.markdown(f"**{escape_markdown(block.title)}**")
        if programs.is_one():
            st.dataframe(_bars(block), hide_index=True, key=key)
        else:
            st.html(bars_html(block))
        if block.note:
            st.caption(escape_markdown(block.note))


def _bars(block: "Bars") -> list[dict[str, Any]]:
    """A histogram as a table."""
    lines = [
        {"what": label, "height": height}
        for label, height in zip(block.labels, block.counts, strict=True)
    ]
    for line, chance in zip(lines, block.other, strict=False):
        line["chance"] = chance
    return lines


def _numbers(measures: "tuple[Measure, ...]", *, key: str) -> None:
    import pandas as pd

    from core.dossier.blocks import MEASURE_COLUMNS, measure_cells

    with st.expander("Numbers, with intervals and controls", key=f"{key}_folded"):
        table = pd.DataFrame([measure_cells(it) for it in measures], columns=list(MEASURE_COLUMNS))
        st.dataframe(table, hide_index=True, key=key)


def _grid(block: "Grid", *, key: str) -> None:
    import pandas as pd

    from core.dossier.export_html import table_html

    if not block.rows:
        return
    table = pd.DataFrame(list(block.rows), columns=list(block.columns))
    for name in block.shares:
        if name in table:
            table[name] = table[name].map(lambda it: None if it is None else 100 * it)
    wide = {"because", "text", "description", "if", "warning", "rule", "when", "why"}
    columns = {
        name: st.column_config.TextColumn(width="large") for name in block.columns if name in wide
    }
    columns |= {
        name: st.column_config.NumberColumn(format="%.0f%%")
        for name in block.shares
        if name in table
    }
    columns |= {"latent": st.column_config.NumberColumn(format="%d", width="small")}
    folded = block.title.startswith(("Rules", "Made with", "What would"))
    box = st.expander(block.title, key=f"{key}_folded") if folded else st.container(gap="small")
    with box:
        if not folded:
            st.markdown(f"**{escape_markdown(block.title)}**")
        if block.wraps and not programs.is_one():
            st.html(f'<div class="dx">{table_html(block)}</div>')
        else:
            st.dataframe(table, hide_index=True, key=key, column_config=columns)
    if block.note:
        st.caption(escape_markdown(block.note))
