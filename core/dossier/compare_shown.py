"""Two dossiers side by side as blocks: lines of evidence, numbers, and texts."""

from core.dossier.beside import Beside
from core.dossier.beside_shown import map_blocks, map_is_shared
from core.dossier.blocks import Block, Grid, Prose, measure_cells
from core.dossier.conclude import Conclusion
from core.dossier.document import SIGNS
from core.dossier.request import DossierRequest
from core.dossier.result import Dossier

ONE, OTHER = "first", "second"


def lines_side_by_side(one: Conclusion, other: Conclusion) -> Grid:
    """What each line of evidence says of either."""
    rows = [
        (
            a.title,
            f"{SIGNS[a.stand]} {a.stand}",
            f"{SIGNS[b.stand]} {b.stand}",
            "" if a.stand == b.stand else "differ",
        )
        for a, b in zip(one.lines, other.lines, strict=True)
    ]
    columns = ("line of evidence", ONE, OTHER, "")
    return Grid("Lines of evidence", columns, tuple(rows), wraps=True)


def numbers_side_by_side(one: Dossier, other: Dossier) -> Grid:
    """Every number that both have, with its interval."""

    def shown(dossier: Dossier) -> dict[tuple[str, str], tuple[str, str]]:
        found = {}
        for part, it in dossier.measures():
            title, value, interval, *_ = measure_cells(it)
            found[part, it.name] = (title, value if interval == "–" else f"{value} ({interval})")
        return found

    mine, others = shown(one), shown(other)
    rows = tuple(
        (name[0], mine[name][0], mine[name][1], others[name][1]) for name in mine if name in others
    )
    return Grid("Numbers", ("section", "what", ONE, OTHER), rows, wraps=True)


def kin_blocks(beside: Beside, one: DossierRequest, other: DossierRequest) -> tuple[Block, ...]:
    """The shared map, where both lie on one."""
    places = ((one.sae[1], one.latent), (other.sae[1], other.latent))
    if other.sae != one.sae and other.sae not in one.family:
        return (Prose("They are of no common family, so there is no map with both."),)
    if beside.map is None:
        return (Prose("Map: not run, no map of this family was made from a dossier yet."),)
    if not map_is_shared(beside, *places):
        return (Prose("The map that is stored does not show the widths of both."),)
    return tuple(map_blocks(beside, one, [], other=places[1]))
