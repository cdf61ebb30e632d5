"""What the browser's tab, history and bookmarks call a view."""

import re

from core.catalog.entries import SaeEntry
from core.view.selection import Selection

_STREAM = re.compile(r"\.hook_resid_(pre|post|mid)$")


def page_title(
    page: str, selection: Selection | None, entry: SaeEntry | None, *, about_latent: bool = True
) -> str:
    """What is special about the view first, because tabs are narrow: latent, place, model.

    `page` is the name of the page; one that begins with "Latent" and the number names the latent
    itself. Without a selection it is all that is said.
    """
    if selection is None:
        return page
    latent = f"Latent {selection.latent}"
    parts = [page]
    if about_latent and not page.startswith(latent):
        parts.append(latent)
    parts += [site_title(entry, selection), selection.model]
    return " · ".join(parts)


def site_title(entry: SaeEntry | None, selection: Selection) -> str:
    """The place that an SAE reads, shortly: `blocks.2`, `blocks.2 attn.z`; else its name."""
    name = entry.hook_name if entry is not None else None
    if not name:
        return selection.sae_id
    stream = _STREAM.sub("", name)
    return stream if stream != name else name.replace("hook_", "")
