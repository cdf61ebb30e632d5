"""What the commands share: which SAEs and which text are meant, and which machine they use.

`python -m core.run` and `python -m core.dossier` take the same words for the same things, keep
texts where the pages keep them, and name what they made by an address of the explorer.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from core.catalog import Catalog
from core.catalog.entries import SaeEntry
from core.device import format_bytes
from core.settings import Settings
from core.store import Store
from core.view.corpora import CorpusChoice, corpus_of, keep_file, parse_corpus
from core.view.selection import Selection, to_parameters

if TYPE_CHECKING:  # both bring torch, and --help is there at once
    from core.corpus.documents import Corpus
    from core.engine import Engine
    from core.view.choices import Choices
    from core.worker import WorkerProcess

_NAMED = ("docs", "hub", "file", "text")
_LARGEST_FILE = 2 << 30
_SAMPLE = "text to read: docs (documentation of the installed packages), hub:owner/name or "
_SAMPLE += "hub:owner/name@part (a dataset of the hub), or the path of a .txt, .jsonl or .parquet "
_SAMPLE += "file (default: %(default)s)"


@dataclass(frozen=True)
class Machine:
    """This machine as the explorer sees it."""

    settings: Settings
    """What the environment says."""

    @cached_property
    def catalog(self) -> Catalog:
        """Every model and SAE that can be chosen."""
        return Catalog(self.settings)

    @cached_property
    def store(self) -> Store:
        """Results, shared with the pages."""
        return Store(self.settings.cache_dir)

    @cached_property
    def engine(self) -> "Engine":
        """Owner of what is loaded; imports torch when it loads something."""
        from core.engine import Engine

        return Engine(self.catalog, device=self.settings.device, store=self.store)

    @cached_property
    def worker(self) -> "WorkerProcess":
        """The process for UMAP and HDBSCAN; it starts with the first map."""
        from core.worker import WorkerProcess

        return WorkerProcess()

    @cached_property
    def closing(self) -> ExitStack:
        """What is to be ended with `close`."""
        return ExitStack()

    def close(self) -> None:
        """End that process and others, where they were started."""
        if "closing" in self.__dict__:
            self.closing.close()
        if "worker" in self.__dict__:
            self.worker.close()

    def choices(self, entry: SaeEntry | None = None) -> "Choices":
        """What can be chosen beside `entry`; published SAEs are looked at only beside one."""
        from core.view.choices import read_choices

        hub = entry is not None and entry.source == "hub"
        return read_choices(self.catalog, hub=hub)


def this_machine() -> Machine:
    """The machine as the environment says."""
    return Machine(Settings.from_environment())


def add_sae(parser: argparse.ArgumentParser, *, one: bool, what: str = "") -> None:
    """The options that say which model and SAEs: one SAE, or some of one or more releases."""
    group = parser.add_argument_group("model and SAE")
    if one:
        group.add_argument("--release", required=True, help="release of the SAE")
        group.add_argument("--sae", required=True, help="SAE within the release")
    else:
        group.add_argument(
            "--release", required=True, nargs="+", help="release of the SAEs; may be several"
        )
        group.add_argument(
            "--sae", nargs="+", default=[], help=what or "SAEs within it (default: all)"
        )
    group.add_argument("--model", default="", help="model, if not the one they were trained on")


def add_text(parser: argparse.ArgumentParser, *, tokens: int) -> None:
    """The options that say which text is read."""
    group = parser.add_argument_group("text")
    group.add_argument("--text", default="docs", help=_SAMPLE)
    group.add_argument("--column", default="", help="column of a table or dataset with the text")
    group.add_argument(
        "--tokens", type=positive, default=tokens, help="tokens of it that are read (%(default)s)"
    )


def positive(text: str) -> int:
    """A whole number from 1 up, also as 200_000, 200k, 10M or 1B."""
    plain = text.replace("_", "").replace(",", "")
    factor = {"k": 10**3, "m": 10**6, "b": 10**9}.get(plain[-1:].lower(), 1)
    digits = plain if factor == 1 else plain[:-1]
    if not (digits.isascii() and digits.isdigit() and int(digits) > 0):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from 1 up, such as 200000, 200k or 10M"
        )
    return int(digits) * factor


def text_choice(machine: Machine, text: str, column: str = "") -> CorpusChoice:
    """The text as links and pages name it; a file is kept beside the store, as pages keep it.

    Raises ValueError for a file that is not there, is empty or cannot be read.
    """
    if text.partition(":")[0] in _NAMED and not Path(text).is_file():
        choice = parse_corpus(text)
    else:
        file = Path(text).expanduser()
        if not file.is_file():
            raise ValueError(
                f"There is no file {file}; give docs, hub:owner/name, or the path of a text, JSON "
                "Lines or Parquet file."
            )
        if file.stat().st_size > _LARGEST_FILE:
            raise ValueError(
                f"{file.name} has {format_bytes(file.stat().st_size)}, and of a file at most "
                f"{format_bytes(_LARGEST_FILE)} are kept beside the results; cut it into several, "
                "or give a dataset of the hub."
            )
        choice = keep_file(machine.store.directory / "texts", file.read_bytes(), file.name)
    return replace(choice, column=column) if column else choice


def corpus_for(machine: Machine, choice: CorpusChoice) -> "Corpus":
    """The text itself, not read yet. Raises ValueError where it cannot be had."""
    return corpus_of(choice, machine.store.directory / "texts")


def one_entry(machine: Machine, release: str, sae: str) -> SaeEntry:
    """The SAE. Raises ValueError where there is none, or it cannot be used."""
    entry = machine.catalog.entry(release, sae)
    if entry.problem is not None:
        raise ValueError(entry.problem)
    return entry


def entries_of(
    machine: Machine, releases: Sequence[str], saes: Sequence[str], model: str = ""
) -> tuple[str, list[SaeEntry]]:
    """The model, and the SAEs: those named, in each release that has them, or all.

    Raises ValueError for an SAE that is not there or cannot be used, and SAEs of several models.
    """
    found: list[SaeEntry] = []
    for release in releases:
        listed = machine.catalog.saes(release)
        if not listed:
            raise ValueError(f"There is no SAE in the release {release!r}.")
        if saes and len(releases) == 1:
            found += [one_entry(machine, release, sae) for sae in saes]
        elif saes:
            found += [entry for entry in listed if entry.sae_id in saes]
        else:
            found += [entry for entry in listed if entry.problem is None]
    missing = [sae for sae in saes if sae not in {entry.sae_id for entry in found}]
    if missing:
        raise ValueError(
            f"None of these releases has an SAE {missing[0]!r}; `python -m core.run list` lists "
            "what there is."
        )
    broken = next((entry for entry in found if entry.problem is not None), None)
    if broken is not None:
        raise ValueError(f"{broken.release} / {broken.sae_id}: {broken.problem}")
    if not found:
        raise ValueError(f"No SAE of {', '.join(releases)} can be used.")
    trained = sorted({entry.model for entry in found})
    if len(trained) > 1 and not model:
        raise ValueError(
            f"These SAEs are of several models ({', '.join(trained)}); choose those of one."
        )
    return model or trained[0], found


def versions_of(entries: Sequence[SaeEntry]) -> tuple[tuple[str, str, str], ...]:
    """`(release, sae_id, version)` of each, as requests name SAEs."""
    return tuple((*entry.key, entry.version) for entry in entries)


def address(
    page: str, model: str, entry: SaeEntry, more: Mapping[str, str], latent: int = 0
) -> str:
    """Where the explorer shows it, after its own address; `more` is the page's part."""
    selection = Selection(model, *entry.key, latent)
    return f"/{page}?{urlencode({**to_parameters(selection), **more})}"
