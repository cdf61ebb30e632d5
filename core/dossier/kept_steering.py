"""A run of the page of steering that a reader kept for the dossier of a latent.

Kept with what is never evicted, under the SAE's weights and not its name; a later one takes its
place.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from core.dossier.blocks import Grid, grid
from core.steering.intervention import MODES, PLACES
from core.steering.request import SteerRequest
from core.steering.result import SteerResult
from core.steering.view import UNITS
from core.store import JSON, Key, Store

MOST_ROWS = 40
"""Rows that are kept, the first of the run."""
_COLUMNS = (
    *("kind", "strength", "kl", "gain", "gain_low", "gain_high", "loss_change", "own"),
    *("later", "perplexity", "text"),
)
_VERSION = 1


@dataclass(frozen=True)
class KeptSteering:
    """What a reader steered a latent to, and what came of it."""

    when: str
    """Time at which it was kept, ISO 8601 in UTC."""
    who: str
    """Who kept it; may be empty."""
    how: str
    """Prompt, mode, place and unit, in a sentence."""
    link: str
    """Address of the view that shows it."""
    later: str
    """The latent of a later SAE that was looked at, in words; may be empty."""
    rows: tuple[dict[str, Any], ...]
    """By row: `kind`, `strength`, `kl`, `gain` with its interval, `loss_change`, `own`, `later`,
    `perplexity` and `text` (of the first sample); None for what cannot be told."""

    def block(self) -> Grid:
        """As a table of the chapter on what the latent writes."""
        from core.dossier.sections_shown import visible_line

        table = pd.DataFrame(list(self.rows), columns=list(_COLUMNS))
        table["text"] = table["text"].map(visible_line)
        by = f" by {self.who}" if self.who else ""
        later = f" Further on: {self.later}." if self.later else ""
        table = table.rename(columns={"own": "itself", "later": "further on"})
        return grid(
            "Steered by a reader",
            table,
            list(table),
            wraps=True,
            note=f"Kept{by} on {self.when[:16].replace('T', ' ')} UTC. {self.how}{later}",
        )


def kept_of(
    request: SteerRequest,
    result: SteerResult,
    latent: int,
    *,
    link: str,
    who: str = "",
    now: datetime | None = None,
) -> KeptSteering:
    """The part of a run that steers the latent alone, with the unsteered row.

    Raises ValueError where the run is not whole, or has no row of the latent alone.
    """
    if not result.is_whole:
        raise ValueError("The run was stopped before it was whole; run it again to keep it.")
    if (latent,) not in request.groups:
        raise ValueError(
            f"This run does not steer latent {latent} by itself; steer it alone to keep that for "
            "its dossier."
        )
    group = request.groups.index((latent,))
    rows = result.rows[(result.rows["kind"] == "unsteered") | (result.rows["group"] == group)]
    first = result.texts[result.texts["sample"] == 0].set_index("row")["text"]
    table = rows.assign(text=rows["row"].map(first))[list(_COLUMNS)].head(MOST_ROWS)
    plain = table.astype(object).where(table.notna(), None)
    unit = "" if request.mode in ("scale", "ablate") else f", strengths {UNITS[request.unit]}"
    sampled = (
        "likeliest tokens"
        if not request.sampling.temperature
        else (f"temperature {request.sampling.temperature:g}, seed {request.sampling.seed}")
    )
    how = (
        f"“{MODES[request.mode]}”, {PLACES[request.place.kind].lower()}{unit}, after "
        f"{request.prompt[:200]!r}; {sampled}. Gain: in the probability of the tokens that it "
        "pushes, on held-out text; itself: its own activation, read again afterwards."
    )
    moment = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    records = tuple(plain.to_dict("records"))
    return KeptSteering(moment, who, how, link, result.later[group], records)


def keep_steering(store: Store, sae_fingerprint: str, latent: int, kept: KeptSteering) -> None:
    """Keep a run for the dossier of a latent, in the place of the one before."""
    values = asdict(kept) | {"rows": list(kept.rows)}
    store.put(_key(sae_fingerprint, latent), values, JSON, paid=True)


def load_steering(store: Store, sae_fingerprint: str, latent: int) -> KeptSteering | None:
    """What was kept last; None where nothing was, or it cannot be read."""
    if not sae_fingerprint:
        return None
    found = store.get(_key(sae_fingerprint, latent), JSON, paid=True)
    if not isinstance(found, dict):
        return None
    try:
        return KeptSteering(**{**found, "rows": tuple(found["rows"])})
    except (TypeError, KeyError):
        return None


def _key(sae_fingerprint: str, latent: int) -> Key:
    return Key("dossier-steering", _VERSION, {"sae": sae_fingerprint, "latent": latent})
