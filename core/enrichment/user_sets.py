"""Sets of words from a user's file, and the tokens that are these words."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from core.bounded_json import parse_bounded
from core.enrichment.token_sets import TokenSets
from core.store import JSON, Key, Store
from core.tokens import TokenTexts

MOST_BYTES = 5_000_000
MOST_SETS = 200
MOST_ROWS = 500_000
_VERSION = 1
_GROUP = "yours"
_EXAMPLE = 'a JSON object such as {"colours": ["red", "blue"]}, or a CSV table with a column a set'


@dataclass(frozen=True)
class WordList:
    """A set as it was given."""

    name: str
    """What it is called."""
    words: tuple[str, ...]
    """Its words or tokens, each once."""


@dataclass(frozen=True, eq=False)
class MatchedWords:
    """The tokens that were found for lists of words."""

    sets: TokenSets
    """Those with at least one token."""
    missing: dict[str, tuple[str, ...]]
    """By list, its words that are no single token of this model."""


def read_word_lists(data: bytes, name: str) -> list[WordList]:
    """Lists of words from JSON (`{"name": ["word", ...]}`) or CSV.

    A CSV table has a line of names on top: a column for each list; or two columns, of which one is
    called `set` (or `name`) and the other `word` (or `token`), with a line for each word.

    Raises:
        ValueError: what the file is instead, and what it should be.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"{name} has {len(data):,} bytes; at most {MOST_BYTES:,} are read.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text in UTF-8; save it as UTF-8.") from error
    given = _from_json(text, name) if name.lower().endswith(".json") else _from_csv(text, name)
    lists = [
        WordList(title.strip(), tuple(dict.fromkeys(word for word in words if word.strip())))
        for title, words in given.items()
        if title.strip()
    ]
    lists = [word_list for word_list in lists if word_list.words]
    if not lists:
        raise ValueError(f"{name} holds no list of words; give {_EXAMPLE}.")
    if len(lists) > MOST_SETS:
        raise ValueError(f"{name} holds {len(lists)} lists; at most {MOST_SETS} can be used.")
    return lists


def store_lists(store: Store, lists: Sequence[WordList]) -> str:
    """Put a user's lists into the store; returns the name under which a link finds them."""
    content = [[given.name, list(given.words)] for given in lists]
    name = Key("token-lists", _VERSION, {"lists": json.dumps(content)}).digest[:24]
    # Nobody can compute them again, so they lie with what is never evicted.
    store.put(Key("token-lists", _VERSION, {"name": name}), content, JSON, paid=True)
    return name


def load_lists(store: Store, name: str) -> list[WordList]:
    """What `store_lists` stored. Raises ValueError when there is nothing of that name."""
    content = store.get(Key("token-lists", _VERSION, {"name": name}), JSON, paid=True)
    if content is None:
        raise ValueError("The sets of your own in this link are not on this server; upload them.")
    return [WordList(title, tuple(words)) for title, words in content]


def match_words(vocabulary: TokenTexts, lists: Sequence[WordList]) -> MatchedWords:
    """The tokens that spell each word: in any case, with or without a space before it.

    A word that itself begins with a space, or has capitals, only matches tokens written so. Words
    that the model has no single token for are listed as missing.
    """
    exact: dict[str, list[int]] = defaultdict(list)
    loose: dict[str, list[int]] = defaultdict(list)
    for token_id in range(len(vocabulary)):
        text = vocabulary.plain(token_id)
        if vocabulary.known[token_id] and not vocabulary.partial[token_id]:
            exact[text].append(token_id)
            loose[text.strip().casefold() or text].append(token_id)
    named, missing = [], {}
    for given in lists:
        ids: list[int] = []
        unknown = []
        for word in given.words:
            found = _tokens_of(word, exact, loose)
            ids.extend(found)
            if not found:
                unknown.append(word)
        named.append((given.name, _GROUP, np.array(ids, dtype=np.int64)))
        missing[given.name] = tuple(unknown)
    universe = np.flatnonzero(vocabulary.known)
    return MatchedWords(TokenSets.from_ids(named, universe), missing)


def _tokens_of(
    word: str, exact: dict[str, list[int]], loose: dict[str, list[int]]
) -> Sequence[int]:
    if word[:1] == " " or (word in exact and not word.strip()):
        return exact.get(word, ())
    if word != word.casefold():
        return [*exact.get(word, ()), *exact.get(f" {word}", ())]
    return loose.get(word.strip(), ())


def _from_json(text: str, name: str) -> dict[str, list[str]]:
    try:
        given: Any = parse_bounded(text, most_objects=100 * MOST_SETS)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON ({error}); give {_EXAMPLE}.") from error
    if not isinstance(given, dict):
        raise ValueError(f"{name} holds a {type(given).__name__}; give {_EXAMPLE}.")
    for title, words in given.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{title[:40]!r} in {name} is not a list of words; give {_EXAMPLE}.")
    return given


def _from_csv(text: str, name: str) -> dict[str, list[str]]:
    try:
        delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
        rows = list(islice(csv.reader(io.StringIO(text), delimiter=delimiter), MOST_ROWS + 1))
    except csv.Error as error:
        raise ValueError(f"{name} is no table ({error}); give {_EXAMPLE}.") from error
    if len(rows) > MOST_ROWS:
        raise ValueError(f"{name} has more than {MOST_ROWS:,} rows; keep fewer words.")
    if not rows:
        return {}
    header = [title.strip() for title in rows[0]]
    lower = [title.lower() for title in header]
    sets = next((lower.index(heading) for heading in ("set", "name") if heading in lower), None)
    words = next((lower.index(heading) for heading in ("word", "token") if heading in lower), None)
    given: dict[str, list[str]] = defaultdict(list)
    for row in rows[1:]:
        if sets is not None and words is not None:
            if len(row) > max(sets, words):
                given[row[sets]].append(row[words])
            continue
        for title, word in zip(header, row, strict=False):
            given[title].append(word)
    return given
