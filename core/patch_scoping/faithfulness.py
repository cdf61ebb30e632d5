"""Does a text name what the latent fires on and what it writes, more than other latents' things?

The share of a latent's top activating tokens and of its boosted tokens that a text names is a
number without a scale: a text of common words names something of every latent. So each text is
also held against the tokens of other latents, which tells what naming costs nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_WORDS = re.compile(r"[^\W\d_]+")
_SHORTEST = 3
_STEM = 4
_LITTLE_WORDS = (
    "the and are not for from this that these those with will was were been being has have had"
    " which when where what who how why can could may might must should would shall does did its"
    " their they there then than but also any each both either other such some more most one"
)
_LITTLE = frozenset(_LITTLE_WORDS.split())


@dataclass(frozen=True)
class LatentTokens:
    """Tokens that tell what a latent is about, as text."""

    active: Mapping[str, float]
    """Tokens at its strongest positions, each with its share of them."""
    boosted: tuple[str, ...]
    """Tokens whose logits its direction raises most, the strongest first."""


@dataclass(frozen=True)
class Faithfulness:
    """How much of one latent a text names, and how much of other latents."""

    named: tuple[str, ...]
    """Tokens of the latent that the text names."""
    active: float
    """Share of the strongest positions whose token is named."""
    boosted: float
    """Share of the boosted tokens that are named; tokens that are no words are left out."""
    score: float
    """Mean of the two; where the latent has no words among its tokens, 0."""
    others: float
    """Mean score of the same text with the tokens of other latents."""
    p: float
    """Share of latents, this one counted in, of which the text names as much."""


def named_tokens(text: str, tokens: Sequence[str]) -> tuple[bool, ...]:
    """Whether `text` names each token.

    A token is named by a word that equals it, letter case aside, or by one that shares its
    beginning of four letters or more up to an ending: "arrays" names "array". Tokens and words of
    fewer than three letters, and words that stand in any sentence, name nothing.
    """
    said = {word for word in _words(text) if _tells(word)}
    return tuple(any(_same(_word(token), word) for word in said) for token in tokens)


def scores(text: str, tokens: LatentTokens) -> tuple[float, float, float, tuple[str, ...]]:
    """(score, active share, boosted share, named tokens) of a text for one latent."""
    active = [token for token in tokens.active if _tells(_word(token))]
    boosted = [token for token in tokens.boosted if _tells(_word(token))]
    hit = named_tokens(text, [*active, *boosted])
    first, second = hit[: len(active)], hit[len(active) :]
    weight = sum(tokens.active.values()) or 1.0
    active_share = (
        sum(tokens.active[token] for token, named in zip(active, first, strict=True) if named)
        / weight
    )
    boosted_share = sum(second) / len(boosted) if boosted else 0.0
    named = [token for token, yes in zip([*active, *boosted], hit, strict=True) if yes]
    return (
        (active_share + boosted_share) / 2,
        active_share,
        boosted_share,
        tuple(dict.fromkeys(token.strip() for token in named)),
    )


def faithfulness(text: str, own: LatentTokens, others: Sequence[LatentTokens]) -> Faithfulness:
    """How much of `own` a text names, against how much of `others` it names.

    Raises ValueError without other latents to compare with.
    """
    if not others:
        raise ValueError("There are no other latents to compare with; give one or more.")
    score, active, boosted, named = scores(text, own)
    elsewhere = np.array([scores(text, other)[0] for other in others])
    return Faithfulness(
        named=named,
        active=active,
        boosted=boosted,
        score=score,
        others=float(elsewhere.mean()),
        p=(1 + int((elsewhere >= score).sum())) / (len(others) + 1),
    )


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text)]


def _word(token: str) -> str:
    """A token that is one word, in lower case; empty for any other."""
    word = token.strip().lower()
    return word if _WORDS.fullmatch(word) else ""


def _tells(word: str) -> bool:
    return len(word) >= _SHORTEST and word not in _LITTLE


def _same(token: str, word: str) -> bool:
    if not token:
        return False
    if token == word:
        return True
    short, long = sorted((token, word), key=len)
    return len(short) >= _STEM and long.startswith(short) and len(long) - len(short) <= _STEM
