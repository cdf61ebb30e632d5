"""A finished (or stopped) run as it is kept: everything that the page shows of it, as JSON.

Runs that asked a service are kept with the paid answers and never evicted. A record holds no key,
and of a service's address neither name, password nor query.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.autointerp.examples import Example
from core.autointerp.roles import Material
from core.store import JSON, Key, Store

Record = dict[str, Any]
"""`id`, `title`, `model`, `release`, `sae`, `settings`, `service`, `status` (running, done or
stopped), `results` by latent (as text), `controls` by kind, `spending`, `notes`, `adapted` (what
the service refused, in sentences), `readers` (versions of what read its answers), …"""

_VERSION = 2
_MOST_LISTED = 60
_listing = threading.Lock()


def save_record(store: Store, record: Record) -> None:
    """Keep a record under its `id`."""
    store.keep(_key(record["id"]), record, JSON, paid=bool(record["service"]))


def load_record(store: Store, run: str) -> Record | None:
    """The record of a run; None where there is none (any more)."""
    key = _key(run)
    found: Record | None = store.get(key, JSON, paid=True) or store.get(key, JSON)
    return found


def list_run(store: Store, record: Record) -> None:
    """Note a run in the list of its SAE's, the latest first."""
    key = _list_key(record["fingerprint"])
    entry = {name: record[name] for name in ("id", "title")} | {"when": time.time()}
    with _listing:
        known: list[Record] = store.get(key, JSON) or []
        others = [run for run in known if run["id"] != record["id"]]
        store.keep(key, [entry, *others][:_MOST_LISTED], JSON)


def listed_runs(store: Store, fingerprint: str) -> list[Record]:
    """`id`, `title` and `when` of runs on an SAE, the latest first."""
    found: list[Record] = store.get(_list_key(fingerprint), JSON) or []
    return found


def records_of(store: Store, fingerprint: str, *, most: int = _MOST_LISTED) -> Iterator[Record]:
    """The latest `most` runs on an SAE, the latest first; those that are gone are passed over."""
    for run in listed_runs(store, fingerprint)[:most]:
        record = load_record(store, run["id"])
        if record is not None:
            yield record


def edited_id(base: str, edits: Mapping[int, str]) -> str:
    """Name of the run that scores other explanations of some latents of the run `base`."""
    text = json.dumps([base, sorted(edits.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def result_with_examples(result: Mapping[str, Any], material: Material) -> Record:
    """A latent's result with the examples that it was explained and scored with."""
    return {
        **result,
        "shown": _examples(material.evidence.examples),
        "negatives": _examples(material.evidence.negatives),
        "scoring": _examples(material.scoring),
    }


def _examples(examples: Sequence[Example]) -> list[Record]:
    return [
        {
            "tokens": example.str_toks,
            "acts": [round(act, 4) for act in example.acts],
            "active": example.is_active,
            "threshold": round(example.act_threshold, 4),
            "source": example.source,
            "marked": example.to_str(mark_toks=True),
        }
        for example in examples
    ]


def _key(run: str) -> Key:
    return Key("autointerp-run", _VERSION, {"id": run})


def _list_key(fingerprint: str) -> Key:
    return Key("autointerp-runs", _VERSION, {"sae": fingerprint})
