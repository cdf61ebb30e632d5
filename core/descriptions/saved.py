"""The users' own descriptions, kept with the SAE that they are about, and who wrote each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from core.descriptions.offline import DESCRIBER_VERSION
from core.descriptions.table import OFFLINE, YOURS, Descriptions
from core.hosting.journal import Journal
from core.hosting.people import LOCAL, Person
from core.hosting.rights import Action, change, require
from core.saes.writes import WRITES_VERSION
from core.store import FRAME, JSON, Key, Store
from core.store.alone import alone_with

_VERSION = 1


def save_user_descriptions(
    store: Store,
    sae_fingerprint: str,
    descriptions: Descriptions,
    *,
    replace: bool = False,
    by: Person = LOCAL,
) -> Descriptions:
    """Keep the user's descriptions of an SAE, under its weights and not its name.

    They lie with the paid answers, which are never evicted: nobody can compute them again.

    Args:
        store: the app's.
        sae_fingerprint: `core.store.fingerprint.fingerprint` of the SAE's parameters.
        descriptions: new ones; they win over those saved before.
        replace: forget those saved before.
        by: whose they are.

    Returns:
        All that is saved now, marked as the user's.

    Raises:
        ValueError: those saved before are of another number of latents.
        NotAllowed: others wrote what would be replaced; nothing is saved then.
        StoreError: the disk refuses.
    """
    require(by, Action.WRITE)
    with _writing(store):
        saved = load_user_descriptions(store, sae_fingerprint, descriptions.d_sae)
        before = saved if saved is not None else Descriptions.none(descriptions.d_sae)
        merged = descriptions if replace else descriptions.merge(before)
        _put(store, sae_fingerprint, before, merged, by)
    return _as_yours(merged)


def load_user_descriptions(store: Store, sae_fingerprint: str, d_sae: int) -> Descriptions | None:
    """What `save_user_descriptions` kept for these weights; None when there is nothing.

    Raises:
        ValueError: they are of another SAE than one with `d_sae` latents.
    """
    frame = store.get(_key(sae_fingerprint), FRAME, paid=True)
    return None if frame is None else Descriptions.from_frame(frame, d_sae, source=YOURS)


def remember_offline(store: Store, sae_fingerprint: str, described: Descriptions) -> None:
    """Keep what the offline describer said of an SAE last, for pages that have not read a text."""
    store.put(_offline_key(sae_fingerprint), described.to_frame(), FRAME)


def recall_offline(store: Store, sae_fingerprint: str, d_sae: int) -> Descriptions | None:
    """What `remember_offline` kept for these weights; None when there is nothing that fits."""
    frame = store.get(_offline_key(sae_fingerprint), FRAME)
    if frame is None:
        return None
    try:
        return Descriptions.from_frame(frame, d_sae, source=OFFLINE)
    except ValueError:
        return None


def forget_user_description(
    store: Store, sae_fingerprint: str, d_sae: int, latent: int, *, by: Person = LOCAL
) -> None:
    """Remove what was saved of one latent of these weights; nothing happens where nothing was.

    It can be undone.

    Raises:
        NotAllowed: somebody else wrote it, and `by` is no administrator.
        ValueError: what is saved is of another SAE than one with `d_sae` latents.
        StoreError: the disk refuses.
    """
    with _writing(store):
        before = load_user_descriptions(store, sae_fingerprint, d_sae)
        if before is None or not before.texts[latent]:
            return
        texts, scores = list(before.texts), before.scores.copy()
        texts[latent], scores[latent] = "", np.nan
        left = Descriptions.from_texts(texts, source=YOURS, scores=scores)
        _put(store, sae_fingerprint, before, left, by)


def authors_of(store: Store, sae_fingerprint: str) -> dict[int, str]:
    """Who wrote the description of each latent, where somebody with a name did."""
    found = store.get(_authors_key(sae_fingerprint), JSON, paid=True) or {}
    return {int(latent): author for latent, author in found.items()}


def forget_user_descriptions(
    store: Store, sae_fingerprint: str, *, by: Person = LOCAL, d_sae: int | None = None
) -> None:
    """Remove what was saved for these weights; of people with names, only what `by` wrote.

    With `d_sae`, the latents of the SAE, it can be undone.
    """
    if by.local or d_sae is None:
        require(by, Action.CHANGE_OTHERS)
        store.remove(_key(sae_fingerprint), FRAME, paid=True)
        store.remove(_authors_key(sae_fingerprint), JSON, paid=True)
        return
    require(by, Action.CHANGE_OWN)
    with _writing(store):
        before = load_user_descriptions(store, sae_fingerprint, d_sae)
        if before is None:
            return
        own = [it for it, author in authors_of(store, sae_fingerprint).items() if author == by.id]
        texts = list(before.texts)
        for latent in own:
            texts[latent] = ""
        left = Descriptions.from_texts(texts, source=YOURS, scores=before.scores)
        _put(store, sae_fingerprint, before, left, by)


def last_description(store: Store, by: Person, sae_fingerprint: str) -> int:
    """How many descriptions of this SAE `undo_descriptions` would put back as they were."""
    last = Journal(store, _journal(sae_fingerprint)).last(by)
    return 0 if last is None else len(last["before"])


def undo_descriptions(store: Store, by: Person, sae_fingerprint: str, d_sae: int) -> int:
    """Put back what this person last changed of an SAE, where it is still theirs; how many.

    Raises ValueError where there is nothing.
    """
    require(by, Action.CHANGE_OWN)
    last = Journal(store, _journal(sae_fingerprint)).take(by)
    with _writing(store):
        now = load_user_descriptions(store, sae_fingerprint, d_sae)
        now = now if now is not None else Descriptions.none(d_sae)
        authors, texts, scores = authors_of(store, sae_fingerprint), list(now.texts), now.scores
        done = 0
        for latent, text, score, author in last["before"]:
            if texts[latent] and authors.get(latent, "") != by.author:
                continue  # somebody has written another since
            texts[latent], scores[latent] = text, np.nan if score is None else score
            authors[latent] = author
            done += 1
        back = Descriptions.from_texts(texts, source=YOURS, scores=scores)
        _write(store, sae_fingerprint, back, authors)
    return done


def _put(
    store: Store, sae_fingerprint: str, before: Descriptions, after: Descriptions, by: Person
) -> None:
    """Write what has changed down as `by`'s. Raises NotAllowed where that is another's."""
    authors = authors_of(store, sae_fingerprint)
    changed = np.flatnonzero(before.texts != after.texts).tolist()
    replaced = [latent for latent in changed if before.texts[latent]]
    for latent in replaced:
        require(by, change(by, authors.get(latent, "")))
    was: list[list[Any]] = [
        [it, before.texts[it], _or_none(before.scores[it]), authors.get(it, "")] for it in changed
    ]
    authors |= dict.fromkeys(changed, by.author)
    _write(store, sae_fingerprint, after, authors)
    if changed:
        Journal(store, _journal(sae_fingerprint)).add(by, {"before": was})


def _write(
    store: Store, sae_fingerprint: str, found: Descriptions, authors: dict[int, str]
) -> None:
    store.put(_key(sae_fingerprint), _as_yours(found).to_frame(), FRAME, paid=True)
    named = {str(it): author for it, author in authors.items() if author and found.texts[it]}
    if named or store.get(_authors_key(sae_fingerprint), JSON, paid=True) is not None:
        store.put(_authors_key(sae_fingerprint), named, JSON, paid=True)


def _or_none(score: Any) -> float | None:
    return None if np.isnan(score) else float(score)


def _as_yours(descriptions: Descriptions) -> Descriptions:
    return Descriptions.from_texts(
        list(descriptions.texts), source=YOURS, scores=descriptions.scores
    )


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    with alone_with(store, "user-descriptions"):
        yield


def _journal(sae_fingerprint: str) -> str:
    return f"descriptions-{sae_fingerprint[:40]}"


def _offline_key(sae_fingerprint: str) -> Key:
    parameters = {"sae": sae_fingerprint, "describer": DESCRIBER_VERSION, "writes": WRITES_VERSION}
    return Key("offline-descriptions", _VERSION, parameters)


def _key(sae_fingerprint: str) -> Key:
    return Key("user-descriptions", _VERSION, {"sae": sae_fingerprint})


def _authors_key(sae_fingerprint: str) -> Key:
    return Key("user-description-authors", _VERSION, {"sae": sae_fingerprint})
