"""An edit of one latent's row, measured once and kept."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from core.asking import check_may_compute
from core.corpus.documents import Corpus
from core.meta_sae.run import MetaRequest, run_meta_sae
from core.store import Key, Store

if TYPE_CHECKING:  # they bring torch
    from core.lease import Lease
    from core.meta_sae.edit import EditEffect

_VERSION = 1
HELD_OUT = 4096
"""Tokens of held-out text at most."""


@dataclass(frozen=True)
class EditRequest:
    """What is changed, and where it is looked at."""

    meta: MetaRequest
    """The decomposition."""
    latent: int
    """The latent whose row is changed."""
    changes: tuple[tuple[int, int, float], ...]
    """(meta-latent of the row, the one in its place, factor)."""
    prompt: str
    """Text whose next token is asked for."""
    corpus: Corpus = field(compare=False)
    """Held-out text."""
    tokens: int
    """How much of it is read, at most `HELD_OUT`."""

    @property
    def key(self) -> str:
        """Key of the job."""
        parts = [self.meta.key, self.latent, self.changes, self.prompt]
        text = json.dumps([*parts, self.corpus.digest, self.tokens])
        return "meta-sae-edit:" + hashlib.sha256(text.encode()).hexdigest()[:24]


def run_edit(lease: "Lease", store: Store, request: EditRequest) -> "EditEffect":
    """The effect of a request whose SAEs the lease has (`request.meta.names`); from the store or
    measured. Raises ValueError as `edited_row` and `edit_effect`."""
    from core.meta_sae.edit import EditEffect, edit_effect, edited_row
    from core.sae_quality.run import text_of
    from core.saes.writes import WRITES_VERSION, unit_writes
    from core.store.dataclass_codec import dataclass_codec

    text = text_of(lease, store, request.corpus, min(HELD_OUT, request.tokens))
    parameters = {
        "model": lease.model_fingerprint,
        "saes": list(lease.sae_fingerprints),
        "config": asdict(request.meta.config),
        "latent": request.latent,
        "changes": [list(it) for it in request.changes],
        "prompt": request.prompt,
        "text": text.digest,
        "writes": WRITES_VERSION,
    }
    key, codec = Key("meta-sae-edit", _VERSION, parameters), dataclass_codec(EditEffect)
    found = store.get(key, codec)
    if found is None:
        check_may_compute()
        meta = run_meta_sae(lease, store, request.meta).made.meta
        with lease.turn() as (_, (sae, *_)):
            row = unit_writes(sae, [request.latent])[0].float().cpu().numpy()
        new = edited_row(meta, row, request.changes)
        found = edit_effect(lease, request.latent, new, request.prompt, text)
        store.keep(key, found, codec)
    return found
