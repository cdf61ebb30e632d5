"""What the longer runs say of a latent, as blocks behind those of its sections."""

import numpy as np
import pandas as pd

from core.dossier.belongs import Belongs
from core.dossier.beside import TITLES, WHY_NOT, Beside
from core.dossier.blocks import Block, Picture, Prose, grid
from core.dossier.dot_picture import dot_picture
from core.dossier.request import DossierRequest

RUNS_OF = {"belongs": ("map", "meta"), "hides": ("absorption",)}
"""Of each section, the runs that stand in it."""
_MOST = 12


def beside_blocks(
    part: str, beside: Beside, request: DossierRequest, belongs: Belongs | None
) -> tuple[Block, ...]:
    """Blocks of the runs that belong to a section; those that are not there say why."""
    blocks: list[Block] = []
    for name in RUNS_OF.get(part, ()):
        if not beside.has(name):
            blocks.append(Prose(f"{TITLES[name]}: not run, {WHY_NOT[name]}"))
        elif name == "map":
            blocks += map_blocks(beside, request, _kin(request, belongs))
        elif name == "meta":
            blocks += _meta(beside, request.latent)
        else:
            blocks += _absorption(beside, request.latent)
    return tuple(blocks)


def map_blocks(
    beside: Beside,
    request: DossierRequest,
    kin: list[tuple[str, int]],
    *,
    other: tuple[str, int] | None = None,
) -> list[Block]:
    """The small map with the latent, its kin and, where two are compared, the other one."""
    table = beside.map
    if table is None:
        return []
    names = list(zip(table["sae_id"], table["latent"].astype(int), strict=True))
    row_of = {name: row for row, name in enumerate(names)}
    here = row_of.get((request.sae[1], request.latent))
    if here is None:
        return [Prose("Map: the latent has no direction, so it has no place on it.")]
    near = [row_of[it] for it in kin if it in row_of]
    also = row_of.get(other) if other is not None else None
    xy = table[["x", "y"]].to_numpy(float)
    widths = ", ".join(f"{it:,}" for it in sorted(table["width"].unique()))
    cluster = int(table["cluster"].iloc[here])
    if cluster < 0:
        words = "It is in no cluster."
    else:
        inside = table["cluster"] == cluster
        words = f"Its cluster has {int(inside.sum()):,} latents: {table['label'].iloc[here]}."
    legend = "Orange: the latent; blue: its parents, children and nearest latents"
    if other is not None:
        legend = "Orange: the first latent; blue: the second"
        near = [] if also is None else [also]
    note = f"{legend}. {len(table):,} latents of width {widths}, by direction (UMAP). {words}"
    return [Picture("On the map", dot_picture(xy, here, near), note)]


def _kin(request: DossierRequest, belongs: Belongs | None) -> list[tuple[str, int]]:
    if belongs is None:
        return []
    relatives = belongs.relatives
    near = [(request.sae[1], int(it)) for it in belongs.nearest["latent"][:5]]
    kin = zip(relatives["sae_id"].astype(str), relatives["latent"], strict=True)
    return [*near, *((sae_id, int(latent)) for sae_id, latent in kin)]


def _meta(beside: Beside, latent: int) -> list[Block]:
    mine = beside.of("meta", latent)
    if mine.empty:
        return [Prose(f"Meta-latents: none is active for this latent. {beside.meta_about}")]
    columns = ["meta", "activation", "matched", "latents", "tokens"]
    note = (
        "matched: cosine with the meta-latent that another seed finds in its place; latents: how "
        f"many have it. {beside.meta_about}"
    )
    return [grid("Meta-latents that it is made of", mine.head(_MOST), columns, note=note)]


def _absorption(beside: Beside, latent: int) -> list[Block]:
    mine = beside.of("absorption", latent)
    where = f"Looked at: {beside.absorption_about}"
    if mine.empty:
        return [Prose(f"It is the main latent of no concept and absorbs none. {where}")]
    own, absorbs = (mine[mine["role"] == role] for role in ("its own", "absorbs"))
    blocks: list[Block] = []
    if len(own):
        blocks.append(
            grid(
                "Concepts of its own, absorbed elsewhere",
                own,
                ["concept", "absorbed", "low", "high", "chance", "hedging", "n"],
                note="absorbed: share of the positions that another latent carries alone, with its "
                "95 % interval; chance: of a random set of as many tokens; hedging: share of "
                f"positions of other kinds at which it fires all the same. {where}",
                shares=["absorbed", "low", "high", "chance", "hedging"],
            )
        )
    if len(absorbs):
        table = pd.DataFrame(
            {
                "concept": absorbs["concept"],
                "positions": absorbs["n"],
                "share": absorbs["share"].astype(float),
                "of all absorbed": absorbs["absorbed"].astype(float),
            }
        ).sort_values("positions", ascending=False, kind="stable")
        blocks.append(
            grid(
                "Concepts that it absorbs",
                table.head(_MOST),
                list(table),
                note="positions: at which it carries the concept instead of the concept's own "
                f"latents; share: of the concept's direction there. {where}",
                shares=["share", "of all absorbed"],
            )
        )
    return blocks


def map_is_shared(beside: Beside, *latents: tuple[str, int]) -> bool:
    """Whether all of these lie on the map."""
    if beside.map is None:
        return False
    names = set(zip(beside.map["sae_id"], beside.map["latent"].astype(np.int64), strict=True))
    return all(it in names for it in latents)
