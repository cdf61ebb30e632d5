"""What a page says when something fails. No page shows a traceback: that goes to the log."""

import logging
import secrets
import time
from types import TracebackType
from typing import Any

import streamlit as st

from core import resources
from core.device import is_out_of_memory
from core.hub import hub_explanation
from core.jobs import JobFailed
from core.jobs.job import plain_sentence
from core.view.markup import escape_markdown

log = logging.getLogger(__name__)
_READ_SECONDS = 6.0
"""How long it stands there how a click went."""


class shown_plainly:
    """A `with` block whose exceptions appear on the page as one sentence; the page goes on."""

    def __enter__(self) -> "shown_plainly":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        # Streamlit stops and reruns pages with BaseExceptions, which are not errors.
        if not isinstance(error, Exception):
            return False
        st.error(escape_markdown(sentence_for(error)), icon=":material/error:")
        return True


def sentence_for(error: Exception) -> str:
    """What to tell the user; anything unexpected is logged under a reference."""
    if is_out_of_memory(error):
        resources.relieve()
        return plain_sentence(error)
    if isinstance(error, ValueError | JobFailed) and str(error):
        return str(error)
    if isinstance(error, OSError):
        sentence = hub_explanation(error)
        if sentence is not None:
            return sentence
    reference = secrets.token_hex(4)
    log.error("Reference %s", reference, exc_info=error)
    return (
        "Something went wrong here that should not have. Choosing another latent or reloading the "
        f"page may help; if it stays, report it with the reference {reference}, under which the "
        "server's log has the details."
    )


def note_outcome(name: str, outcome: Any) -> None:
    """Keep how a click went, for some seconds: a run of the page may be cut short by the next one
    before anybody has seen it."""
    st.session_state[name] = outcome, time.monotonic()


def outcome(name: str) -> Any:
    """What `note_outcome` kept; None where there is nothing, or nothing any more."""
    kept, since = st.session_state.get(name, (None, 0.0))
    if kept is not None and time.monotonic() - since > _READ_SECONDS:
        forget_outcome(name)
        return None
    return kept


def forget_outcome(name: str) -> None:
    """A later click went another way."""
    st.session_state.pop(name, None)
