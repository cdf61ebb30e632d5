"""A chat model's judgement of the texts: asked at a click, after an estimate, within a budget."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.steering.view import SteerView
from core.view.markup import escape_markdown, n_of
from pages.parts import action, downloads, job_results, tasks, typed
from pages.parts.autointerp import VIEW as SERVICE
from pages.parts.autointerp import service
from pages.parts.steering import VIEW, texts

if TYPE_CHECKING:
    import pandas as pd

    from core.autointerp.service import Service
    from core.autointerp.text_judge import Judged
    from core.steering.request import SteerRequest
    from core.steering.result import SteerResult


def draw(request: "SteerRequest", result: "SteerResult", view: SteerView) -> None:
    """The section; nothing is asked before a click."""
    st.toggle("Have a chat model judge the texts", **VIEW.widget("steer_judge", "judge"))
    if not view.judge:
        return
    numbers = result.rows.loc[result.rows["kind"] == "latent", "row"].tolist()
    shown = texts.shown_row(request, numbers, view)
    group = result.rows.loc[result.rows["row"] == shown].iloc[0]
    st.caption(
        escape_markdown(
            f"As in AxBench: does a text of latent {group['latents']} hold the concept, does it go "
            "on from the prompt, is it fluent? 0 to 2 each; the score is their harmonic mean, 0 "
            "where one of them is. Unsteered texts and those of random directions are judged "
            "alike, without the judge being told which is which."
        )
    )
    typed.line(
        "Concept",
        placeholder="in a few words, what the texts should be about",
        most=300,
        **VIEW.widget("steer_concept", "concept", read=str.strip),
    )
    who = service.draw(SERVICE.current().chat_model)
    if not view.concept or who is None:
        return
    rows = result.rows
    wanted = rows.loc[(rows["kind"] == "unsteered") | (rows["group"] == group["group"]), "row"]
    some = result.texts[result.texts["row"].isin(wanted)]
    judged = _judged(request, view, some, who)
    if judged is not None:
        _table(result, judged)


def _judged(
    request: "SteerRequest", view: SteerView, some: "pd.DataFrame", who: "Service"
) -> "Judged | None":
    from core.autointerp.text_judge import estimate, judge_texts

    about = [request.key, some["row"].tolist(), view.concept, who.endpoint.url, who.endpoint.model]
    key = "steering-judge:" + hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]
    store = resources.store()

    def ask(progress: Any) -> "Judged":
        return judge_texts(
            who.session(store),
            some,
            concept=view.concept,
            prompt=request.prompt,
            progress=progress,
        )

    known = resources.recent().get(key) is not None or tasks.found(key) is not None
    if not known:
        found = estimate(
            some["text"].tolist(), who.price, concept=view.concept, prompt=request.prompt
        )
        cost = "" if found.dollars is None else f", ${found.dollars:.4f} at most"
        if not action.clicked(
            f"Ask the judge: {n_of(found.calls, 'question')}{cost}",
            type="primary",
            icon=":material/gavel:",
            key="steer_judge_ask",
        ):
            st.caption(
                f"About {found.prompt_tokens:,} tokens are sent. Answers that this server has "
                "paid for are read again at no cost."
            )
            return None
    return job_results.recent_result(key, "Asking the judge of steered texts", ask, room=300)


def _table(result: "SteerResult", judged: "Judged") -> None:
    import pandas as pd

    for problem in judged.problems:
        st.warning(escape_markdown(problem), icon=":material/warning:")
    named = result.rows[["row", "kind", "latents", "strength", "kl"]]
    table = named.merge(judged.rows, on="row")
    interval = [
        "" if low != low else f"{low:.2f} to {high:.2f}"
        for low, high in zip(table["score_low"], table["score_high"], strict=True)
    ]
    shown = pd.DataFrame(
        {
            "what": table["kind"],
            "strength": table["strength"],
            "KL": table["kl"],
            "concept": table["concept"],
            "instruction": table["instruction"],
            "fluency": table["fluency"],
            "score": table["score"],
            "95 %": interval,
            "texts": table["n"],
        }
    )
    number = st.column_config.NumberColumn
    formats = dict.fromkeys(("KL", "concept", "instruction", "fluency", "score"), "%.2f")
    st.dataframe(
        shown,
        hide_index=True,
        key="steer_judged",
        column_config={name: number(format=form) for name, form in formats.items()},
    )
    spent = judged.spending
    cost = "" if spent["dollars"] is None else f", ${spent['dollars']:.4f}"
    st.caption(
        f"{judged.asked:,} questions, {spent['stored']:,} of them answered before{cost}. Intervals "
        "are over the texts of a row: ask for several texts of each row to have some."
    )

    def everything() -> "pd.DataFrame":
        return result.texts.merge(judged.texts, on=["row", "sample"]).merge(named, on="row")

    downloads.table(everything, "steering-judged", key="steer_judged_file", what="Judged texts")
