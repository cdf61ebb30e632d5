"""The text that an SAE was last read on: what its page shows where a link names none."""

from typing import Any

from core.store import JSON, Key, Store

SaeOfModel = tuple[str, str, str, str]
"""`(model, release, sae_id, version)`."""


def note_last_text(
    store: Store, sae: SaeOfModel, *, corpus: str, tokens: int, include_bos: bool
) -> None:
    """Have the page of latents open on this text, named as `core.view.corpora` names it."""
    last = {"corpus": corpus, "tokens": tokens, "include_bos": include_bos}
    if last_text(store, sae) != last:
        store.keep(_key(sae), last, JSON)


def last_text(store: Store, sae: SaeOfModel) -> dict[str, Any] | None:
    """What was noted: `corpus`, `tokens` and `include_bos`; None where nothing was."""
    return store.get(_key(sae), JSON)


def _key(sae: SaeOfModel) -> Key:
    return Key("latent-index-last", 1, {"model": sae[0], "sae": [*sae[1:]]})
