"""Does a model read a latent's direction as it reads the latent's own word?

Some latents fire on one word. Asked for the meaning of that word, the model gives its own
definition; asked for the meaning of the latent's direction in the word's place, it should say the
same. Word overlap (unigram F1) with its own definition, against that with the definitions of other
latents' words, says how far patch scoping works on a model at all.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from core.jobs.progress import Progress
from core.models import Model
from core.patch_scoping.generation import complete
from core.patch_scoping.injection import Injection
from core.patch_scoping.prompt import ScopePrompt
from core.tokens import TokenTexts

WORD = re.compile(r"[A-Za-z]{3,}")
"""A token that is a word: three letters or more, without its space."""
N_RESAMPLES = 2000


@dataclass(frozen=True)
class PeakWord:
    """A latent that fires on one word."""

    latent: int
    """Index in the SAE."""
    token: int
    """The token at most of its strongest positions."""
    word: str
    """That token without the spaces around it."""
    share: float
    """Share of its strongest positions that hold the token."""


def peak_words(
    peaks: Int[np.ndarray, "d_sae n_top"], texts: TokenTexts, *, min_share: float = 2 / 3
) -> list[PeakWord]:
    """Latents whose strongest positions mostly hold one and the same word.

    Args:
        peaks: tokens at each latent's strongest positions, best first; -1 where it has fewer.
            Latents that have fewer than the table has columns are left out.
        texts: of the model's tokens.
        min_share: least share of the positions that hold the word.

    Raises:
        ValueError: a share outside 0 to 1.
    """
    if not 0 < min_share <= 1:
        raise ValueError(f"min_share is {min_share}; use more than 0, at most 1.")
    found = []
    for latent in np.flatnonzero((peaks >= 0).all(1)):
        token, count = Counter(peaks[latent].tolist()).most_common(1)[0]
        word = texts.text(token).strip()
        if count >= min_share * peaks.shape[1] and WORD.fullmatch(word):
            found.append(PeakWord(int(latent), int(token), word, count / peaks.shape[1]))
    return found


def own_definitions(
    model: Model,
    prompt: ScopePrompt,
    tokens: Sequence[int],
    *,
    max_new_tokens: int = 30,
    stop: str | None = '"',
    progress: Progress | None = None,
) -> dict[int, str]:
    """What the model answers to the prompt with each token in the placeholder's place, greedily.

    Raises:
        ValueError: a placeholder of several tokens, of which one token cannot take the place.
    """
    if any(len(places) != 1 for places in prompt.occurrences):
        raise ValueError(
            f"The placeholder {prompt.placeholder!r} is not one token, so no token can take its "
            "place; use another placeholder."
        )
    wanted = list(dict.fromkeys(int(token) for token in tokens))
    asked = []
    for token in wanted:
        ids = [
            token if i in prompt.positions else original for i, original in enumerate(prompt.tokens)
        ]
        asked.append(Injection(ScopePrompt("", tuple(ids), "", ())))
    texts = complete(model, asked, max_new_tokens=max_new_tokens, stop=stop, progress=progress)
    return {token: one.answer for token, [one] in zip(wanted, texts, strict=True)}


def unigram_f1(a: str, b: str) -> float:
    """Harmonic mean of word precision and recall, counting repeats; 0 when nothing is shared."""
    first, second = (Counter(re.findall(r"\w+", text.lower())) for text in (a, b))
    shared = sum((first & second).values())
    return 2 * shared / (first.total() + second.total()) if shared else 0.0


@dataclass(frozen=True)
class Mean:
    """A mean over latents with its 95% bootstrap interval, latents resampled."""

    value: float
    """The mean."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""

    def __str__(self) -> str:
        """Value and interval, with two decimals."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def bootstrap_mean(values: Float[np.ndarray, " n"], *, seed: int = 0) -> Mean:
    """Mean of one value a latent, with the percentile bootstrap.

    Raises ValueError without values.
    """
    if not len(values):
        raise ValueError("There are no latents to average over; choose some that fire on a word.")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(values), (N_RESAMPLES, len(values)))
    low, high = np.quantile(np.asarray(values, float)[drawn].mean(1), [0.025, 0.975])
    return Mean(float(np.mean(values)), float(low), float(high))


@dataclass(frozen=True)
class ReadingScore:
    """How well a model reads the directions of latents that fire on one word."""

    f1: Mean
    """Overlap of each text with the model's own definition of that latent's word."""
    shuffled: Mean
    """Overlap with its definitions of the other latents' words, averaged over them."""
    exact: Mean
    """Share of texts that are word for word the model's own definition."""
    table: pd.DataFrame
    """A row a latent: latent, word, own, read, f1, shuffled."""


def reading_score(
    words: Sequence[PeakWord],
    definitions: Mapping[int, str],
    texts: Mapping[int, str],
    *,
    seed: int = 0,
) -> ReadingScore:
    """Compare the texts of latents with the definitions of their words.

    Other latents of the same word are no shuffled latents: their definitions are left out there.

    Args:
        words: latents with their words.
        definitions: the model's own definition of each token.
        texts: what it says of each latent's direction.
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than two different words.
    """
    if len({word.word.lower() for word in words}) < 2:
        raise ValueError("Shuffling needs latents of two words or more; choose more latents.")
    own = [definitions[word.token] for word in words]
    read = [texts[word.latent] for word in words]
    overlap = np.array([[unigram_f1(text, definition) for definition in own] for text in read])
    names = np.array([word.word.lower() for word in words])
    other = names[:, None] != names[None]
    matched = np.diag(overlap)
    shuffled = (overlap * other).sum(1) / other.sum(1)
    table = pd.DataFrame(
        {
            "latent": [word.latent for word in words],
            "word": [word.word for word in words],
            "own": own,
            "read": read,
            "f1": matched,
            "shuffled": shuffled,
        }
    )
    same = np.array([a == b for a, b in zip(read, own, strict=True)], float)
    return ReadingScore(
        f1=bootstrap_mean(matched, seed=seed),
        shuffled=bootstrap_mean(shuffled, seed=seed),
        exact=bootstrap_mean(same, seed=seed),
        table=table,
    )
