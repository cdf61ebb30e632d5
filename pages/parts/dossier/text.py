"""Which text the dossier is made on: what the link says, else what the dashboards read last."""

from typing import Any

from core.catalog.entries import SaeEntry
from core.dossier.view import DossierView
from core.latent.view import LatentPageView
from core.view.selection import Selection
from pages.parts.latent import index


def resolved(selection: Selection, entry: SaeEntry, page: DossierView) -> dict[str, Any]:
    """`corpus` and `tokens` of the view, named."""
    if page.corpus:
        return {"corpus": page.corpus, "tokens": page.tokens}
    found = index.resolve_text(selection, entry, LatentPageView())
    return {"corpus": found.corpus or "docs", "tokens": max(1000, found.tokens)}
