"""Explaining and judging without a language model: the words of the peaks, matched literally.

The explainer is the offline describer (`core.descriptions`) on the generation examples alone; the
judge predicts an example to be active when it holds a word that fits the rule. It needs no key, and
is the baseline that a chat model has to beat.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from core.autointerp.example import Example
from core.autointerp.roles import Evidence, Explained, FailedAnswer, Judged
from core.descriptions.offline import describe_latents
from core.descriptions.patterns import Pattern
from core.descriptions.token_text import folded, is_wordy, kind_of, starts_word

_PREFIX = "fires on "


def lexical_explanations(
    examples: Mapping[int, Sequence[Example]], *, max_chars: int = 100
) -> dict[int, Explained]:
    """What the peaks of each latent have in common; latents without examples are left out.

    All latents at once: whether a word beside the peaks is telling depends on how often it stands
    beside the peaks of the others.
    """
    latents = [latent for latent, some in examples.items() if some]
    if not latents:
        return {}
    n_before = max(example.peak for latent in latents for example in examples[latent])
    n_after = max(len(ex.toks) - 1 - ex.peak for latent in latents for ex in examples[latent])
    shape = (len(latents), max(len(examples[latent]) for latent in latents))
    windows = np.full((*shape, n_before + 1 + n_after), -1, dtype=np.int32)
    values = np.zeros(shape, dtype=np.float32)
    numbers: dict[str, int] = {}
    for i, latent in enumerate(latents):
        for j, example in enumerate(examples[latent]):
            begin = n_before - example.peak
            ids = [numbers.setdefault(text, len(numbers)) for text in example.str_toks]
            windows[i, j, begin : begin + len(ids)] = ids
            values[i, j] = example.acts[example.peak]
    found = describe_latents(windows, values, list(numbers), n_before=n_before, max_chars=max_chars)
    return {
        latent: Explained(text.removeprefix(_PREFIX), rule=pattern)
        for latent, text, pattern in zip(latents, found.texts, found.patterns, strict=True)
    }


def matches(pattern: Pattern, example: Example) -> bool:
    """Whether a text holds a word that fits the pattern; what has no pattern fits no text."""
    words = words_of(example.str_toks)
    token = folded(pattern.token)
    match pattern.kind:
        case "word" | "words":
            wanted = {folded(word) for word in pattern.words}
            fits = [folded(word) in wanted for word in words]
        case "beginning":
            fits = [folded(word).startswith(token) for word in words]
        case "ending":
            fits = [folded(word).endswith(token) for word in words]
        case "inside":
            fits = [token in folded(word) for word in words]
        case "class":
            fits = [kind_of(word) == pattern.token for word in words]
        case "after" | "before":
            return _holds_phrase(words, pattern.token)
        case "topic":
            wanted = {folded(word) for word in pattern.topic}
            fits = [folded(word) in wanted for word in words]
        case _:
            return False
    return any(fits)


def words_of(str_toks: Sequence[str]) -> list[str]:
    """The words that tokens make up; what is no word stays a token."""
    words: list[str] = []
    for i, token in enumerate(str_toks):
        if i and not starts_word(token) and is_wordy(str_toks[i - 1]):
            words[-1] += token
        else:
            words.append(token)
    return [word.strip(" ") or word for word in words]


class LexicalExplainer:
    """Explains from what was found for all latents beforehand."""

    def __init__(self, examples: Mapping[int, Sequence[Example]]) -> None:
        """`examples` are those for generation, of every latent that will be asked about."""
        self._found = lexical_explanations(examples)

    async def explain(self, evidence: Evidence) -> Explained:
        """Raises FailedAnswer for a latent that was not given, or has no examples."""
        if evidence.latent not in self._found:
            raise FailedAnswer("The latent has no examples.", messages=[], raw=[])
        return self._found[evidence.latent]


class LexicalJudge:
    """Predicts by matching words."""

    async def judge(self, explained: Explained, examples: Sequence[Example]) -> Judged:
        """Raises FailedAnswer for an explanation that no rule came with."""
        if not isinstance(explained.rule, Pattern):
            raise FailedAnswer(
                "Only explanations of the offline explainer can be matched by words.",
                messages=[],
                raw=[],
            )
        fits = [matches(explained.rule, example) for example in examples]
        return Judged([number for number, fit in enumerate(fits, start=1) if fit])


def _holds_phrase(words: Sequence[str], phrase: str) -> bool:
    text = "\0".join(folded(word) for word in words)
    parts = "\0".join(folded(word) for word in words_of(_pieces(phrase)))
    return f"\0{parts}\0" in f"\0{text}\0"


def _pieces(phrase: str) -> list[str]:
    """A phrase cut where words begin: "np." is "np" and "."."""
    pieces: list[str] = []
    for character in phrase:
        if pieces and is_wordy(character) and is_wordy(pieces[-1][-1:]):
            pieces[-1] += character
        else:
            pieces.append(character)
    return [piece for piece in pieces if piece.strip()] or pieces
