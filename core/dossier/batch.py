"""Dossiers of a list of latents: one row each, those first whose lines disagree most."""

from collections.abc import Sequence

import pandas as pd

from core.dossier.conclude import conclude
from core.dossier.document import SIGNS
from core.dossier.request import DossierRequest
from core.dossier.result import Dossier
from core.dossier.run import run_dossiers
from core.dossier.shared import LeaseOf
from core.dossier.stored import PART
from core.dossier.verdict import PART_OF, RULES
from core.store import FRAME, Key, Store

MOST_LATENTS = 200
"""Latents of one batch."""
_VERSION = 1


def run_batch(lease_of: LeaseOf, store: Store, requests: Sequence[DossierRequest]) -> pd.DataFrame:
    """The table of `batch_table`, of dossiers that are made or opened; kept in the store.

    Raises ValueError for more than 200 latents, and as `run_dossiers`.
    """
    if len(requests) > MOST_LATENTS:
        raise ValueError(
            f"There are {len(requests)} latents; a batch takes at most {MOST_LATENTS}, so choose "
            "fewer."
        )
    table = batch_table(run_dossiers(lease_of, store, requests))
    store.keep(_key(requests), table, FRAME)
    return table


def stored_batch(store: Store, requests: Sequence[DossierRequest]) -> pd.DataFrame | None:
    """The table of a batch that was made before; None where it was not."""
    return store.get(_key(requests), FRAME)


def batch_table(dossiers: Sequence[Dossier]) -> pd.DataFrame:
    """A row a latent, those first whose lines disagree most.

    `latent`, `name`, `conclusion`, `sure`, `agree`, `disagree`, `disagreement` (0 for none, 1 for
    half against half), and of each line of evidence, by its title, its sign (✓ agrees, ✗ disagrees,
    · is silent).
    """
    rows = []
    for dossier in dossiers:
        end = conclude(dossier)
        rows.append(
            {
                "latent": dossier.request.latent,
                "name": end.name,
                "conclusion": end.kind,
                "sure": end.sure,
                "agree": end.count("agrees"),
                "disagree": end.count("disagrees"),
                "disagreement": round(end.disagreement, 3),
                **{line.title: SIGNS[line.stand] for line in end.lines},
            }
        )
    table = pd.DataFrame(rows)
    order = ["disagreement", "disagree", "agree"]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True)


def _key(requests: Sequence[DossierRequest]) -> Key:
    parameters = {
        "requests": [it.digest() for it in requests],
        "parts": {name: part.version for name, part in PART.items()},
        "rules": RULES,
        "lines": PART_OF,
    }
    return Key("dossier-batch", _VERSION, parameters)
