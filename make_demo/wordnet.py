"""Glosses of Open English WordNet (CC BY 4.0): from a TSV, from its LMF file, or downloaded."""

import csv
import gzip
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import requests

logger = logging.getLogger(__name__)

LMF_URL = (
    "https://github.com/globalwordnet/english-wordnet/releases/download/"
    "2024-edition/english-wordnet-2024.xml.gz"
)
ATTRIBUTION = (
    "Definitions partly from Open English WordNet (https://en-word.net), derived from Princeton "
    "WordNet under the WordNet License and developed further under CC BY 4.0."
)


@dataclass(frozen=True)
class Gloss:
    """One sense of a word."""

    field: str
    """Lexicographer file, e.g. `noun.cognition`."""
    definition: str
    """The gloss."""


Glosses = dict[str, list[Gloss]]
"""Senses by lower-case word."""


def load_glosses(path: Path | None, *, download_to: Path) -> Glosses:
    """Glosses from `path` (.tsv, .xml, .xml.gz); without one, downloaded; without network, none."""
    if path is not None:
        if not path.exists():
            raise ValueError(f"No WordNet file at {path}: give a .tsv or an LMF .xml(.gz) file.")
        return read_tsv(path) if path.suffix == ".tsv" else read_lmf(path)
    try:
        response = requests.get(LMF_URL, timeout=60)
        response.raise_for_status()
    except requests.RequestException as error:
        logger.warning("WordNet is out of reach (%s): using definitions mined from the docs", error)
        return {}
    target = download_to / "english-wordnet.xml.gz"
    target.write_bytes(response.content)
    return read_lmf(target)


def read_tsv(path: Path) -> Glosses:
    """Columns word, pos, field, definition, examples."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return _collect((row["word"], Gloss(row["field"], row["definition"])) for row in rows)


def read_lmf(path: Path) -> Glosses:
    """Global WordNet LMF: entries point to synsets, synsets hold the definitions."""
    senses: list[tuple[str, str]] = []
    synsets: dict[str, Gloss] = {}
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag == "LexicalEntry":
                lemma = element.find("Lemma")
                if lemma is not None:
                    senses += [
                        (lemma.get("writtenForm", ""), sense.get("synset", ""))
                        for sense in element.iter("Sense")
                    ]
                element.clear()
            elif element.tag == "Synset":
                definition = element.findtext("Definition") or ""
                field = element.get("lexfile") or ""
                synsets[element.get("id", "")] = Gloss(field, definition)
                element.clear()
    return _collect((word, synsets[key]) for word, key in senses if key in synsets)


def _collect(pairs: Iterable[tuple[str, Gloss]]) -> Glosses:
    glosses: Glosses = defaultdict(list)
    for word, gloss in pairs:
        if gloss.definition:
            glosses[word.lower()].append(gloss)
    return dict(glosses)
