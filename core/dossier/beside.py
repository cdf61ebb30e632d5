"""What longer runs about the whole SAE say of one latent: the map, meta-latents, absorption.

These take longer than a dossier and are of all latents at once, so they are made at a click, kept
under the names and versions of the SAEs, and then stand in every latent's dossier.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.dossier.request import DossierRequest
from core.store import FRAME, JSON, Key, Store

RUNS = ("map", "meta", "absorption")
"""Names of these runs."""
TITLES = {"map": "Map", "meta": "Meta-latents", "absorption": "Absorption and hedging"}
"""What they are called."""
WHY_NOT = {
    "map": "no map of these SAEs was made from a dossier yet.",
    "meta": "the SAE's decoder rows were not decomposed yet.",
    "absorption": "absorption was not looked for in this SAE on this text yet.",
}
"""Why one is not there."""
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Beside:
    """What of the longer runs is there."""

    map: pd.DataFrame | None = None
    """A row for each latent on the map: `sae_id`, `width`, `latent`, `x`, `y`, `cluster` (-1: in
    none), `label` (of the cluster)."""
    meta: pd.DataFrame | None = None
    """A row for each pair of a latent and a meta-latent of its: `latent`, `meta`, `activation`,
    `matched` (cosine with its partner under another seed), `latents` (that have it), `tokens`."""
    meta_about: str = ""
    """How much meta-latents explain, beside rows without structure, in a sentence."""
    absorption: pd.DataFrame | None = None
    """A row for each concept and latent of it: `latent`, `role` (`its own`, `absorbs`), `concept`,
    `absorbed` (share of the concept's positions carried by another latent), `low`, `high`,
    `chance` (the same of a random set of tokens), `hedging` (share of other positions at which the
    concept's own latents fire), `share` (of the concept's direction that it carries), `n`."""
    absorption_about: str = ""
    """How many concepts were looked at, in a sentence."""

    def has(self, name: str) -> bool:
        """Whether a run is there."""
        return getattr(self, name) is not None

    def of(self, name: str, latent: int) -> pd.DataFrame:
        """The rows of the runs' tables that are about a latent. Not for the map."""
        table: pd.DataFrame = getattr(self, name)
        return table[table["latent"] == latent].reset_index(drop=True)


def open_beside(store: Store, request: DossierRequest) -> Beside:
    """What the store has; touches no model."""

    def table(name: str) -> pd.DataFrame | None:
        return store.get(run_key(request, name), FRAME)

    def about(name: str) -> str:
        found = store.get(run_key(request, name), JSON)
        return found if isinstance(found, str) else ""

    return Beside(
        map=table("map"),
        meta=table("meta"),
        meta_about=about("meta"),
        absorption=table("absorption"),
        absorption_about=about("absorption"),
    )


def keep_run(
    store: Store, request: DossierRequest, name: str, table: pd.DataFrame, about: str
) -> None:
    """Keep what a run gave."""
    store.keep(run_key(request, name), table, FRAME)
    store.keep(run_key(request, name), about, JSON)


def run_key(request: DossierRequest, name: str) -> Key:
    """Where a run lies: by names and versions of what it is of, the latent left out.

    Raises ValueError for an unknown run.
    """
    if name not in RUNS:
        raise ValueError(f"There is no run {name!r}; choose of {', '.join(RUNS)}.")
    of: dict[str, dict[str, Any]] = {
        "map": {"family": [list(it) for it in request.family] or [list(request.sae)]},
        "meta": {"sae": list(request.sae)},
        "absorption": {
            "sae": list(request.sae),
            "text": [request.corpus.digest, request.tokens],
        },
    }
    return Key(f"dossier-{name}", _VERSION, {"model": request.model, **of[name]})
