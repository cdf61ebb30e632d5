"""Which texts contain this, or match this pattern?

Patterns run in RE2 (through pyarrow), whose time grows with the length of the text and not with
the cunning of the pattern: no visitor's pattern can hang the server. The price is that RE2 has no
look-around and no back-references.
"""

import re
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

MAX_PATTERN = 1000
"""Characters of a query."""
MAX_SECONDS = 3.0
"""Of a search for a pattern; it ends between two pieces of the texts."""

_PIECE = 100


class UnsupportedPattern(ValueError):
    """A pattern that others can search for, or that takes too long; the message has the remedy."""


def search_texts(
    texts: Sequence[str], query: str, *, regex: bool = False, case_sensitive: bool = False
) -> Bool[np.ndarray, " n"]:
    """Which of `texts` contain `query`, or a match of it as a regular expression.

    100,000 descriptions take some tens of milliseconds.

    Raises:
        ValueError: the query is empty or too long, not a regular expression of RE2, or one that
            takes longer than `MAX_SECONDS` (`UnsupportedPattern` where it is not simply malformed).
    """
    _check_query(query)
    if regex:
        return _match(texts, query, case_sensitive)
    if case_sensitive:
        return np.fromiter((query in text for text in texts), dtype=bool, count=len(texts))
    folded = query.casefold()
    return np.fromiter((folded in text.casefold() for text in texts), dtype=bool, count=len(texts))


def search_tokens(
    vocabulary: Sequence[str],
    token_ids: Int[np.ndarray, "n k"],
    query: str,
    *,
    regex: bool = False,
    case_sensitive: bool = False,
) -> Bool[np.ndarray, " n"]:
    """Which rows of `token_ids` hold a token whose text matches, as in `search_texts`.

    Args:
        vocabulary: text of every token id.
        token_ids: such as the top boosted tokens of each latent; -1 stands for none.

    Raises:
        ValueError: as `search_texts`, or an id is not in the vocabulary.
    """
    ids = np.asarray(token_ids)
    if ids.size and not (ids.min() >= -1 and ids.max() < len(vocabulary)):
        raise ValueError(
            f"Token ids go from {ids.min()} to {ids.max()}; the vocabulary has {len(vocabulary)}."
        )
    matches = search_texts(vocabulary, query, regex=regex, case_sensitive=case_sensitive)
    # The extra entry is what -1 points to.
    return np.append(matches, False)[ids].any(axis=-1)


def _check_query(query: str) -> None:
    if not query:
        raise ValueError("The search is empty; type a word or a pattern.")
    if len(query) > MAX_PATTERN:
        raise ValueError(
            f"The search is {len(query)} characters long; at most {MAX_PATTERN} are searched for."
        )


def _match(texts: Sequence[str], pattern: str, case_sensitive: bool) -> Bool[np.ndarray, " n"]:
    array = _to_arrow(texts)
    found = np.zeros(len(array), dtype=bool)
    cleaned, ignore_case = _clean(pattern), not case_sensitive
    try:
        # A bad pattern is an error for no texts, too; pyarrow does not look at it then.
        pc.match_substring_regex(pa.array([""]), cleaned, ignore_case=ignore_case)
    except pa.ArrowInvalid as error:
        raise _explained(pattern, str(error)) from error
    end = time.monotonic() + MAX_SECONDS
    for start in range(0, len(array), _PIECE):
        if time.monotonic() > end:
            raise UnsupportedPattern(
                f"{pattern!r:.120} takes more than {MAX_SECONDS:.0f} s here; search for something"
                " simpler, with fewer repetitions."
            )
        piece = array.slice(start, _PIECE)
        matches = pc.match_substring_regex(piece, cleaned, ignore_case=ignore_case)
        found[start : start + _PIECE] = matches.to_numpy(zero_copy_only=False)
    return found


def _to_arrow(texts: Sequence[str]) -> pa.Array:
    try:
        return pa.array(texts, type=pa.string())
    except UnicodeEncodeError:
        return pa.array([_clean(text) for text in texts], type=pa.string())


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _explained(query: str, message: str) -> ValueError:
    reason = message.removeprefix("Invalid regular expression: ").strip().rstrip(".")
    kind, remedy = ValueError, "correct it, or search for plain text"
    if re.search(r"\(\?(=|!|<=|<!)|\\[1-9]|invalid perl operator", f"{query} {message}"):
        kind = UnsupportedPattern
        remedy = "look-around and back-references are not supported, so write it without"
    elif "pattern too large" in message or "repetition size" in message:
        kind, remedy = UnsupportedPattern, "use smaller repetition counts"
    return kind(
        f"{query!r:.120} is not a regular expression that can be searched for ({reason}); {remedy}."
    )
