"""The user's own descriptions, kept with the SAE that they are about."""

from core.descriptions.table import YOURS, Descriptions
from core.store import FRAME, Key, Store

_VERSION = 1


def save_user_descriptions(
    store: Store, sae_fingerprint: str, descriptions: Descriptions, *, replace: bool = False
) -> Descriptions:
    """Keep the user's descriptions of an SAE, under its weights and not its name.

    They lie with the paid answers, which are never evicted: nobody can compute them again.

    Args:
        store: the app's.
        sae_fingerprint: `core.store.fingerprint.fingerprint` of the SAE's parameters.
        descriptions: new ones; they win over those saved before.
        replace: forget those saved before.

    Returns:
        All that is saved now, marked as the user's.

    Raises:
        ValueError: those saved before are of another number of latents.
        StoreError: the disk refuses.
    """
    saved = None
    if not replace:
        saved = load_user_descriptions(store, sae_fingerprint, descriptions.d_sae)
    merged = _as_yours(descriptions if saved is None else descriptions.merge(saved))
    store.put(_key(sae_fingerprint), merged.to_frame(), FRAME, paid=True)
    return merged


def load_user_descriptions(store: Store, sae_fingerprint: str, d_sae: int) -> Descriptions | None:
    """What `save_user_descriptions` kept for these weights; None when there is nothing.

    Raises:
        ValueError: they are of another SAE than one with `d_sae` latents.
    """
    frame = store.get(_key(sae_fingerprint), FRAME, paid=True)
    return None if frame is None else Descriptions.from_frame(frame, d_sae, source=YOURS)


def forget_user_descriptions(store: Store, sae_fingerprint: str) -> None:
    """Remove what was saved for these weights."""
    store.remove(_key(sae_fingerprint), FRAME, paid=True)


def _as_yours(descriptions: Descriptions) -> Descriptions:
    return Descriptions.from_texts(
        list(descriptions.texts), source=YOURS, scores=descriptions.scores
    )


def _key(sae_fingerprint: str) -> Key:
    return Key("user-descriptions", _VERSION, {"sae": sae_fingerprint})
