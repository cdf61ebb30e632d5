"""What readers note of a latent: hypothesis, tags, verdict and confidence; every version is kept.

Notes lie with what is never evicted, under the SAE's weights and not its name.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from core.store import JSON, Key, Store
from core.store.alone import alone_with

VERDICTS = ("", "it holds", "it holds in part", "it does not hold", "undecided")
"""What a reader can conclude."""
MOST_TEXT = 4000
MOST_TAG, MOST_TAGS, MOST_NAME = 40, 20, 300
_MOST_VERSIONS = 200
_VERSION = 1


@dataclass(frozen=True)
class Note:
    """One version of a reader's note."""

    when: str
    """Time at which it was written, ISO 8601 in UTC."""
    who: str
    """Who wrote it, as they say; may be empty."""
    hypothesis: str
    """What the latent is, in the reader's words."""
    verdict: str
    """One of `VERDICTS`."""
    confidence: int
    """How sure the reader is, in per cent."""
    tags: tuple[str, ...]
    """Words to find it by."""
    about: str
    """Conclusion of the dossier that the reader saw."""

    def cells(self) -> tuple[str, ...]:
        """As a line of a table: when, who, hypothesis, verdict, confidence, tags."""
        sure = f"{self.confidence} %"
        when = self.when[:16].replace("T", " ")
        return (when, self.who, self.hypothesis, self.verdict, sure, ", ".join(self.tags))


def note_of(
    *,
    hypothesis: str,
    verdict: str = "",
    confidence: int = 50,
    tags: Sequence[str] = (),
    who: str = "",
    about: str = "",
    now: datetime | None = None,
) -> Note:
    """A note of now. Raises ValueError for an empty one, or what is too long or unknown."""
    text, name = hypothesis.strip(), " ".join(who.split())
    some = tuple(dict.fromkeys(tag for tag in (" ".join(it.split()) for it in tags) if tag))
    if not text and not verdict and not some:
        raise ValueError("The note is empty; write a hypothesis, a tag or a verdict.")
    if len(text) > MOST_TEXT:
        raise ValueError(
            f"The hypothesis has {len(text):,} characters; write {MOST_TEXT:,} or fewer."
        )
    if verdict not in VERDICTS:
        known = ", ".join(filter(None, VERDICTS))
        raise ValueError(f"The verdict {verdict[:40]!r} is none of {known}.")
    if not 0 <= confidence <= 100:
        raise ValueError(f"The confidence is {confidence}; give 0 to 100 per cent.")
    if len(some) > MOST_TAGS or any(len(tag) > MOST_TAG for tag in some):
        raise ValueError(f"Give at most {MOST_TAGS} tags of at most {MOST_TAG} characters.")
    if len(name) > MOST_NAME:
        raise ValueError(f"The name has {len(name)} characters; write {MOST_NAME} or fewer.")
    moment = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    return Note(moment, name, text, verdict, int(confidence), some, about)


def save_note(store: Store, sae_fingerprint: str, latent: int, note: Note) -> list[Note]:
    """Keep a note as the latest version; all versions, the latest first."""
    key = _key(sae_fingerprint, latent)
    with _one_at_a_time(store):
        notes = [note, *load_notes(store, sae_fingerprint, latent)][:_MOST_VERSIONS]
        store.put(key, [asdict(it) | {"tags": list(it.tags)} for it in notes], JSON, paid=True)
    return notes


def load_notes(store: Store, sae_fingerprint: str, latent: int) -> list[Note]:
    """All versions, the latest first; what cannot be read is left out."""
    found = store.get(_key(sae_fingerprint, latent), JSON, paid=True)
    return (
        [note for it in found if (note := _read(it)) is not None] if isinstance(found, list) else []
    )


def _read(values: Any) -> Note | None:
    if not isinstance(values, Mapping):
        return None
    try:
        return Note(**{**values, "tags": tuple(map(str, values["tags"]))})
    except (TypeError, KeyError):
        return None


def _key(sae_fingerprint: str, latent: int) -> Key:
    return Key("dossier-notes", _VERSION, {"sae": sae_fingerprint, "latent": latent})


@contextmanager
def _one_at_a_time(store: Store) -> Iterator[None]:
    with alone_with(store, "dossier-notes"):
        yield
