"""The texts that can be read for examples, named so that a link can carry them.

`docs` is the sample of documentation, `hub:owner/name` a dataset of the Hugging Face hub (with
`@part` after the name of one that has several), and `file:NAME` or `text:NAME` what a user has
brought: kept on the server under its contents' digest.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from core.store.leftovers import sweep, use

if TYPE_CHECKING:  # brings torch, and links are read before that is there
    from core.corpus.documents import Corpus

SAMPLE_TOKENS = 200_000
"""Tokens of a text that pages read unless told otherwise: all the same, so that what one page read
serves the others."""
FILE_ENDINGS = ("txt", "md", "jsonl", "ndjson", "json", "parquet")
"""Endings of files that are taken; others are read as plain text."""
_KINDS = ("docs", "hub", "file", "text")
_DATASET = re.compile(
    r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?(@[A-Za-z0-9][\w.-]{0,60})?", re.ASCII
)
_KEPT = re.compile(r"[0-9a-f]{20}-[A-Za-z0-9_-]{0,60}\.[a-z]{2,8}")
_COLUMN = re.compile(r"[^\x00-\x1f]{0,80}")


@dataclass(frozen=True)
class CorpusChoice:
    """Which text."""

    kind: str = "docs"
    """`docs`, `hub`, `file` or `text`."""
    name: str = ""
    """Dataset (`owner/name`, or `owner/name@part`), or name of what was kept."""
    column: str = ""
    """Column of a table that holds the text; empty to find it."""

    @property
    def text(self) -> str:
        """As links carry it; `parse_corpus` reads it."""
        return ":".join(filter(None, (self.kind, self.name, self.column)))


def parse_corpus(text: str) -> CorpusChoice:
    """The choice that `CorpusChoice.text` wrote. Raises ValueError for anything else."""
    kind, _, rest = text.partition(":")
    name, _, column = rest.partition(":")
    pattern = {"hub": _DATASET, "file": _KEPT, "text": _KEPT}.get(kind)
    named = bool(pattern.fullmatch(name)) if pattern is not None else not rest
    if kind not in _KINDS or not named or not _COLUMN.fullmatch(column):
        raise ValueError(
            f"{text[:60]!r} names no text; use docs, or hub: and the name of a dataset."
        )
    return CorpusChoice(kind, name, column)


def keep_file(folder: Path, data: bytes, file_name: str) -> CorpusChoice:
    """Keep a user's file below `folder`; the same contents and name give the same choice.

    Raises ValueError for an empty file.
    """
    if not data.strip():
        raise ValueError(f"{file_name} is empty; choose a file with some text.")
    path = PurePath(file_name)
    ending = path.suffix.lower().removeprefix(".")
    return CorpusChoice("file", _keep(folder, data, path.stem, ending))


def keep_text(folder: Path, text: str) -> CorpusChoice:
    """Keep a pasted text below `folder`. Raises ValueError for one without a word."""
    from core.corpus.documents import pasted_text

    pasted_text(text)
    return CorpusChoice("text", _keep(folder, text.encode(), "pasted", "txt"))


def corpus_of(choice: CorpusChoice, folder: Path) -> "Corpus":
    """The corpus itself, whose documents are not read yet.

    Raises:
        ValueError: a text that is not kept on this server, or a file that cannot be read.
    """
    if choice.kind == "docs":
        from core.corpus.docs import docs_sample

        return docs_sample()
    if choice.kind == "hub":
        from core.corpus.hub_dataset import hub_dataset

        name, _, part = choice.name.partition("@")
        return hub_dataset(name, config=part or None, column=choice.column or None)
    file = folder / choice.name
    if not file.is_file():
        raise ValueError(
            "The text of this link is not on this server any more; bring it again, or choose "
            "another."
        )
    use(file)
    title = title_of(choice)
    if choice.kind == "text":
        from core.corpus.documents import pasted_text

        return pasted_text(file.read_text(encoding="utf-8"), name=title)
    from core.corpus.files import text_file

    return replace(text_file(file, column=choice.column or None), name=title)


def title_of(choice: CorpusChoice) -> str:
    """What a text is called on the page."""
    if choice.kind == "docs":
        return "Documentation of the installed packages"
    if choice.kind == "text":
        return "Pasted text"
    name = choice.name if choice.kind == "hub" else choice.name[21:]
    return f"{name}, column {choice.column}" if choice.column else name


def _keep(folder: Path, data: bytes, stem: str, ending: str) -> str:
    ending = ending if ending in FILE_ENDINGS else "txt"
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:60]
    name = f"{hashlib.sha256(data).hexdigest()[:20]}-{plain}.{ending}"
    file = folder / name
    if not file.is_file() or file.stat().st_size != len(data):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(folder.parent)
        beside = file.with_suffix(".part")
        try:
            beside.write_bytes(data)
            beside.replace(file)
        except OSError:
            beside.unlink(missing_ok=True)  # a full disk must not also keep the half that did fit
            raise
    use(file)
    return name
