"""The jobs behind the search: collecting, comparing meanings, and describing."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from core import resources
from core.catalog.entries import SaeEntry
from core.jobs import JobState
from core.view.selection import Selection
from pages.parts import job_results, neuronpedia, tasks
from pages.parts.find import session

_DESCRIBING = "find_describing"


def collected(selection: Selection, models: Sequence[str], entries: Sequence[SaeEntry]) -> Any:
    """Everything that was said of latents of these SAEs (`Gathered`); None before it is there."""
    from core.description_search.gather import gather

    store = resources.store()
    fetched = neuronpedia.n_fetched()
    return job_results.recent_result(
        f"find-collect:{session.collected()}:{selection.model}:{fetched}",
        f"Collecting descriptions for {selection.model}",
        lambda progress: gather(store, models, entries, progress=progress),
        wait=1.5,
    )


def draw_describing(selection: Selection, silent: Sequence[SaeEntry]) -> None:
    """A button that has the latents of `silent` SAEs described offline, or how far that is."""
    from core.corpus import docs_sample
    from core.description_search.describe import describe_saes, expected_seconds
    from core.usual_time import in_words

    corpus, engine, store = docs_sample(), resources.engine(), resources.store()
    names = ",".join(f"{entry.release}/{entry.sae_id}/{entry.version}" for entry in silent)
    key = f"find-describe:{selection.model}:{corpus.digest}:{names}"

    def work(progress: Any) -> None:
        def lease(group: Sequence[SaeEntry]) -> Any:
            names = [entry.key for entry in group]
            return engine.lease(selection.model, names, progress=progress)

        describe_saes(lease, store, silent, corpus, model=selection.model)

    title = f"Describing the latents of {len(silent)} SAEs"
    job = tasks.found(key)
    if job is None:
        seconds = expected_seconds(store, silent, model=selection.model)
        takes = f" Takes {in_words(seconds)}, as it took here before." if seconds else ""
        st.button(
            f"Describe the latents of {len(silent)} SAE{'s' if len(silent) > 1 else ''} offline",
            key="find_describe",
            icon=":material/menu_book:",
            help=f"Reads {corpus.name} once with all of them and says of each latent what its "
            f"strongest examples have in common. What is said is kept.{takes}",
            on_click=lambda: tasks.attempt(lambda: tasks.submit(key, title, work)),
        )
    elif job.state is JobState.DONE:
        if st.session_state.get(_DESCRIBING) != key:
            st.session_state[_DESCRIBING] = key
            session.collect_anew()
            st.rerun()
    else:
        job_results.draw_job(job)
