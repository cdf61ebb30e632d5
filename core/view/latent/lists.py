"""Named lists of latents with notes, which the users of a server share.

They lie with what is never evicted, one value for each list; writing is one at a time, so that two
users who add to a list at once both find their latent in it.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from core.store import JSON, Key, Store
from core.store.process_lock import file_lock

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

    def __post_init__(self) -> None:
        for name in ("model", "release", "sae_id"):
            value = getattr(self, name)
            if not (isinstance(value, str) and 0 < len(value) <= 500):
                raise ValueError(f"{name} is {value!r:.60}; give the name of one.")
        if type(self.latent) is not int or not 0 <= self.latent < 2**31:
            raise ValueError(f"latent is {self.latent!r:.60}; give a number from 0 up.")
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
    return [_noted(it) for it in store.get(_key(name), JSON, paid=True) or []]


def put_on_list(store: Store, name: str, items: Sequence[Noted]) -> int:
    """Add latents to a list, which is made if need be; a latent that is on it gets the new note.

    Returns the number of latents on the list. Raises ValueError for a name that is empty or too
    long, and for more than there is room for.
    """
    name = _checked(name)
    with _writing(store):
        by_place = {it.place: it for it in read_list(store, name)}
        by_place.update({it.place: it for it in items})
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
        _write(store, name, list(by_place.values()))
        return len(by_place)


def take_off_list(store: Store, name: str, items: Sequence[Noted]) -> None:
    """Remove latents from a list; those that are not on it are passed over."""
    gone = {it.place for it in items}
    with _writing(store):
        _write(store, name, [it for it in read_list(store, name) if it.place not in gone])


def remove_list(store: Store, name: str) -> None:
    """Forget a list with all its notes."""
    with _writing(store):
        store.put(_names_key(), [it for it in list_names(store) if it != name], JSON, paid=True)
        store.remove(_key(name), JSON, paid=True)


def export_list(items: Sequence[Noted], file_format: str) -> bytes:
    """A list as `csv` or `json`; `read_list_file` reads it again. ValueError for other formats."""
    rows = [asdict(it) for it in items]
    if file_format == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1).encode("utf-8", "replace")
    if file_format != "csv":
        raise ValueError(f"There is no format {file_format!r}; choose csv or json.")
    text = io.StringIO()
    writer = csv.DictWriter(text, [it.name for it in fields(Noted)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
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
            rows = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{file_name} is not JSON: {error}.") from error
        if not isinstance(rows, list):
            raise ValueError(f"{file_name} must hold a list of objects.")
    else:
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise ValueError(f"{file_name} cannot be read as CSV: {error}.") from error
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
    missing = [it for it in ("model", "release", "sae_id", "latent") if row.get(it) in (None, "")]
    if missing:
        raise ValueError(f"it has no {missing[0]}.")
    latent = row["latent"]
    if isinstance(latent, str) and latent.isascii() and latent.isdigit() and len(latent) <= 10:
        latent = int(latent)
    note = row.get("note") or ""
    return Noted(row["model"], row["release"], row["sae_id"], latent, note)


def _checked(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"A list needs a name of 1 to {MAX_NAME} characters; choose another.")
    return name


def _write(store: Store, name: str, items: Sequence[Noted]) -> None:
    store.put(_key(name), [asdict(it) for it in items], JSON, paid=True)


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    with file_lock(store.directory / "locks" / "latent-lists.lock"):
        yield


def _names_key() -> Key:
    return Key("latent-list-names", _VERSION, {})


def _key(name: str) -> Key:
    return Key("latent-list", _VERSION, {"name": name})
