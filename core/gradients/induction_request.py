"""Induction for the page: random repeated tokens, the pair's latents, the heads behind them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from sae_lens import SAE

from core.catalog.entries import SaeEntry
from core.engine import Engine
from core.gradients import induction_kept
from core.gradients.descriptions import SaePrint, sae_prints
from core.gradients.gradient_request import LEASE_SECONDS
from core.gradients.heads import head_scores, induction_layers, repeated_tokens
from core.gradients.induction import BoxShare, InductionSearch
from core.gradients.matrix import GradientMatrix, gradient_matrix, token_texts
from core.gradients.sae_choices import attention
from core.hub import HubErrorsInWords
from core.jobs.progress import Progress
from core.models.hooks import Model, cache_sites
from core.store import Store

N_PROMPTS = 4
"""Random prompts that are looked at together."""
_VERSION = 1


@dataclass(frozen=True)
class HeadsRequest:
    """Scores of all heads on random repeated tokens."""

    model: str
    """Name of the model."""
    length: int
    """Tokens that are repeated."""
    seed: int
    """Which tokens."""

    @property
    def key(self) -> str:
        """Key of the job."""
        return "heads:" + json.dumps([_VERSION, asdict(self)])


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
class HeadsResult:
    """What the heads do."""

    scores: pd.DataFrame
    """As `core.gradients.induction.head_scores`."""
    tokens: tuple[str, ...]
    """Texts of the first prompt."""
    patterns: Mapping[tuple[int, int], Float[np.ndarray, "pos pos"]]
    """On the first prompt, of the heads concerned: by layer and head, the strongest first."""
    titles: Mapping[tuple[int, int], str]
    """What these heads do."""


@dataclass(frozen=True, eq=False)
class InductionResult:
    """What was found; nothing here holds on to a model."""

    request: InductionRequest
    """What was asked."""
    length: int
    """Tokens that are repeated."""
    latents: pd.DataFrame
    """As in `core.gradients.induction.Induction`."""
    partners: pd.DataFrame
    """As there."""
    boxes: BoxShare
    """Of gradients on repeated tokens."""
    control_boxes: BoxShare
    """Of gradients on tokens that do not repeat."""
    matrix: GradientMatrix
    """Of the first prompt: all sources to these latents in its second half."""
    prints: Mapping[str, SaePrint]
    """What identifies the weights of each SAE, by its name in links."""


def find_heads(
    engine: Engine, store: Store, request: HeadsRequest, progress: Progress
) -> HeadsResult:
    """Scores of all heads, and the patterns of those that matter most; from the store if there.

    Raises:
        ValueError: a length that the model cannot repeat.
    """
    progress.update(0, 1, unit="models", message="Looking where heads look")
    with HubErrorsInWords(), engine.use(request.model) as (model, _):
        tokens = repeated_tokens(model, request.length, n_prompts=N_PROMPTS, seed=request.seed)
        key = induction_kept.heads_key(model, tokens)
        known = induction_kept.load_heads(store, key)
        if known is not None:
            return known
        scores = head_scores(model, tokens)
        concerned = concerned_heads(scores)
        layers = sorted({layer for layer, _ in concerned})
        names = {layer: f"blocks.{layer}.attn.hook_pattern" for layer in layers}
        found = cache_sites(model, tokens[:1], list(names.values()))
        texts = tuple(token_texts(model, tokens[:1])[0])
    result = HeadsResult(
        scores=scores,
        tokens=texts,
        patterns={
            (layer, head): found[names[layer]][0, head].float().cpu().numpy()
            for layer, head in concerned
        },
        titles=concerned,
    )
    induction_kept.save_heads(store, key, result)
    return result


def concerned_heads(scores: pd.DataFrame) -> dict[tuple[int, int], str]:
    """The heads that look most at the token before, and those that do most induction."""
    found: dict[tuple[int, int], str] = {}
    for column, n, words in (
        ("previous_token", 2, "looks at the token before"),
        ("induction", 3, "looks behind the earlier occurrence"),
    ):
        best = scores.sort_values(column, ascending=False, kind="stable").head(n)
        for row in best.itertuples():
            share = float(getattr(row, column))
            found.setdefault(
                (int(row.layer), int(row.head)),
                f"Layer {row.layer}, head {row.head}: {words} ({share:.0%})",
            )
    return found


def suggested_pair(
    scores: pd.DataFrame, entries: Sequence[SaeEntry]
) -> tuple[SaeEntry, SaeEntry] | None:
    """SAEs at the strongest induction head and at the strongest previous-token head before it.

    Of one release if possible; None where there are no two layers with an attention SAE.
    """
    saes = [entry for entry in attention(entries) if entry.layer is not None]
    pair = induction_layers(scores, [entry.layer for entry in saes if entry.layer is not None])
    if pair is None:
        return None
    early, late = pair
    for release in dict.fromkeys(entry.release for entry in saes):
        of_release = {entry.layer: entry for entry in saes if entry.release == release}
        if {early, late} <= set(of_release):
            return of_release[early], of_release[late]
    first, second = (next(it for it in saes if it.layer == n) for n in (early, late))
    return first, second


def find(
    engine: Engine, store: Store, request: InductionRequest, progress: Progress
) -> InductionResult:
    """Induction between the two SAEs, in short leases; from the store where it was found before.

    Raises:
        ValueError: SAEs that do not read heads, are in the wrong order, or do not fit.
        JobCancelled: through `progress`.
    """
    heads = request.heads

    def report(done: int, total: int | None, message: str) -> None:
        progress.update(done, total, unit="bytes", message=message)

    names = [entry.key for entry in request.entries]
    search: InductionSearch | None = None
    result: InductionResult | None = None
    while result is None:
        with HubErrorsInWords(), engine.use(heads.model, names, progress=report) as (model, saes):
            if search is None:
                tokens = repeated_tokens(model, heads.length, n_prompts=N_PROMPTS, seed=heads.seed)
                prints = sae_prints(request.entries, saes)
                key = induction_kept.key_of(model, tokens, heads.seed, prints)
                known = induction_kept.load(store, key, request, prints)
                if known is not None:
                    return known
                search = InductionSearch(model, saes[0], saes[1], tokens, seed=heads.seed)
            if not search.is_done:
                search.go_on(model, saes[0], saes[1], progress, seconds=LEASE_SECONDS)
            else:
                result = _result(request, search, model, saes, prints)
    induction_kept.save(store, key, result)
    return result


def _result(
    request: InductionRequest,
    search: InductionSearch,
    model: Model,
    saes: Sequence[SAE],
    prints: Mapping[str, SaePrint],
) -> InductionResult:
    found = search.found(model, saes[0], saes[1])
    route = found.route.route
    first = [
        (indices[:, 0] == 0).nonzero()[:, 0]
        for indices in (route.target_indices, route.source_indices)
    ]
    narrowed = route.restrict(targets=first[0], sources=first[1])
    values = found.gradients[first[0]][:, first[1]]
    return InductionResult(
        request=request,
        length=found.length,
        latents=found.latents,
        partners=found.partners,
        boxes=found.boxes,
        control_boxes=found.control_boxes,
        matrix=gradient_matrix(narrowed, values, token_texts(model, found.tokens[:1])),
        prints=prints,
    )


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


def shading(tokens: Sequence[str], length: int) -> list[float]:
    """1 for tokens of the second half, to be shaded, 0 for others."""
    return [float(n > length) for n in range(len(tokens))]
