"""Which weights stood behind the name of an SAE when it was loaded here last?

What is said of an SAE is kept under its weights (`core.store.fingerprint`). With this, what was
said of SAEs that are not loaded can be found by their names.
"""

from dataclasses import asdict, dataclass
from typing import Any

from core.asking import may_compute
from core.store import JSON, Key, Store

_VERSION = 1


@dataclass(frozen=True)
class KnownWeights:
    """The weights of an SAE as they were loaded."""

    fingerprint: str
    """Of the weights and of what the config says of computing with them."""
    d_sae: int
    """Number of latents."""


def remember_weights(
    store: Store, name: tuple[str, str, str, str], fingerprint: str, d_sae: int
) -> None:
    """Note the weights of the SAE called `name`: `(model, release, sae_id, version)`."""
    if recall_weights(store, name) == KnownWeights(fingerprint, d_sae):
        return
    if may_compute():  # else the next who may notes it
        store.keep(_key(name), asdict(KnownWeights(fingerprint, d_sae)), JSON)


def recall_weights(store: Store, name: tuple[str, str, str, str]) -> KnownWeights | None:
    """The weights noted last under this name; None where it was never loaded here."""
    kept: Any = store.get(_key(name), JSON)
    try:
        return None if kept is None else KnownWeights(**kept)
    except TypeError:
        return None


def _key(name: tuple[str, str, str, str]) -> Key:
    return Key("known-weights", _VERSION, {"of": list(name)})
