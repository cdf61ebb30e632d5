"""Named lists of latents with notes, which the users of a server share.

They lie with what is never evicted, one value for each list; writing is one at a time, so that two
users who add to a list at once both find their latent in it.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from typing import Any

from core.bounded_json import parse_bounded
from core.csv_text import LINE_END, harmless, plain
from core.hosting.journal import Journal
from core.hosting.people import LOCAL, Person
from core.hosting.rights import Action, change, require
from core.store import JSON, Key, Store
from core.store.alone import alone_with

MAX_LISTS = 500
MAX_LATENTS = 5000
MAX_NAME = 80
MAX_NOTE = 2000
MAX_FILE_BYTES = 8 << 20
_VERSION = 1


@dataclass(frozen=True)
class Noted:
    """One latent on a list."""

    model: str
    """Model that it is looked at in."""
    release: str
    """Release of its SAE."""
    sae_id: str
    """SAE within the release."""
    latent: int
    """Latent of the SAE."""
    note: str = ""
    """What somebody wrote about it."""
    description: str = ""
    """How it was described when it was put on the list."""
    author: str = ""
    """Who put it there; "" where nobody has a name."""

    def __post_init__(self) -> None:
        for name in ("model", "release", "sae_id"):
            value = getattr(self, name)
            if not (isinstance(value, str) and 0 < len(value) <= 500):
                raise ValueError(f"{name} is {value!r:.60}; give the name of one.")
        if type(self.latent) is not int or not 0 <= self.latent < 2**31:
            raise ValueError(f"latent is {self.latent!r:.60}; give a number from 0 up.")
        if not isinstance(self.description, str) or len(self.description) > MAX_NOTE:
            raise ValueError(f"A description is longer than {MAX_NOTE:,} characters; shorten it.")
        if not isinstance(self.author, str) or len(self.author) > 300:
            raise ValueError(f"author is {self.author!r:.60}; give an e-mail address or nothing.")
        if not isinstance(self.note, str) or len(self.note) > MAX_NOTE:
            raise ValueError(f"A note is longer than {MAX_NOTE:,} characters; shorten it.")

    @property
    def place(self) -> tuple[str, str, str, int]:
        """Which latent it is about, whatever the note."""
        return self.model, self.release, self.sae_id, self.latent


def list_names(store: Store) -> list[str]:
    """Names of all lists, in alphabetical order."""
    return sorted(store.get(_names_key(), JSON, paid=True) or [], key=str.casefold)


def read_list(store: Store, name: str) -> list[Noted]:
    """What is on a list, in the order in which it was added; nothing where there is no list."""
    return [_noted(stored) for stored in store.get(_key(name), JSON, paid=True) or []]


def put_on_list(store: Store, name: str, items: Sequence[Noted], *, by: Person = LOCAL) -> int:
    """Add latents to a list, which is made if need be; a latent that is on it gets the new note.

    Returns the number of latents on the list. Raises ValueError for a name that is empty or too
    long, and for more than there is room for, and NotAllowed for notes that others wrote.
    """
    require(by, Action.WRITE)
    name = _checked(name)
    with _writing(store):
        by_place = {it.place: it for it in read_list(store, name)}
        described = [_described(it, by_place) for it in items]
        new = [replace(it, author=by.author) for it in described if not _same(it, by_place)]
        before = [by_place[it.place] for it in new if it.place in by_place]
        for item in before:
            require(by, change(by, item.author))
        by_place.update({it.place: it for it in new})
        if len(by_place) > MAX_LATENTS:
            raise ValueError(
                f"The list would hold {len(by_place):,} latents; at most {MAX_LATENTS:,} fit, so "
                "begin another."
            )
        names = list_names(store)
        if name not in names:
            if len(names) >= MAX_LISTS:
                raise ValueError(f"There are {MAX_LISTS} lists; remove one first.")
            store.put(_names_key(), [*names, name], JSON, paid=True)
            store.put(_author_key(name), by.author, JSON, paid=True)
        _write(store, name, list(by_place.values()))
        if before:
            _remember(store, by, "changed notes on", name, before)
        return len(by_place)


def take_off_list(store: Store, name: str, items: Sequence[Noted], *, by: Person = LOCAL) -> None:
    """Remove latents from a list; those that are not on it are passed over.

    Raises NotAllowed for what others put there.
    """
    places = {it.place for it in items}
    with _writing(store):
        there = read_list(store, name)
        gone = [noted for noted in there if noted.place in places]
        for item in gone:
            require(by, change(by, item.author))
        _write(store, name, [it for it in there if it.place not in places])
        if gone:
            _remember(store, by, "took latents off", name, gone)


def list_author(store: Store, name: str) -> str:
    """Who began a list; "" where nobody has a name."""
    return store.get(_author_key(name), JSON, paid=True) or ""


def remove_list(store: Store, name: str, *, by: Person = LOCAL) -> None:
    """Forget a list with all its notes.

    Raises NotAllowed for a list that others began, or that holds notes of others.
    """
    with _writing(store):
        there = read_list(store, name)
        for author in (list_author(store, name), *(it.author for it in there)):
            require(by, change(by, author))
        _remember(store, by, "removed", name, there)
        store.put(_names_key(), [it for it in list_names(store) if it != name], JSON, paid=True)
        store.remove(_key(name), JSON, paid=True)
        store.remove(_author_key(name), JSON, paid=True)


def last_change(store: Store, by: Person) -> str:
    """What `undo_change` would undo, in words; "" for nothing."""
    last = Journal(store, "lists").last(by)
    return "" if last is None else f"You {last['what']} “{last['list']}”"


def undo_change(store: Store, by: Person) -> str:
    """Put back what this person last removed or changed; the name of the list.

    What others have written since stays as it is. Raises ValueError where there is nothing.
    """
    last = Journal(store, "lists").take(by)
    name = _checked(last["list"])
    with _writing(store):
        names = list_names(store)
        if name not in names:
            store.put(_names_key(), [*names, name], JSON, paid=True)
            store.put(_author_key(name), by.author, JSON, paid=True)
        by_place = {it.place: it for it in read_list(store, name)}
        for item in map(_noted, last["before"]):
            there = by_place.get(item.place)
            if there is None or change(by, there.author) is Action.CHANGE_OWN:
                by_place[item.place] = item
        _write(store, name, list(by_place.values()))
    return name


def export_list(items: Sequence[Noted], file_format: str) -> bytes:
    """A list as `csv` or `json`; `read_list_file` reads it again. ValueError for other formats."""
    named = any(it.author for it in items)
    columns = [it.name for it in fields(Noted) if named or it.name != "author"]
    rows = [{name: getattr(it, name) for name in columns} for it in items]
    if file_format == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1).encode("utf-8", "replace")
    if file_format != "csv":
        raise ValueError(f"There is no format {file_format!r}; choose csv or json.")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator=LINE_END)
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: harmless(it) if isinstance(it, str) else it for name, it in row.items()}
        )
    return text.getvalue().encode("utf-8-sig", "replace")


def read_list_file(data: bytes, file_name: str) -> list[Noted]:
    """The latents of a file that `export_list` wrote, or one like it.

    Raises ValueError with the row for whatever cannot be used.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{file_name} is larger than {MAX_FILE_BYTES >> 20} MiB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file_name} is not UTF-8 text; save it as UTF-8.") from error
    rows: list[Mapping[str, Any]]
    if file_name.lower().endswith(".json"):
        try:
            rows = parse_bounded(text, most_objects=2 * MAX_LATENTS)
        except ValueError as error:
            raise ValueError(f"{file_name} is not JSON: {error}.") from error
        if not isinstance(rows, list):
            raise ValueError(f"{file_name} must hold a list of objects.")
    else:
        try:
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            rows = [
                {name: plain(it) if isinstance(it, str) else it for name, it in row.items()}
                for row in islice(reader, MAX_LATENTS + 1)
            ]
        except csv.Error as error:
            raise ValueError(f"{file_name} cannot be read as CSV: {error}.") from error
    if len(rows) > MAX_LATENTS:
        raise ValueError(f"{file_name} has more than {MAX_LATENTS:,} rows, the most of one list.")
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(_noted(row))
        except ValueError as error:
            raise ValueError(f"Row {number} of {file_name} cannot be used: {error}") from error
    if not found:
        raise ValueError(f"{file_name} holds no latents; it needs one row for each.")
    return found


def _noted(row: Any) -> Noted:
    if not isinstance(row, Mapping):
        raise ValueError(
            f"it is {row!r:.60} and not an object with model, release, sae_id, latent."
        )
    missing = [
        key for key in ("model", "release", "sae_id", "latent") if row.get(key) in (None, "")
    ]
    if missing:
        raise ValueError(f"it has no {missing[0]}.")
    latent = row["latent"]
    if isinstance(latent, str) and latent.isascii() and latent.isdigit() and len(latent) <= 10:
        latent = int(latent)
    texts = {name: row.get(name) or "" for name in ("note", "description", "author")}
    return Noted(row["model"], row["release"], row["sae_id"], latent, **texts)


def _checked(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"A list needs a name of 1 to {MAX_NAME} characters; choose another.")
    return name


def _write(store: Store, name: str, items: Sequence[Noted]) -> None:
    store.put(_key(name), [asdict(noted) for noted in items], JSON, paid=True)


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    with alone_with(store, "latent-lists"):
        yield


def _described(item: Noted, there: Mapping[tuple[str, str, str, int], Noted]) -> Noted:
    """A note without a description keeps the one that stands there."""
    known = there.get(item.place)
    return (
        item if item.description or known is None else replace(item, description=known.description)
    )


def _same(item: Noted, there: Mapping[tuple[str, str, str, int], Noted]) -> bool:
    """Whether this note stands there already, whoever wrote it."""
    known = there.get(item.place)
    return known is not None and (known.note, known.description) == (item.note, item.description)


def _remember(store: Store, by: Person, what: str, name: str, before: Sequence[Noted]) -> None:
    entry = {"what": what, "list": name, "before": [asdict(it) for it in before]}
    Journal(store, "lists").add(by, entry)


def _author_key(name: str) -> Key:
    return Key("latent-list-author", 1, {"name": name})


def _names_key() -> Key:
    return Key("latent-list-names", _VERSION, {})


def _key(name: str) -> Key:
    return Key("latent-list", _VERSION, {"name": name})
