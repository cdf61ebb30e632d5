"""From a latent to every other page, with what was looked at: the latent, a text, the corpus."""

from typing import Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.gradients import sae_choices
from core.view.selection import Selection
from pages.parts import job_results, latent_links, loading, view_state
from pages.parts.latent import index, session

_TEXTS = "latent_carried_texts"


def draw(selection: Selection, *, here: str, typed: str = "") -> None:
    """One link a page but the one at the address `here`.

    `typed` is a text that was typed for this latent; without one, pages that need a text get the
    end of the latent's strongest example, where a text was read with its SAE.
    """
    entry = view_state.current().choices.sae(*selection.sae)
    if entry is None:
        latent_links.draw(selection, here=here)
        return
    more: dict[str, dict[str, str]] = {}
    view = index.resolve_text(selection, entry, session.current())
    example = typed or _example(selection, entry)
    more["gradients"] = {
        **gradients_state(selection, entry),
        **({"prompt": example} if example else {}),
    }
    # The text of the dashboard: then a single latent needs no other reading. Controls would.
    more["autointerp"] = {
        "choose": "this",
        "controls": "0",
        "corpus": view.corpus,
        "tokens": str(view.tokens),
    }
    if typed:
        more["latent"] = {"live": typed, "prompt": typed}
        more["steering"] = {"prompt": typed}
    latent_links.draw(selection, here=here, more=more)


def gradients_state(selection: Selection, entry: SaeEntry) -> dict[str, str]:
    """What feeds this latent: earlier latents where there is an earlier SAE, else the tokens."""
    entries = sae_choices.usable(view_state.current().choices, selection.model)
    name = sae_choices.name_of(entry)
    first, last = sae_choices.default_pair(entries, entry)
    is_fed = last.key == entry.key and first.key != entry.key
    return {"tab": "latents" if is_fed else "tokens", "to": name, "only": "1"}


def _example(selection: Selection, entry: SaeEntry) -> str:
    """The text found before in this session, or now if the index of the SAE is in memory."""
    known: dict[Any, str] = st.session_state.setdefault(_TEXTS, {})
    name = (selection.model, entry.key, entry.version, selection.latent)
    if name not in known:
        view = index.resolve_text(selection, entry, session.current())
        try:
            key = index.request_of(selection, [entry], view).key
        except ValueError:  # the text is not on this server any more
            return ""
        opened = resources.recent().get(key)
        if opened is None or not loading.is_loaded(selection):
            return ""
        from core.latent.carried import example_text

        lease = job_results.lease(selection)
        known[name] = example_text(lease, resources.store(), opened, selection.latent)
    return known[name]
