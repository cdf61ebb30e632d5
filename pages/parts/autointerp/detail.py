"""One latent of a run, opened: examples, predictions, every prompt and answer, an explanation of
one's own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.view.markup import escape_markdown, shaded_tokens
from core.view.selection import Selection
from pages.parts import action, errors, look, typed, view_state
from pages.parts.autointerp import jobs
from pages.parts.latent import elsewhere
from pages.parts.page_state import options_of

if TYPE_CHECKING:
    from core.autointerp.record import Record
    from core.autointerp.service import Service

_SCORES = {
    "fuzzing": "Which marks are right? (fuzzing)",
    "neighbours": "Told from similar latents",
    "generation": "New texts written from the explanation",
    "simulation": "Activations simulated token by token",
    "output": "Its steered texts told from those of two other latents (output metric)",
}
_PARTS = {
    "scoring": "Predictions",
    "shown": "What the explainer saw",
    "scores": "Further scores",
    "prompts": "Prompts and answers",
    "edit": "Edit and score again",
}


def draw(record: "Record", selection: Selection, service: "Service | None") -> None:
    """The latent of the selection, where the run has it."""
    from core.autointerp.tables import count_unreadable

    done = [latent for latent in record["latents"] if str(latent) in record["results"]]
    if not done:
        return
    latent = selection.latent if selection.latent in done else done[0]
    result = record["results"][str(latent)]
    with st.container(border=True):
        _choice(done, latent, selection)
        explanation = result["explanation"]
        if explanation:
            edited = bool(result.get("edited"))
            says = record.get("speaker") and not edited
            start = f"{record['speaker']} says:" if says else "Activates on"
            st.markdown(f"#### {escape_markdown(start)} {escape_markdown(explanation)}")
        if result["error"]:
            st.warning(escape_markdown(result["error"]), icon=":material/warning:")
        again = count_unreadable(result)
        if again:
            st.caption(
                f"Answers that could not be read: {again}. They are below, under “Prompts and "
                "answers”."
            )
        part = st.segmented_control(
            "Part",
            list(_PARTS),
            required=True,
            format_func=_PARTS.__getitem__,
            default="scoring",
            key="ai_part",
            label_visibility="collapsed",
        )
        if part == "shown":
            _shown(result)
        elif part == "scores":
            _scores(result)
        elif part == "prompts":
            _prompts(result)
        elif part == "edit":
            _edit(record, latent, result, service)
        else:
            _predictions(result)
        own = Selection(selection.model, *selection.sae, latent=latent)
        with st.container(horizontal=True, gap="medium"):
            elsewhere.draw(own, here="autointerp")


def _choice(done: Sequence[int], latent: int, selection: Selection) -> None:
    st.session_state["ai_latent"] = latent
    st.selectbox(
        "Latent",
        **options_of(done, latent),
        key="ai_latent",
        width=200,
        on_change=lambda: view_state.choose(
            Selection(selection.model, *selection.sae, latent=st.session_state["ai_latent"])
        ),
    )


def _predictions(result: Mapping[str, Any]) -> None:
    from core.autointerp.tables import examples_table

    if not result["scoring"]:
        st.caption("There was nothing to score with.")
        return
    found = examples_table(result)
    st.dataframe(
        found,
        hide_index=True,
        height=min(600, 38 + 35 * len(found)),
        column_config={
            "number": st.column_config.NumberColumn("No.", format="%d", width="small"),
            "text": st.column_config.TextColumn(
                "Text, with ⟦ ⟧ around active tokens",
                width="large",
                help="The judge saw the texts without the marks.",
            ),
            "active": st.column_config.CheckboxColumn("Active"),
            "predicted": st.column_config.CheckboxColumn("Predicted"),
            "right": st.column_config.CheckboxColumn("Told right"),
            "strongest": st.column_config.NumberColumn("Strongest activation", format="%.2f"),
            "source": "Drawn from",
        },
    )


def _shown(result: Mapping[str, Any]) -> None:
    if not result["shown"]:
        st.caption("The latent never fired on this text.")
        return
    st.caption(
        "The examples to explain. Active tokens are shaded, the strongest of each text darkest; "
        "the explainer sees double angle brackets around them, which are not part of the texts."
    )
    lines = [_shaded(example) for example in result["shown"]]
    st.markdown("\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1)))
    if result["negatives"]:
        st.caption("Texts that were shown as counter-examples:")
        texts = [_shaded(example) for example in result["negatives"]]
        st.markdown("\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1)))


def _shaded(example: Mapping[str, Any]) -> str:
    tokens = [token.replace("\n", "↵") for token in example["tokens"]]
    active = [act if act > example["threshold"] else 0.0 for act in example["acts"]]
    return shaded_tokens(tokens, active, dark=look.is_dark())


def _scores(result: Mapping[str, Any]) -> None:
    scores = result.get("scores") or {}
    if not scores:
        st.caption("This run scored by detection alone; more scores can be chosen above.")
    for name, found in scores.items():
        st.markdown(f"**{_SCORES[name]}**")
        if found.get("score") is None:
            st.caption(escape_markdown(found["error"]))
        else:
            st.markdown(f"Score {found['score']:.2f}; knowing nothing scores {found['chance']:g}.")
        if found.get("rows"):
            _rows(found["rows"])
    revision = result.get("revision")
    if revision:
        _revision(result, revision)


def _rows(rows: Sequence[Mapping[str, Any]]) -> None:
    import pandas as pd

    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "text": st.column_config.TextColumn("Text", width="large"),
            "source": "Drawn from",
            "truth": "Truth",
            "predicted": "Predicted",
        },
    )


def _revision(result: Mapping[str, Any], revision: Mapping[str, Any]) -> None:
    st.markdown("**Revised after the new texts**")
    if revision["status"] == "unchanged":
        st.caption("Every new text was told right, so there was nothing to revise.")
        return
    if revision["error"]:
        st.caption(escape_markdown(revision["error"]))
    if revision["status"] != "revised":
        return
    st.markdown(f"Now: activates on {escape_markdown(revision['explanation'])}")
    before = (result["numbers"] or {}).get("balanced_accuracy")
    after = (revision["numbers"] or {}).get("balanced_accuracy")
    old, new = result["scores"]["generation"]["score"], revision["generation"]["score"]
    with st.container(horizontal=True, gap="large"):
        for label, one, two in (
            ("Balanced accuracy", before, after),
            ("New texts", old, new),
        ):
            st.metric(
                label,
                "–" if two is None else f"{two:.2f}",
                None if one is None or two is None else f"{two - one:+.2f}",
                width="content",
            )


def _prompts(result: Mapping[str, Any]) -> None:
    stages = [
        ("Explanation", result.get("explanation messages"), result.get("explanation raw")),
        ("Prediction", result.get("prediction messages"), result.get("prediction raw")),
    ]
    for name, found in (result.get("scores") or {}).items():
        stages.append((_SCORES[name], found.get("messages"), found.get("raw")))
    revision = result.get("revision") or {}
    stages.append(("Revision", revision.get("messages"), revision.get("raw")))
    asked = False
    for title, messages, raw in stages:
        if not messages and not raw:
            continue
        asked = True
        st.markdown(f"**{title}**")
        for message in messages or ():
            st.caption({"system": "Instruction", "user": "Question"}.get(message["role"], "Answer"))
            st.code(message["content"], language=None, wrap_lines=True)
        answers = raw or ()
        for number, answer in enumerate(answers, start=1):
            st.caption("Answer" if len(answers) == 1 else f"Answer {number}")
            st.code(answer or "(empty)", language=None, wrap_lines=True)
    if not asked:
        st.caption("Nothing was asked: this latent was explained and judged offline.")


def _edit(
    record: "Record",
    latent: int,
    result: Mapping[str, Any],
    service: "Service | None",
) -> None:
    key = f"ai_edit_{record['id']}_{latent}"
    st.session_state.setdefault(key, result["explanation"] or "")
    typed.area(
        "Your explanation: the latent activates on …",
        key=key,
        most=600,
        help="The offline judge looks for the words in quotation marks, or else for all telling "
        "words of the text.",
    )
    asks = "chat" in (record["settings"]["explainer"], record["settings"]["judge"])
    if asks and service is None:
        st.info("This run was judged by a chat model: choose one above to score again.")
        return
    if action.clicked("Score it", type="primary", key="ai_rescore"):
        with errors.shown_plainly():
            _rescore(record, latent, key, service if asks else None)
            st.rerun()
    st.caption("The run is kept as it is; yours is a run of its own that can be compared with it.")


def _rescore(record: "Record", latent: int, key: str, service: "Service | None") -> None:
    from core.autointerp.request import request_of_record

    text = " ".join(st.session_state[key].split())
    entry = resources.catalog().entry(record["release"], record["sae"])
    if not text:
        raise ValueError("There is no explanation to score; type one.")
    request = request_of_record(
        record, version=entry.version, corpus=jobs.corpus(record["settings"].get("corpus", "docs"))
    )
    edits = {int(name): said for name, said in record["edits"].items()} | {latent: text}
    jobs.start(request, service, parent=record, edits=edits)
