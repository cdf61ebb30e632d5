"""What the dashboard has found out already: its index, and its descriptions of all latents."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core import resources
from core.catalog.entries import SaeEntry
from core.view.selection import Selection
from pages.parts.latent import index, state

if TYPE_CHECKING:
    from core.activations.text_index import OpenIndex


def opened(selection: Selection, entry: SaeEntry) -> "OpenIndex | None":
    """The index of the dashboard if it was made before; being read from the store, it is on its
    way and None."""
    found = index.opened(selection, entry, state.current(), quiet=True)
    if found is not None:
        return found
    from core.activations.text_index import was_made

    view = index.resolved(selection, entry, state.current())
    request = index.request_of(selection, [entry], view)
    if not was_made(resources.store(), request):
        return None
    return index.opened(selection, entry, state.current())


def descriptions(index_of_sae: "OpenIndex") -> Sequence[str] | None:
    """A text for each latent, if the dashboard has them at hand."""
    about = resources.recent().get("latent-about:" + index_of_sae.key.digest)
    return None if about is None else [str(it or "") for it in about.offline.texts]


def being_made() -> bool:
    """Whether an index is being made or opened, which the page then shows."""
    return any(
        it.key.startswith("latent-index:") and not it.state.finished
        for it in resources.jobs().jobs()
    )
