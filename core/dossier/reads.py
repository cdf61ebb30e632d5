"""Reads: where does the latent fire, how often, how strongly, and on what?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.activations.examples import latent_examples
from core.corpus.token_set import TokenSet
from core.descriptions.offline import describe_latents
from core.descriptions.patterns import Pattern
from core.dossier.clusters import Cluster, clusters_of
from core.dossier.measure import Measure, share
from core.dossier.shared import Shared, Units
from core.latent.dashboard import read_dashboard
from core.latent.examples import ExampleRow, example_rows
from core.tokens import TokenTexts, whole_characters

VERSION = 2
EARLY = 4
"""Positions at the beginning of a text that count as early."""
_AROUND = 12
_BEFORE = _AFTER = 8
_WEAK_BANDS = 5


@dataclass(frozen=True)
class Band:
    """Examples of one part of the range of activations."""

    low: float
    """From this activation,"""
    high: float
    """to this one."""
    count: int
    """Positions of the text in the band."""
    rows: tuple[ExampleRow, ...]
    """Some of them."""


@dataclass(frozen=True, eq=False)
class Reads:
    """What one latent responds to."""

    measures: tuple[Measure, ...]
    """Its numbers."""
    text: str
    """Name of the text."""
    n_tokens: int
    """Positions that were read."""
    count: int
    """Of these, where it fires."""
    peak: float
    """Largest activation."""
    mean: float
    """Mean activation where it fires; NaN where it never does."""
    histogram: Int[np.ndarray, " n"]
    """Positions by activation,"""
    edges: Float[np.ndarray, " n_plus_1"]
    """whose bins have these edges."""
    top: tuple[ExampleRow, ...]
    """Strongest examples, best first."""
    bands: tuple[Band, ...]
    """Examples by part of the range, strongest first."""
    clusters: tuple[Cluster, ...]
    """Kinds of contexts among the examples."""
    tokens: pd.DataFrame
    """Tokens of the strongest examples: `token`, `examples`."""
    weak_tokens: pd.DataFrame
    """Tokens of the weak examples: `token`, `examples`, `also strong`."""
    pattern: Pattern
    """What the strongest examples have in common, by their words."""
    explanation: str
    """The same in words, to follow "activates on"; empty without examples."""
    positions: Int[np.ndarray, " n"]
    """Firings of the sample by position in the text, from its first token."""
    positions_all: Int[np.ndarray, " n"]
    """All positions of the sample by the same."""


def patterns_of(units: Units, numbers: Sequence[int]) -> tuple[list[str], list[Pattern]]:
    """What the strongest examples of some units have in common, as text and as a rule."""
    index, whole = units.index, units.whole
    places = whole.top_places[list(numbers)]
    windows, vocabulary = whole_characters(
        index.token_set.windows(places, _BEFORE, _AFTER), index.vocabulary
    )
    found = describe_latents(windows, whole.top_values[list(numbers)], vocabulary, n_before=_BEFORE)
    return found.texts, found.patterns


def described(shared: Shared, units: Units, numbers: Sequence[int]) -> "pd.DataFrame":
    """`text` and `pattern` of some units, each told from the same random latents.

    Which words beside the peaks are telling depends on what stands beside those of others.
    """
    others = shared.peers.tolist() if units is shared.own else []
    whole = list(dict.fromkeys([*numbers, *others]))
    texts, patterns = patterns_of(units, whole)
    rows = [whole.index(number) for number in numbers]
    return pd.DataFrame({"text": [texts[i] for i in rows], "pattern": [patterns[i] for i in rows]})


def figures(shared: Shared, units: Units, numbers: Sequence[int]) -> pd.DataFrame:
    """Figures of some units that are compared with controls."""
    whole, token_set = units.whole, units.index.token_set
    rows = []
    for number in numbers:
        top = _tokens(whole.top_places[number], token_set)
        weak = _weak_tokens(units, number)
        fires = _fires(units, number)
        rows.append(
            {
                "purity": _purity(top),
                "weak_same": _mean(np.isin(weak, top)),
                "early": _mean(_position(units)[fires] < EARLY),
                "repeats": _mean(_seen_before(units)[fires]),
            }
        )
    return pd.DataFrame(rows)


def read_section(shared: Shared, latent: int) -> Reads:
    """The section of a latent. Raises ValueError for one that does not exist."""
    units = shared.own
    board = read_dashboard(shared.store, units.index, latent)
    if board is None:
        raise ValueError("The index was removed from the disk meanwhile; try again.")
    about = described(shared, units, [latent]).iloc[0]
    examples = latent_examples(units.whole, latent, units.index.token_set)
    vocabulary, token_set = units.index.vocabulary, units.index.token_set
    top_tokens = _tokens(units.whole.top_places[latent], token_set)
    weak = _weak_tokens(units, latent)
    fires = _fires(units, latent)
    position = _position(units)
    tops = tuple(example_rows(examples.top, units.index, around=_AROUND))
    bands = tuple(
        Band(
            it.low, it.high, it.count, tuple(example_rows(it.examples, units.index, around=_AROUND))
        )
        for it in examples.bands
    )
    n_shown = 32
    return Reads(
        measures=_measures(shared, latent, board.count, board.n_tokens, top_tokens, weak),
        text=units.index.corpus,
        n_tokens=board.n_tokens,
        count=board.count,
        peak=board.peak,
        mean=board.mean,
        histogram=board.counts,
        edges=board.edges,
        top=tops,
        bands=bands,
        clusters=clusters_of([*tops, *(row for band in bands for row in band.rows)]),
        tokens=_counted(top_tokens, vocabulary),
        weak_tokens=_counted(weak, vocabulary).assign(
            **{"also strong": lambda table: table["id"].isin(top_tokens)}
        ),
        pattern=about["pattern"],
        explanation=about["text"],
        positions=np.bincount(position[fires].clip(max=n_shown - 1), minlength=n_shown),
        positions_all=np.bincount(position.clip(max=n_shown - 1), minlength=n_shown),
    )


def _measures(
    shared: Shared, latent: int, count: int, n_tokens: int, top: np.ndarray, weak: np.ndarray
) -> tuple[Measure, ...]:
    units, beside = shared.own, shared.beside("reads", figures, VERSION, latent)
    fires = _fires(units, latent)
    n = int(fires.sum())
    early = int((_position(units)[fires] < EARLY).sum())
    repeats = int(_seen_before(units)[fires].sum())
    most = int(np.unique(top, return_counts=True)[1].max()) if len(top) else 0
    return (
        share("rate", "Positions at which it fires", count, n_tokens, "tokens"),
        share(
            "purity",
            "Strongest examples on their commonest token",
            most,
            len(top),
            "examples",
            **beside["purity"],
        ),
        share(
            "weak_same",
            "Weak examples on a token of the strong ones",
            int(np.isin(weak, top).sum()),
            len(weak),
            "examples in the lower half of its range",
            **beside["weak_same"],
        ),
        share(
            "early",
            f"Firings among the first {EARLY} tokens of a text",
            early,
            n,
            "firings",
            **beside["early"],
        ),
        share(
            "repeats",
            "Firings where the pair of tokens stood in the text before",
            repeats,
            n,
            "firings",
            **beside["repeats"],
        ),
    )


def _tokens(places: np.ndarray, token_set: TokenSet) -> np.ndarray:
    return token_set.tokens.ravel()[places[places >= 0]]


def _weak_tokens(units: Units, number: int) -> np.ndarray:
    """Tokens of the examples in the lower half of the range."""
    places = units.whole.band_places[number, :_WEAK_BANDS].ravel()
    return _tokens(places, units.index.token_set)


def _fires(units: Units, number: int) -> np.ndarray:
    latents = units.sample.firings.latents
    return np.asarray(latents[:, [number]].todense()).ravel() > 0


def _position(units: Units) -> np.ndarray:
    """Position of each place of the sample in its row, from the row's first token of text."""
    sample = units.sample
    place = sample.firings.places.astype(np.int64) % sample.firings.context
    return place - int(sample.tokens.leading(0))


def _seen_before(units: Units) -> np.ndarray:
    """Whether each token of the sample, with the one before it, stood in its row before."""
    firings = units.sample.firings
    row, tokens = firings.places // firings.context, firings.tokens.astype(np.int64)
    pair = np.full(len(tokens), -1, dtype=np.int64)
    same = row[1:] == row[:-1]
    pair[1:][same] = (tokens[:-1][same] << 32) | tokens[1:][same]
    key = pd.DataFrame({"row": row, "pair": pair})
    return (key.duplicated(["row", "pair"]) & (key["pair"] >= 0)).to_numpy()


def _counted(ids: np.ndarray, vocabulary: TokenTexts) -> pd.DataFrame:
    different, counts = np.unique(ids, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return pd.DataFrame(
        {
            "id": different[order].astype(np.int64),
            "token": [vocabulary.text(int(it)) for it in different[order]],
            "examples": counts[order],
        }
    )


def _purity(ids: np.ndarray) -> float:
    return float(np.unique(ids, return_counts=True)[1].max() / len(ids)) if len(ids) else np.nan


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan
