"""Absorption of many concepts in one SAE, from sites that were read once.

sites = text_sites(PlainLease(model, [sae]), tokens)
concepts, left_out = token_concepts(builtin_sets(vocabulary), sites)
for found in absorption_of(sites, concepts):
    found.name, found.f1, found.full
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from scipy.sparse import csc_array

from core.absorption.concepts import Concept, check_concept
from core.absorption.measure import Absorbed, Thresholds, absorbed
from core.absorption.nulls import random_sae, shuffled
from core.absorption.probe import Probe, fit_probes, held_out
from core.absorption.result import ConceptResult, Rates
from core.absorption.sites import Sites
from core.absorption.sparse_probe import JUMP, MOST, SparseProbe, sparse_probe
from core.fit_check.sums import Figure

_DRAWS = 400
_DIRECTIONS = 8
_EXAMPLE_LATENTS, _EXAMPLES = 3, 6


@dataclass(frozen=True)
class AbsorptionConfig:
    """What counts, and what is drawn."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    """From where on something is absorption."""
    least_f1: float = 0.6
    """F1 of the probe below which the model does not have the concept (SAEBench's bound)."""
    jump: float = JUMP
    """How much F1 has to rise for one more latent to be a part of a split."""
    most_latents: int = MOST
    """Largest k of the k-sparse probe."""
    raw: bool = False
    """Whether projections are SAEBench's own (`core.absorption.measure`)."""
    seed: int = 0
    """Of held-out tokens and of the nulls."""

    def __post_init__(self) -> None:
        if self.most_latents < 1 or not 0 <= self.least_f1 <= 1:
            raise ValueError(
                f"most_latents {self.most_latents} and least_f1 {self.least_f1}: use 1 or more, "
                "and 0 to 1."
            )


def absorption_of(
    sites: Sites,
    concepts: Sequence[Concept],
    *,
    config: AbsorptionConfig | None = None,
    check: Callable[[int], None] | None = None,
) -> list[ConceptResult]:
    """Absorption of each concept, with its nulls; `check(n)` is called after n concepts.

    Raises:
        ValueError: a concept of fewer than 20 tokens, or true of nearly all, or no concept.
    """
    config = config or AbsorptionConfig()
    if not concepts:
        raise ValueError(
            "No concept is left to look for; read a longer text or choose larger sets of tokens."
        )
    for concept in concepts:
        check_concept(concept, sites)
    train = held_out(sites.token, seed=config.seed)
    labels = np.stack([it.label for it in concepts], 1)
    mixed = np.stack([shuffled(sites.token, it.label, config.seed) for it in concepts], 1)
    probes = fit_probes(sites.x, np.concatenate([labels, mixed], 1), train)
    random = random_sae(sites, config.seed)
    columns = csc_array(sites.acts), csc_array(random.acts)
    found = []
    for number, concept in enumerate(concepts):
        other = replace(concept, label=mixed[:, number])
        pair = probes[number], probes[len(concepts) + number]
        found.append(_one(sites, random, columns, concept, other, pair, train, config))
        if check is not None:
            check(number + 1)
    return found


def _one(
    sites: Sites,
    random: Sites,
    columns: tuple[csc_array, csc_array],
    concept: Concept,
    other: Concept,
    probes: tuple[Probe, Probe],
    train: np.ndarray,
    config: AbsorptionConfig,
) -> ConceptResult:
    probe, null_probe = probes
    sparse = _sparse(columns[0], concept.label, train, config)
    hits = hits_of(sites, concept.label, probe)
    here = absorbed(
        sites.only(hits),
        probe.direction,
        sparse.mains,
        thresholds=config.thresholds,
        raw=config.raw,
    )
    full, fraction = intervals(sites.token[hits], here, config.seed)
    elsewhere = _rates(
        sites,
        hits_of(sites, other.label, null_probe),
        null_probe.direction,
        _sparse(columns[0], other.label, train, config).mains,
        config,
    )
    drawn = _rates(
        random,
        hits,
        probe.direction,
        _sparse(columns[1], concept.label, train, config).mains,
        config,
    )
    negative = np.flatnonzero(~concept.label)
    score = sites.x[hits] @ probe.direction - probe.cut
    return ConceptResult(
        name=concept.name,
        group=concept.group,
        n_tokens=len(np.unique(sites.token[concept.label])),
        n_positions=int(concept.label.sum()),
        f1=probe.f1,
        auroc=probe.auroc,
        represented=probe.f1 > config.least_f1,
        latents=sparse.latents,
        sparse_f1=sparse.f1,
        mains=tuple(int(it) for it in sparse.mains),
        recall=float(here.fires.mean()) if len(hits) else float("nan"),
        hedging=float((np.diff(sites.acts[negative][:, sparse.mains].indptr) > 0).mean()),
        full=full,
        fraction=fraction,
        n_hits=len(hits),
        shuffled=elsewhere,
        shuffled_f1=null_probe.f1,
        random_sae=drawn,
        random_direction=_along_random_directions(sites, hits, sparse, config),
        tokens=token_table(sites.token[hits], score, here),
        examples=absorbed_examples(sites, hits, here, config.seed),
        absorbers=absorber_table(sites, hits, probe.direction, here),
    )


def absorbed_examples(
    sites: Sites, hits: Int[np.ndarray, " hits"], here: Absorbed, seed: int
) -> pd.DataFrame:
    """The table of `ConceptResult.examples`: a few positions, drawn, of a few latents."""
    if sites.place is None or not here.full.any():
        return pd.DataFrame({"latent": [], "place": []}, dtype=np.int64)
    table = pd.DataFrame(
        {"latent": here.absorber[here.full], "place": sites.place[hits][here.full]}
    )
    most = table["latent"].value_counts(sort=True).index[:_EXAMPLE_LATENTS]
    table = table[table["latent"].isin(most)].sample(frac=1, random_state=seed)
    return table.groupby("latent", sort=False).head(_EXAMPLES).reset_index(drop=True)


def hits_of(sites: Sites, label: Bool[np.ndarray, " n"], probe: Probe) -> Int[np.ndarray, " hits"]:
    """Where the concept is true and the probe says so."""
    return np.flatnonzero(label & (sites.x @ probe.direction > probe.cut))


def intervals(token: Int[np.ndarray, " m"], here: Absorbed, seed: int) -> tuple[Figure, Figure]:
    """Full absorption and fraction, with 95 % intervals by drawing tokens with replacement."""
    ids, place = np.unique(token, return_inverse=True)
    if len(ids) == 0:
        nothing = Figure(float("nan"), float("nan"), float("nan"))
        return nothing, nothing
    n = np.bincount(place, minlength=len(ids)).astype(float)
    weights = np.random.default_rng(seed).multinomial(
        len(ids), np.full(len(ids), 1 / len(ids)), size=_DRAWS
    )
    found = []
    for value in (here.full.astype(float), here.fraction):
        sums = np.bincount(place, value, minlength=len(ids))
        samples = (weights @ sums) / (weights @ n)
        low, high = np.quantile(samples, [0.025, 0.975])
        found.append(Figure(float(sums.sum() / n.sum()), float(low), float(high)))
    return found[0], found[1]


def token_table(token: np.ndarray, score: np.ndarray, here: Absorbed) -> pd.DataFrame:
    """The table of `ConceptResult.tokens`, highest score first."""
    table = pd.DataFrame(
        {
            "token": token,
            "score": score,
            "fires": here.fires.astype(float),
            "full": here.full.astype(float),
            "fraction": here.fraction,
        }
    )
    grouped = table.groupby("token")
    found = grouped.mean()
    found.insert(0, "n", grouped.size())
    taken = pd.DataFrame({"token": token[here.full], "absorber": here.absorber[here.full]})
    most = taken.groupby("token")["absorber"].agg(lambda it: it.mode().iloc[0])
    found["absorber"] = most.reindex(found.index).fillna(-1).astype(np.int64)
    return found.reset_index().sort_values("score", ascending=False, ignore_index=True)


def absorber_table(
    sites: Sites, hits: np.ndarray, direction: np.ndarray, here: Absorbed
) -> pd.DataFrame:
    """The table of `ConceptResult.absorbers`, most positions first."""
    table = pd.DataFrame(
        {
            "latent": here.absorber[here.full],
            "token": sites.token[hits][here.full],
            "share": here.share[here.full],
        }
    )
    grouped = table.groupby("latent")
    found = pd.DataFrame(
        {
            "positions": grouped.size(),
            "tokens": grouped["token"].nunique(),
            "share": grouped["share"].mean(),
        }
    ).reset_index()
    rows = sites.rows[found["latent"].to_numpy(dtype=np.int64)]
    lengths = np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    found["cosine"] = (rows @ direction) / lengths
    return found.sort_values("positions", ascending=False, kind="stable", ignore_index=True)


def _sparse(
    acts: csc_array, label: np.ndarray, train: np.ndarray, config: AbsorptionConfig
) -> SparseProbe:
    return sparse_probe(acts, label, train, most=config.most_latents, jump=config.jump)


def _rates(
    sites: Sites,
    hits: np.ndarray,
    direction: np.ndarray,
    mains: np.ndarray,
    config: AbsorptionConfig,
) -> Rates:
    if len(hits) == 0:
        return Rates(float("nan"), float("nan"), 0)
    here = absorbed(
        sites.only(hits), direction, mains, thresholds=config.thresholds, raw=config.raw
    )
    return Rates(float(here.full.mean()), float(here.fraction.mean()), len(hits))


def _along_random_directions(
    sites: Sites, hits: np.ndarray, sparse: SparseProbe, config: AbsorptionConfig
) -> Rates:
    generator = np.random.default_rng(config.seed + 1)
    width = sites.x.shape[1]
    found = []
    for _ in range(_DIRECTIONS):
        direction = generator.standard_normal((1, width))[0].astype(np.float32)
        direction /= np.linalg.norm(direction)
        found.append(_rates(sites, hits, direction, sparse.mains, config))
    full, fraction = (
        float(np.mean([getattr(it, n) for it in found])) for n in ("full", "fraction")
    )
    return Rates(full, fraction, len(hits))


def config_of(*, share: float, cosine: float) -> AbsorptionConfig:
    """The defaults with other thresholds. Raises ValueError for what is no threshold."""
    return AbsorptionConfig(thresholds=Thresholds(share=share, full_cosine=cosine))
