"""Many latents as one task: a text each, with progress, cancel, and files to take away."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.jobs import Job, JobState
from core.patch_scoping.view import ScopeView, parse_latents
from core.view.markup import n_of
from pages.parts import action, downloads, job_results, tasks
from pages.parts.patch_scoping import VIEW, answer

if TYPE_CHECKING:
    import pandas as pd

    from core.patch_scoping.null_distribution import NullComparison
    from core.patch_scoping.run import ScopeRequest, ScopeResult

_DEFAULT = "100 random"


def draw(
    request: "ScopeRequest", result: "ScopeResult", by: str, scope: ScopeView, *, link: str
) -> None:
    """Which latents, the button, and what came out."""
    text = scope.batch or _DEFAULT
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.text_input(
            "Latents",
            help='Numbers and spans such as "3, 10-20", or a draw such as "100 random".',
            width=360,
            **VIEW.widget("scope_batch", "batch", value=text, read=str.strip),
        )
        latents = parse_latents(text, width=result.d_sae, seed=scope.seed)
        asked = replace(request, latents=latents)
        key = f"{asked.key}:batch"
        job = tasks.found(key)
        clicked = action.clicked(
            f"Explain {n_of(len(latents), 'latent')}",
            type="primary",
            icon=":material/play_arrow:",
            key="scope_batch_start",
        )
        if clicked and (job is None or job.state in (JobState.FAILED, JobState.CANCELLED)):
            job = _start(key, asked, link)
    st.caption(
        "The question, layers, scales and sampling above are used. Latents that were explained "
        "before are read from the store, so a task that was cancelled goes on where it stopped."
    )
    if job is None:
        return
    if job.state is not JobState.DONE:
        job_results.draw_job(job)
        return
    swept, against_null = job.result()
    _found(swept, against_null, result, by)


def _start(key: str, request: "ScopeRequest", link: str) -> "Job[Any]":
    from core.patch_scoping.run import run_null_comparison, run_sweep

    engine, store = resources.engine(), resources.store()

    def make(progress: Any) -> "tuple[pd.DataFrame, dict[int, NullComparison]]":
        lease = engine.lease(request.question.speaker, [request.sae], progress=progress)
        table = run_sweep(lease, store, request).table
        return table, run_null_comparison(lease, store, request)

    title = f"{request.question.speaker} explains {n_of(len(request.latents), 'latent')}"
    tasks.forget(key)
    return tasks.submit(key, title, make, link=link)


def _found(
    swept: "pd.DataFrame",
    against_null: "dict[int, NullComparison]",
    result: "ScopeResult",
    by: str,
) -> None:
    from core.patch_scoping.tables import batch_table

    table = batch_table(swept, against_null, by)  # type: ignore[arg-type]  # one of CHOICES
    n = len(table)
    counts = {name: int((table["verdict"] == name).sum()) for name in ("stands out", "unclear")}
    repeated = int(table["text"].duplicated(keep=False).sum())
    st.markdown(
        f"**{n_of(n, 'latent')}**: {counts['stands out']} stand out from random directions, "
        f"{counts['unclear']} are unclear, {n - sum(counts.values())} are unexplainable here; "
        f"{repeated} share their text with another latent."
    )
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        height=min(600, 38 + 35 * n),
        column_config=_columns(),
    )
    with st.container(horizontal=True, gap="small"):
        downloads.table(lambda: table, "patch-scoping", key="scope_batch_best", what="Best texts")
        st.download_button(
            "Table (JSON Lines)",
            lambda: _json_lines(table),
            "patch-scoping.jsonl",
            on_click="ignore",
            key="scope_batch_jsonl",
            icon=":material/download:",
        )
        downloads.table(
            lambda: swept, "patch-scoping-all-texts", key="scope_batch_all", what="All texts"
        )
    stands = table[table["verdict"] == "stands out"]
    texts = dict(zip(stands["latent"].astype(int), stands["text"], strict=True))
    st.button(
        f"Use as descriptions ({len(stands)} that stand out)",
        icon=":material/bookmark_add:",
        key="scope_batch_use",
        on_click=lambda: tasks.attempt(lambda: answer.save(texts, result)),
        disabled=not texts,
    )
    answer.saved_note(result, tuple(texts))


def _json_lines(table: "pd.DataFrame") -> bytes:
    return table.to_json(orient="records", lines=True, force_ascii=False).encode()


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "latent": number("Latent", format="%d"),
        "text": st.column_config.TextColumn("What the model says", width="large"),
        "verdict": "Verdict",
        "probability": st.column_config.ProgressColumn(
            "Probability", min_value=0, max_value=1, format="%.2f", width="small"
        ),
        "layer": number("Layer", width="small"),
        "scale": number("Scale", format="%.3g", width="small", help="× the typical norm"),
        "norm": number("Norm", format="%.4g", width="small"),
        "self_similarity": number("Self-similarity", format="%.3f"),
        "entropy": number("Entropy", format="%.2f"),
        "cross_entropy": number("Cross-entropy", format="%.2f"),
        "p": number(
            "Share as clear",
            format="%.2f",
            help="Share of random directions that speak as clearly; the verdict follows from it.",
        ),
        "agreement": number(
            "Agreement", format="%.2f", help="Word overlap of the texts at different scales."
        ),
    }
