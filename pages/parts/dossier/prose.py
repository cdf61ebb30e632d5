"""The evidence told by a chat model: only at a click, marked, and given nothing but the page."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.dossier.view import LINK, DossierView
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import latent_links
from pages.parts.autointerp import service
from pages.parts.dossier import VIEW, offered

if TYPE_CHECKING:
    from core.autointerp.service import Service
    from core.dossier.conclude import Conclusion
    from core.dossier.readers import Told
    from core.dossier.result import Dossier


def draw(
    dossier: "Dossier", conclusion: "Conclusion", selection: Selection, page: DossierView
) -> None:
    """What was written of this evidence, or the way to ask for it."""
    from core.dossier.prose import stored_prose

    st.header("Told by a chat model", divider="gray")
    told = stored_prose(resources.store(), dossier, conclusion)
    if told is not None:
        _shown(told)
        return
    st.caption(
        "The conclusion above comes from stated rules. At your request a chat model writes the "
        "evidence down in prose. It is sent what stands on this page and nothing else."
    )
    if not st.toggle("Ask a chat model for prose", key="dossier_prose_wanted"):
        return
    found = service.draw(page.chat_model, page=VIEW)
    if found is None:
        return
    offered.draw(
        f"Have {found.endpoint.model} write it",
        button="dossier_prose",
        key=f"dossier-prose:{dossier.request.key}:{found.endpoint.model}",
        title=f"Prose on latent {dossier.request.latent}",
        work=_work(dossier, conclusion, found),
        link=latent_links.address("dossier", selection, **LINK.to_parameters(page)),
    )


def _work(dossier: "Dossier", conclusion: "Conclusion", asked: "Service") -> Any:
    store = resources.store()

    def work(progress: Any) -> None:
        from core.dossier.prose import tell

        progress.update(0, None, message="asking the chat model")
        tell(store, asked.session(store), dossier, conclusion)

    return work


def _shown(told: "Told") -> None:
    with st.container(border=True):
        st.caption(f":material/robot_2: {escape_markdown(told.mark)}")
        for paragraph in told.text.split("\n\n"):
            st.markdown(escape_markdown(paragraph))
