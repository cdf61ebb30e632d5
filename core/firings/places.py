"""Which places of a text are meant: tokens by their text, or what a regular expression matches.

Patterns are RE2's (as in `core.descriptions.search`): no pattern takes more than linear time.
"""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from core.corpus.token_set import TokenSet
from core.descriptions.search import search_texts
from core.jobs.progress import Progress
from core.tokens.rows import texts_of_row
from core.tokens.vocabulary import TokenTexts

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_BEGIN, _END = "\x02", "\x03"
_ROWS = 256
MOST_WORDS = 100
"""Words or tokens that are looked for at once."""

Places = Bool[np.ndarray, "n_rows context"]
"""Which positions of a token set are meant."""


def tokens_named(texts: TokenTexts, typed: str) -> list[int]:
    """Ids of the tokens that read as the typed words, ascending.

    A word means every token that is it, a space in front or not; in quotation marks, which keep
    spaces, exactly that text: `mean " mean"`.

    Raises:
        ValueError: nothing typed, more than 100 words, or a word that is no single token.
    """
    words = list(_QUOTED.finditer(typed))
    if not words:
        raise ValueError('Type one or more tokens, such as mean or " mean" with its space.')
    if len(words) > MOST_WORDS:
        raise ValueError(f"These are {len(words)} tokens; look for at most {MOST_WORDS} at a time.")
    exact: dict[str, list[int]] = {}
    stripped: dict[str, list[int]] = {}
    for token in range(len(texts)):
        if not texts.is_partial(token):
            text = texts.within(token)
            exact.setdefault(text, []).append(token)
            stripped.setdefault(text.strip(), []).append(token)
    found: set[int] = set()
    for word in words:
        quoted, plain = word.groups()
        text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        known = stripped if quoted is None else exact
        if text not in known:
            raise ValueError(
                f"{text[:60]!r} is no single token of this model; look for it with a regular "
                "expression instead."
            )
        found.update(known[text])
    return sorted(found)


def places_of_tokens(token_set: TokenSet, ids: Sequence[int]) -> Places:
    """Where these tokens stand, at positions that count."""
    return np.isin(token_set.tokens, np.asarray(ids, dtype=token_set.tokens.dtype)) & token_set.mask


def places_of_regex(
    token_set: TokenSet,
    texts: TokenTexts,
    pattern: str,
    *,
    ignore_case: bool = False,
    progress: Progress | None = None,
) -> Places:
    """The tokens that matches of a regular expression in the running text of each row touch.

    Tokens that make up a character only together are all touched by it. Raises ValueError for a
    pattern that RE2 does not take, or that matches nothing at all everywhere.
    """
    check_pattern(pattern, ignore_case=ignore_case)
    whole = f"(?i:{pattern})" if ignore_case else f"(?:{pattern})"
    mask = np.zeros(token_set.tokens.shape, dtype=bool)
    for start in range(0, token_set.n_rows, _ROWS):
        if progress is not None:
            progress.update(start, token_set.n_rows, unit="rows", message="Matching the text")
        rows = range(start, min(start + _ROWS, token_set.n_rows))
        # What stands in front of a text is no part of it: ^ is where the text begins.
        spans = [(token_set.leading(row), int(token_set.lengths[row])) for row in rows]
        parts = [
            texts_of_row(texts, token_set.tokens[row, first:last].tolist()).parts
            for row, (first, last) in zip(rows, spans, strict=True)
        ]
        plain = ["".join(one).replace(_BEGIN, " ").replace(_END, " ") for one in parts]
        cleaned = [text.encode("utf-8", "replace").decode() for text in plain]
        marked = pc.replace_substring_regex(
            pa.array(cleaned, type=pa.string()), pattern=whole, replacement=rf"{_BEGIN}\0{_END}"
        )
        several = zip(rows, spans, parts, cleaned, marked.to_pylist(), strict=True)
        for row, (first, last), one, text, found in several:
            if len(found) > len(text):
                mask[row, first:last] = _touched(one, found)
    return mask & token_set.mask


def check_pattern(pattern: str, *, ignore_case: bool = False) -> None:
    """Raises ValueError for a pattern that RE2 does not take, or that needs no character."""
    if search_texts([""], pattern, regex=True, case_sensitive=not ignore_case)[0]:
        raise ValueError(
            f"{pattern!r:.120} also matches where nothing stands; let it need a character, with + "
            "for *, for example."
        )


def _touched(parts: Sequence[str], marked: str) -> Bool[np.ndarray, " n"]:
    """Which tokens of a row share a character with a match, whose ends are marked."""
    sizes = np.array([len(part) for part in parts])
    ends = sizes.cumsum()
    starts = ends - sizes
    inside = _inside(marked)
    covered = np.concatenate([[0], inside.cumsum()])
    touched = covered[ends] > covered[starts]
    # The first of tokens that make up a character together has all of it.
    whose = np.maximum.accumulate(np.where(sizes > 0, np.arange(len(parts)), 0))
    return touched[whose]


def _inside(marked: str) -> Int[np.ndarray, " n_characters"]:
    points = np.frombuffer(marked.encode("utf-32-le"), dtype=np.uint32)
    step = (points == ord(_BEGIN)).astype(np.int64) - (points == ord(_END))
    is_text = step == 0
    return (step.cumsum() > 0)[is_text].astype(np.int64)
