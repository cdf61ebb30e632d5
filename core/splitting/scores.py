"""Scores for steering of all latents on a map, to colour its points by."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.corpus.documents import Corpus
from core.splitting.members import Member
from core.view.corpora import SAMPLE_TOKENS

if TYPE_CHECKING:  # they bring torch
    import numpy as np

    from core.lease import Lease
    from core.splitting.map_data import MapRequest
    from core.store import Store

SPLIT_TOKENS = SAMPLE_TOKENS
"""Text that is read with every SAE for input scores: that of the dashboards, which share it."""
ABOUT = {
    "output": "Output score: at an equal change of the predictions, does a latent make the model "
    "say what it pushes?",
    "input": "Input score: does a latent fire on the tokens that it pushes?",
}
"""What each score says."""


def scores_key(model: str, members: Sequence[Member], corpus: Corpus, kind: str) -> str:
    """Key of the job."""
    saes = [[*it.entry.key, it.entry.version] for it in members]
    text = json.dumps([model, saes, corpus.digest if kind == "input" else "", kind])
    return "map-scores:" + hashlib.sha256(text.encode()).hexdigest()[:24]


def score_of(
    lease: "Lease", store: "Store", request: "MapRequest", kind: str
) -> "dict[str, np.ndarray]":
    """`output` or `input` score of every latent of each SAE of the map, by label; NaN where there
    is none.

    Raises:
        ValueError: SAEs whose latents do not write to the stream, or a text that cannot be read.
    """
    from core.activations.text_index import IndexRequest, make_index
    from core.steering.score_run import all_output_scores, run_scores

    labels = [member.label for member in request.members]
    leases = [lease.with_saes([number]) for number in range(len(labels))]
    if kind == "output":
        return {
            label: all_output_scores(one, store).own.calibrated
            for label, one in zip(labels, leases, strict=True)
        }
    saes = tuple((*it.entry.key, it.entry.version) for it in request.members)
    wanted = IndexRequest(request.model, saes, request.corpus, SPLIT_TOKENS)
    indexes = make_index(lease, store, wanted)
    return {
        label: run_scores(one, store, index).input_score
        for label, one, index in zip(labels, leases, indexes, strict=True)
    }
