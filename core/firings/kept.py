"""What was kept of which SAE on which text, found without a model."""

import json
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from core.corpus.documents import Corpus
from core.corpus.token_set import TokenSet
from core.firings.shard import shard_name
from core.store import ARRAYS, Key
from core.store.frame import DamagedEntry, pack, unpack_as
from core.store.leftovers import write_whole

VERSION = 1
_UNFINISHED = 3600.0
"""Seconds after which a file that was never finished goes."""
_ABOUT, _TOTALS = "about.json", "totals"


@dataclass(frozen=True)
class About:
    """What firings are of."""

    model: str
    """Name of the model."""
    sae: tuple[str, str, str]
    """`(release, sae_id, version)`."""
    text: str
    """Name of the text."""
    text_digest: str
    """What the text is known by."""
    tokens: int
    """How much of it was asked for."""
    include_bos: bool
    """Whether the beginning-of-text token counts."""
    tokens_digest: str
    """Of the token set."""
    d_sae: int
    """Number of latents."""
    context: int
    """Places of a row."""
    n_rows: int
    """Rows of the token set."""
    step: int
    """Rows of a file."""
    n_tokens: int
    """Positions that count."""


class TextRead(Protocol):
    """The part of an `IndexRequest` that says which text is read."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def corpus(self) -> Corpus:
        """The text."""

    @property
    def tokens(self) -> int:
        """How much of it."""

    @property
    def include_bos(self) -> bool:
        """Whether the beginning-of-text token counts."""


@dataclass(frozen=True, eq=False)
class Totals:
    """Exact figures of all latents."""

    count: Int[np.ndarray, " d_sae"]
    """Positions at which each fires (int64)."""
    total: Float[np.ndarray, " d_sae"]
    """Sum of its activations (float64)."""
    peak: Float[np.ndarray, " d_sae"]
    """Largest activation (float32)."""


@dataclass(frozen=True)
class Kept:
    """The firings of one SAE on one text."""

    folder: Path
    """Where they lie."""
    about: About
    """What they are of."""

    @property
    def sae(self) -> tuple[str, str]:
        """`(release, sae_id)`."""
        return self.about.sae[:2]

    def is_of(self, request: "TextRead") -> bool:
        """Whether they are of the text of a request, read as it asks."""
        about = self.about
        mine = (about.model, about.text_digest, about.tokens, about.include_bos)
        return mine == (request.model, request.corpus.digest, request.tokens, request.include_bos)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Rows [first, last) of each file."""
        about = self.about
        starts = range(0, about.n_rows, about.step)
        return [(first, min(first + about.step, about.n_rows)) for first in starts]

    def file(self, span: tuple[int, int]) -> Path:
        """The file of these rows."""
        return self.folder / shard_name(*span)

    def missing(self) -> list[tuple[int, int]]:
        """Rows that are not there yet."""
        return [span for span in self.spans if not self.file(span).is_file()]

    @property
    def is_whole(self) -> bool:
        """Whether all of them are there."""
        return (self.folder / _TOTALS).is_file()

    @property
    def n_bytes(self) -> int:
        """Bytes on the disk."""
        return sum(file.stat().st_size for file in self.folder.glob("*") if file.is_file())

    @cached_property
    def totals(self) -> Totals:
        """Counts, sums and peaks. Raises ValueError where they are not there or are damaged."""
        arrays = _read(self.folder / _TOTALS, _TOTALS)
        return Totals(arrays["count"], arrays["total"], arrays["peak"])

    @cached_property
    def token_set(self) -> TokenSet:
        """The text. Raises ValueError where it is not there or is damaged."""
        name = _tokens_name(self.about.tokens_digest)
        return TokenSet.from_arrays(_read(self.folder.parent / name, name))

    def rates(self) -> Float[np.ndarray, " d_sae"]:
        """Exact share of the positions at which each latent fires."""
        return self.totals.count / max(1, self.about.n_tokens)

    def save_totals(self, totals: Totals) -> None:
        """Say that all is there."""
        _write(self.folder / _TOTALS, _TOTALS, vars(totals))

    def tidy(self) -> None:
        """Remove what killed writes left, once nobody can be writing it."""
        for file in self.folder.glob("*.part"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _UNFINISHED:
                    file.unlink()

    def delete(self) -> int:
        """Remove them, and the text if no others are of it; the bytes that are free again."""
        freed = self.n_bytes
        # First what says that they are whole: what a killed deletion leaves is nobody's answer.
        (self.folder / _TOTALS).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        digest = self.about.tokens_digest
        if not any(other.about.tokens_digest == digest for other in _all(self.folder.parent)):
            (self.folder.parent / _tokens_name(digest)).unlink(missing_ok=True)
        return freed


def home(directory: Path) -> Path:
    """Where firings lie beside the store in `directory`."""
    return directory / "firings"


def kept_firings(directory: Path, *, model: str | None = None) -> list[Kept]:
    """All that are whole beside the store in `directory`, by text, then SAE."""
    found = [kept for kept in begun_firings(directory, model=model) if kept.is_whole]
    return sorted(found, key=lambda kept: (kept.about.text, kept.about.tokens, kept.about.sae))


def begun_firings(directory: Path, *, model: str | None = None) -> list[Kept]:
    """All of which at least something was begun, in no order."""
    return [kept for kept in _all(home(directory)) if model in (None, kept.about.model)]


def open_or_begin(
    directory: Path, about: About, token_set: TokenSet, *, model: str, sae: str
) -> Kept:
    """The place of firings, made if it is not there; `model` and `sae` are fingerprints.

    Raises OSError where the disk refuses.
    """
    parameters = {"model": model, "sae": sae, "tokens": about.tokens_digest, "step": about.step}
    folder = home(directory) / Key("every-firing", VERSION, parameters).digest[:32]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tokens = folder.parent / _tokens_name(about.tokens_digest)
    if not tokens.is_file():
        _write(tokens, tokens.name, token_set.to_arrays())
    text = json.dumps({"version": VERSION, **asdict(about)}, indent=1)
    write_whole(folder / _ABOUT, text.encode())
    return Kept(folder, about)


def rows_of(mask: Bool[np.ndarray, "n_rows context"]) -> Bool[np.ndarray, " n_rows"]:
    """Rows that hold a place of the mask."""
    return np.asarray(mask.any(1))


def _all(folder: Path) -> list[Kept]:
    try:
        folders = sorted(folder.iterdir())
    except OSError:
        return []
    return [kept for kept in map(kept_in, folders) if kept is not None]


def kept_in(folder: Path) -> Kept | None:
    """What was begun in this folder; None for something else, or half of what was deleted."""
    try:
        plain = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if plain.pop("version") != VERSION:
            return None
        plain["sae"] = tuple(plain["sae"])
        return Kept(folder, About(**plain))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _tokens_name(digest: str) -> str:
    return f"tokens-{digest[:32]}"


def _write(file: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    write_whole(file, pack(name, ARRAYS.encode(arrays)))


def _read(file: Path, name: str) -> dict[str, np.ndarray]:
    try:
        return ARRAYS.decode(unpack_as(name, file.read_bytes()))
    except (OSError, DamagedEntry, ValueError) as error:
        raise ValueError(
            f"{file.name} of the firings in {file.parent} cannot be read ({error}); delete them "
            "and have them made again."
        ) from error
