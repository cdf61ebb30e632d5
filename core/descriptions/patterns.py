"""Which pattern the words at a latent's peaks follow."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from core.descriptions.peaks import NearWords, PeakWords
from core.descriptions.token_text import folded, kind_of
from core.jobs.progress import Progress

WORD_SHARE = 0.5
WORDS_SHARE = 0.7
PIECE_SHARE = 0.6
CLASS_SHARE = 0.75
NEIGHBOUR_SHARE = 0.6
TOPIC_SHARE = 0.4
_LISTED_SHARE = 0.1
_LISTED = 3
_LIFT = 3.0
_TOPIC_LIFT = 4.0

_Counts: TypeAlias = list[tuple[str, int]]
"""Words and how often each comes, the commonest first."""

_LITTLE_WORDS = (
    "the and are not for from this that these those with will was were been being has have had"
    " which when where what who how why can could may might must should would shall does did its"
    " their they there then than them but only also all any each both either other others such"
    " same some more most less least very too into onto over under above below between after"
    " before during until while because since though although whether you your our his her she"
    " him one two per via use used uses using like see etc here out off own about"
)
_FUNCTION_WORDS = frozenset(_LITTLE_WORDS.split())


@dataclass(frozen=True)
class Pattern:
    """What most peaks of a latent have in common."""

    kind: str
    """`word` (one word), `words` (a few), `beginning`, `ending`, `inside` (a piece of many words),
    `class` (numbers, …), `after`, `before` (the same word beside it), `topic` (words around),
    `mixed`, or `none` without peaks."""
    token: str = ""
    """The word, piece, name of the class, word beside it, or first word of the topic."""
    share: float = 0.0
    """Share of the peaks that follow the pattern, 0 to 1."""
    n_peaks: int = 0
    """Peaks that were counted."""
    words: tuple[str, ...] = ()
    """Words that the peaks are in, the commonest first; at most three."""
    after: str = ""
    """What stands before most peaks, where that is unusual."""
    before: str = ""
    """What follows most peaks, where that is unusual."""
    topic: tuple[str, ...] = ()
    """Words found around the peaks and seldom elsewhere; at most three."""


def find_patterns(
    words: PeakWords, vocabulary: Sequence[str], *, progress: Progress | None = None
) -> list[Pattern]:
    """The pattern of each latent by its peaks alone: `topic` is left to `add_topics`."""
    finder = _Finder(words, vocabulary)
    patterns = []
    for latent in range(len(words.at)):
        if progress is not None and latent % 256 == 0:
            progress.update(latent, len(words.at), unit="latents", message="reading the peaks")
        patterns.append(finder.find(latent))
    return patterns


class _Finder:
    """Finds one latent's pattern; knows how common each neighbour is among all latents."""

    def __init__(self, words: PeakWords, vocabulary: Sequence[str]) -> None:
        self._words = words
        self._vocabulary = vocabulary
        self._neighbours = {
            "before": words.before,
            "phrase": words.phrase,
            "after": words.after,
        }
        self._totals = {
            name: np.bincount(words.fold[ids[ids >= 0]], minlength=len(words.texts))
            for name, ids in self._neighbours.items()
        }
        self._n_all = int((words.at >= 0).sum())

    def find(self, latent: int) -> Pattern:
        at = self._words.at[latent]
        n = int((at >= 0).sum())
        if n == 0:
            return Pattern("none")
        counts = self._count(at)
        after, after_share = self._before_peaks(latent, n)
        before, before_share = self._constant("after", latent, n)
        common = Pattern("mixed", n_peaks=n, after=after, before=before)

        def pattern(kind: str, token: str, share: float, among: _Counts) -> Pattern:
            return replace(common, kind=kind, token=token, share=share, words=_listed(among, n))

        top, top_count = counts[0]
        recurring = [(text, c) for text, c in counts[:_LISTED] if c > 1 and c >= _LISTED_SHARE * n]
        covered = sum(c for _, c in recurring) / n
        if top_count >= WORD_SHARE * n:
            return pattern("word", top, top_count / n, recurring or counts[:1])
        if covered >= WORDS_SHARE:
            return pattern("words", top, covered, recurring)
        found = self._piece(latent, n) or _class(counts, n) or _affix(counts, n)
        if found is not None:
            return pattern(*found)
        if after:
            return pattern("after", after, after_share, counts)
        if before:
            return pattern("before", before, before_share, counts)
        return pattern("mixed", top, top_count / n, counts)

    def _count(self, ids: np.ndarray) -> _Counts:
        """Words by how often they come, each in its commonest spelling here."""
        spellings = Counter(ids[ids >= 0].tolist())
        words: Counter[int] = Counter()
        shown: dict[int, int] = {}
        for number, count in spellings.most_common():
            word = int(self._words.fold[number])
            words[word] += count
            shown.setdefault(word, number)
        return [(self._words.texts[shown[word]], count) for word, count in words.most_common()]

    def _piece(self, latent: int, n: int) -> tuple[str, str, float, _Counts] | None:
        """A token that most peaks are on, as part of many words."""
        tokens = self._words.token[latent]
        token, count = Counter(tokens[tokens >= 0].tolist()).most_common(1)[0]
        if count < PIECE_SHARE * n:
            return None
        same = tokens == token
        first, last = self._words.first[latent], self._words.last[latent]
        # Words that the token makes alone fit every kind, so they do not decide.
        part = same & ~(first & last)
        n_part = max(1, int(part.sum()))
        text = self._vocabulary[token].strip(" ")
        for kind, there in (("beginning", first), ("ending", last)):
            if (part & there).sum() > PIECE_SHARE * n_part:
                fitting = np.where(same & there, self._words.at[latent], -1)
                return kind, text, count / n, self._count(fitting)
        return "inside", text, count / n, self._count(np.where(same, self._words.at[latent], -1))

    def _before_peaks(self, latent: int, n: int) -> tuple[str, float]:
        word, share = self._constant("before", latent, n)
        if word and not any(character.isalnum() for character in word):
            # "." says little; "np." says much.
            phrase, phrase_share = self._constant("phrase", latent, n)
            if phrase:
                return phrase, phrase_share
        return word, share

    def _constant(self, name: str, latent: int, n: int) -> tuple[str, float]:
        """The neighbour that most peaks share, unless other latents' peaks often have it too."""
        ids = self._neighbours[name][latent]
        if (ids >= 0).sum() < 2:
            return "", 0.0
        number, count = Counter(self._words.fold[ids[ids >= 0]].tolist()).most_common(1)[0]
        elsewhere = (self._totals[name][number] - count) / max(1, self._n_all - n)
        share = count / n
        if share < NEIGHBOUR_SHARE or share < _LIFT * elsewhere:
            return "", 0.0
        return self._count(ids)[0][0], share


def _listed(counts: _Counts, n: int) -> tuple[str, ...]:
    """At most three words; of those that recur, not the ones seen once."""
    recurring = [
        text for text, count in counts[:_LISTED] if count > 1 and count / n >= _LISTED_SHARE
    ]
    return tuple(recurring if len(recurring) > 1 else [text for text, _ in counts[:_LISTED]])


def _class(counts: _Counts, n: int) -> tuple[str, str, float, _Counts] | None:
    """A class of text that most peaks are in."""
    kinds: Counter[str] = Counter()
    for text, count in counts:
        kinds[kind_of(text)] += count
    for kind, count in kinds.most_common(1):
        if kind and count >= CLASS_SHARE * n:
            return "class", kind, count / n, [item for item in counts if kind_of(item[0]) == kind]
    return None


def _affix(counts: _Counts, n: int) -> tuple[str, str, float, _Counts] | None:
    """The longest beginning or ending, of 3 to 6 letters, that most of several words share."""
    for length in (6, 5, 4, 3):
        for kind, part in (("ending", slice(-length, None)), ("beginning", slice(0, length))):
            shared: dict[str, _Counts] = defaultdict(list)
            for text, count in counts:
                if len(text) > length and text[part].isalpha():
                    shared[folded(text[part])].append((text, count))
            for affix, words in shared.items():
                covered = sum(count for _, count in words)
                if len(words) >= 3 and covered >= CLASS_SHARE * n:
                    return kind, affix, covered / n, words
    return None


def add_topics(patterns: Sequence[Pattern], near: NearWords) -> list[Pattern]:
    """The same with the words that the windows share and other latents' windows do not.

    `patterns` belong to the rows of `near`. One without such words is returned unchanged.
    """
    windows = [
        [set(near.fold[window[window >= 0]].tolist()) for window in peaks if (window >= 0).any()]
        for peaks in near.near
    ]
    total: Counter[int] = Counter()
    for peaks in windows:
        for window in peaks:
            total.update(window)
    n_all = sum(map(len, windows))
    return [
        _with_topic(pattern, peaks, total, n_all, near.texts)
        for pattern, peaks in zip(patterns, windows, strict=True)
    ]


def _with_topic(
    pattern: Pattern, peaks: list[set[int]], total: Counter[int], n_all: int, texts: list[str]
) -> Pattern:
    n = len(peaks)
    own: Counter[int] = Counter()
    for window in peaks:
        own.update(window)
    scored = []
    for number, count in own.items():
        share, text = count / n, texts[number]
        elsewhere = max((total[number] - count) / max(1, n_all - n), 1 / (n_all + 1))
        if count >= 3 and share >= _TOPIC_LIFT * elsewhere and _is_topical(text):
            scored.append((share * math.log(share / elsewhere), share, text))
    scored.sort(key=lambda item: (-item[0], item[2]))
    if not scored or scored[0][1] < TOPIC_SHARE:
        return pattern
    topic: list[str] = []
    for _, _, text in scored:
        if len(topic) < _LISTED and not any(_akin(text, chosen) for chosen in topic):
            topic.append(text)
    return replace(pattern, kind="topic", token=topic[0], share=scored[0][1], topic=tuple(topic))


def _is_topical(text: str) -> bool:
    return len(text) >= 3 and text[0].isalpha() and folded(text) not in _FUNCTION_WORDS


def _akin(text: str, other: str) -> bool:
    """Whether two words are likely forms of one."""
    return folded(text)[:5] == folded(other)[:5]
