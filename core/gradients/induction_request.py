"""Induction between two attention SAEs: what is asked, the result, and what it says in words."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.catalog.entries import SaeEntry
from core.descriptions.sources import DescribedSae
from core.gradients.heads import N_PROMPTS, HeadsRequest
from core.gradients.induction import Induction, find_induction
from core.gradients.matrix import GradientMatrix
from core.gradients.repeated_tokens import repeated_tokens
from core.gradients.sae_choices import described_saes
from core.lease import Lease
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec

_VERSION = 3
_CODEC = dataclass_codec(Induction)


@dataclass(frozen=True)
class InductionRequest:
    """Which pair of attention SAEs is looked at."""

    heads: HeadsRequest
    """Model and tokens."""
    early: SaeEntry
    """Earlier SAE."""
    late: SaeEntry
    """Later SAE."""

    @property
    def entries(self) -> list[SaeEntry]:
        """Both SAEs, earlier first."""
        return [self.early, self.late]

    @property
    def key(self) -> str:
        """Key of the job."""
        saes = [[*entry.key, entry.version] for entry in self.entries]
        text = json.dumps([self.heads.key, saes])
        return "induction:" + hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False)
class InductionResult(Induction):
    """What was found, with what was asked."""

    request: InductionRequest
    """What was asked."""
    saes: Mapping[str, DescribedSae]
    """What identifies the weights of each SAE, by its name in links."""


def find(lease: Lease, store: Store, request: InductionRequest) -> InductionResult:
    """Induction between the two SAEs; from the store where it was found before.

    `lease` is of the request's model and SAEs.

    Raises:
        ValueError: SAEs that do not read heads, are in the wrong order, or do not fit.
        JobCancelled: through the lease's progress.
    """
    heads = request.heads
    with lease.turn() as (model, saes):
        tokens = repeated_tokens(
            model, heads.length, saes=saes, n_prompts=N_PROMPTS, seed=heads.seed
        )
        described = described_saes(lease, request.entries)
        # The seed also makes the prompts that do not repeat.
        parameters = {
            "model": lease.model_fingerprint,
            "saes": [sae.fingerprint for sae in described.values()],
            "tokens": tokens.tolist(),
            "seed": heads.seed,
        }
    found = store.get_or_compute(
        Key("induction", _VERSION, parameters),
        lambda: find_induction(lease, tokens, seed=heads.seed),
        _CODEC,
        waiting=lease.progress.check,
    )
    return InductionResult(**vars(found), request=request, saes=described)


def verdict(result: InductionResult) -> str:
    """What was found, in two sentences."""
    n = len(result.latents)
    if not n:
        return (
            "No latent of the later SAE fires on the second half of repeated tokens more than on "
            "tokens that do not repeat: this pair shows no induction."
        )
    throughout = int(result.latents["throughout"].sum())
    latents = "1 later latent fires" if n == 1 else f"{n} later latents fire"
    all_through = {0: "none of them", n: "all of them" if n > 1 else "it does so"}.get(
        throughout, f"{throughout} of them"
    )
    clear = result.boxes.ratio > 1.5 and result.boxes.ratio > 1.5 * result.control_boxes.ratio
    sense = (
        "as induction would have it"
        if clear
        else "which is not clearly more than without induction"
    )
    return (
        f"{latents} on second halves because tokens repeat ({all_through} throughout). "
        f"{result.boxes.share:.0%} of their gradients sit in the boxes, {result.boxes.ratio:.1f} "
        f"times what boxes of this area hold by chance ({result.boxes.chance:.1%}); on tokens that "
        f"do not repeat it is {result.control_boxes.ratio:.1f} times, {sense}."
    )


def strongest_part(matrix: GradientMatrix, *, n_sources: int, n_targets: int) -> GradientMatrix:
    """The strongest rows and columns, by position: what can be read."""
    size = np.abs(matrix.values)
    rows = np.sort(np.argsort(-size.sum(1), kind="stable")[:n_targets])
    columns = np.sort(np.argsort(-size.sum(0), kind="stable")[:n_sources])
    return matrix.take(rows, columns)
