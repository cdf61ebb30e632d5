"""What somebody changed last, so that it can be undone, also after a restart."""

from contextlib import AbstractContextManager
from typing import Any

from core.hosting.people import Person
from core.store import JSON, Key, Store
from core.store.alone import alone_with

MOST = 20
"""Changes of one person that are kept; older ones cannot be undone."""
_VERSION = 1


class Journal:
    """Changes of one kind (`lists`, `descriptions`), newest last, by person."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store, self._kind = store, kind

    def add(self, person: Person, change: dict[str, Any]) -> None:
        """Note what was there before a change, as JSON; nothing on an explorer of one person."""
        if person.local:
            return
        with self._alone():
            self._put(person, [*self._all(person), change][-MOST:])

    def last(self, person: Person) -> dict[str, Any] | None:
        """The last change of a person; None where there is none."""
        changes = self._all(person)
        return changes[-1] if changes else None

    def take(self, person: Person) -> dict[str, Any]:
        """The last change, which thereby is no longer in the journal. Raises ValueError."""
        with self._alone():
            changes = self._all(person)
            if not changes:
                raise ValueError("There is nothing of yours to undo.")
            self._put(person, changes[:-1])
            return changes[-1]

    def _all(self, person: Person) -> list[dict[str, Any]]:
        return self._store.get(self._key(person), JSON, paid=True) or []

    def _put(self, person: Person, changes: list[dict[str, Any]]) -> None:
        self._store.put(self._key(person), changes, JSON, paid=True)

    def _key(self, person: Person) -> Key:
        return Key("changes", _VERSION, {"kind": self._kind, "by": person.id})

    def _alone(self) -> AbstractContextManager[None]:
        return alone_with(self._store, f"changes-{self._kind}")
