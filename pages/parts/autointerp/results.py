"""What a run found: the table, the distribution beside its controls, and a comparison."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import resources
from core.view.markup import escape_markdown
from core.view.selection import Selection
from pages.parts import downloads, plots, tables, view_state
from pages.parts.autointerp import VIEW

if TYPE_CHECKING:
    import pandas as pd

    from core.autointerp.record import Record

_TABLE = "ai_table"
_USUAL = {"status": "scored", "error": "", "unreadable": 0}
_ENDS = {
    "failed": ("Failed", True),
    "no pattern": ("Found no pattern", False),
    "unscored": ("No score", False),
    "stopped": ("Stopped by the budget", False),
}
"""Ends of latents without a score: their title, and whether it is shown where there are none."""
_PERCENT = {
    "accuracy": ("Accuracy", "Share of the scoring examples that were told right."),
    "all_none": (
        "“None” scores",
        "The accuracy of answering “None” every time, without reading anything.",
    ),
    "balanced_accuracy": (
        "Balanced accuracy",
        "Mean of the shares told right among active and among inactive examples; knowing nothing "
        "scores 0.5.",
    ),
    "f1": ("F1", "Harmonic mean of precision and recall."),
    "precision": ("Precision", "Share of the examples predicted active that are."),
    "recall": ("Recall", "Share of the active examples that were predicted."),
}


def heading(record: "Record") -> None:
    """What was run, how it ended, and the figures of the whole."""
    from core.autointerp.tables import distribution_table

    st.subheader(escape_markdown(record["title"]), divider="gray")
    done = len(record["results"])
    statuses = [result["status"] for result in record["results"].values()]
    table = distribution_table(record)
    with st.container(horizontal=True, gap="large"):
        st.metric("Latents done", f"{done} of {len(record['latents'])}", width="content")
        for status, (label, always) in _ENDS.items():
            if always or status in statuses:
                n, why = statuses.count(status), "Why is said in the table."
                st.metric(label, n, width="content", help=why)
        if table["unreadable"].any():
            st.metric(
                "Unreadable answers",
                int(table["unreadable"].sum()),
                width="content",
                help="Answers that were not in the form that was asked for, cut, or none at all. "
                "Each was asked for once more; where that was no better, the latent has failed.",
            )
        for row in table.to_dict("records")[:1]:
            _figure("Mean accuracy", row["accuracy"], "Share of the examples told right.")
            _figure("“None” would score", row["all_none"], "The same without reading anything.")
            _figure(
                "Mean balanced accuracy",
                row["balanced_accuracy"],
                f"Of {row['scored']} scored latents. {_interval(row)} Knowing nothing scores 0.5.",
            )
        spent = record["spending"]
        if spent:
            cost = "price unknown" if spent["dollars"] is None else f"${spent['dollars']:.4f}"
            st.metric(
                "Questions paid",
                f"{spent['calls']:,}",
                cost,
                "off",
                delta_arrow="off",
                width="content",
            )
    if spent and spent["estimated"]:
        st.caption(
            f"For {spent['estimated']:,} answers the service reported no tokens: the cost is "
            "estimated by the length of the texts."
        )
    if spent and spent.get("asked_again"):
        st.caption(
            f"{spent['asked_again']:,} questions were on their way when an earlier run was killed, "
            "and were asked once more: the service may have charged for both."
        )
    for sentence in record["adapted"]:
        st.caption(escape_markdown(sentence))
    st.caption(escape_markdown(_origin(record)))
    for note in record["notes"]:
        st.caption(escape_markdown(note))


def table(record: "Record", selection: Selection) -> None:
    """A row for each latent; a click opens it."""
    from core.autointerp.tables import results_table

    found = results_table(record)
    if found.empty:
        st.caption("No latent is done yet.")
        return
    shown = found.copy()
    shown["interval"] = [
        ("" if f1 != f1 else "too few examples") if low != low else f"{low:.2f} to {high:.2f}"
        for f1, low, high in zip(shown["f1"], shown["f1_low"], shown["f1_high"], strict=True)
    ]
    first = ["latent", "explanation", "balanced_accuracy", "accuracy", "all_none", "f1"]
    first += ["interval", "n", "predicted", "active"]
    last = ("precision", "recall", "unreadable", "status", "error")
    names = first + [name for name in found if name not in (*first, *last, "f1_low", "f1_high")]
    names += ["precision", "recall"]
    names += [name for name in last[2:] if (shown[name] != _USUAL[name]).any()]

    def opened(line: int) -> None:
        latent = int(found["latent"].iloc[line])
        view_state.choose(Selection(selection.model, *selection.sae, latent=latent))

    tables.clickable(
        shown[names],
        opened,
        height=min(460, 38 + 35 * len(shown)),
        key=_TABLE,
        column_config=_columns(found),
    )
    st.caption("A click on a line opens the latent below; a click on a title sorts.")


def distribution(record: "Record", *, dark: bool) -> None:
    """Histograms of the latents and of the controls, and the means."""
    from core.autointerp.figure import score_figure
    from core.autointerp.tables import distribution_table, distributions

    figure = score_figure(distributions(record), dark=dark)
    plots.draw(figure, key="ai_histogram", theme=None, config={"displaylogo": False})
    if not record["controls"]:
        st.caption("Switch the controls on to see what the same run gives for other things.")
    st.dataframe(
        distribution_table(record),
        hide_index=True,
        column_config={
            "units": "What was explained",
            "number": "How many",
            "scored": "Scored",
            **{name: _number(name) for name in ("accuracy", "all_none", "balanced_accuracy")},
            "low": st.column_config.NumberColumn("95% from", format="%.2f"),
            "high": st.column_config.NumberColumn("to", format="%.2f"),
            "unreadable": st.column_config.NumberColumn("Unreadable answers", format="%d"),
        },
    )
    st.caption(
        "Units that never fired on the text, whose examples have nothing in common, or whose test "
        "set holds examples of one kind alone, cannot be scored and are left out of the means; "
        "their number tells as well."
    )
    if record["controls"]:
        _controls(record)


def _controls(record: "Record") -> None:
    """What was said of each unit of the controls, folded away."""
    from core.autointerp.tables import controls_table

    title = "What was said of the controls"
    with st.expander(title, icon=":material/casino:", key="ai_said_of_controls"):
        found = controls_table(record)
        st.dataframe(
            found if found["error"].any() else found.drop(columns="error"),
            hide_index=True,
            column_config={
                "kind": "Control",
                "unit": st.column_config.NumberColumn("Number", format="%d", width="small"),
                "explanation": st.column_config.TextColumn("Explanation", width="large"),
                "error": "What went wrong",
                **{name: _number(name) for name in ("balanced_accuracy", "accuracy", "all_none")},
            },
        )
        name = f"autointerp-{record['id'][:6]}-controls"
        downloads.table(
            lambda: controls_table(record), name, key="ai_controls_table", what="Controls"
        )


def comparison(record: "Record") -> None:
    """This run beside another one of the same SAE."""
    from core.autointerp.record import listed_runs, load_record
    from core.autointerp.tables import comparison_table, paired_difference

    store = resources.store()
    known = [run for run in listed_runs(store, record["fingerprint"]) if run["id"] != record["id"]]
    if not known:
        st.caption(
            "There is no other run on this SAE yet. Run the same latents with another explainer, "
            "judge or model, and compare them here."
        )
        return
    titles = {run["id"]: f"{run['title']} ({run['id'][:6]})" for run in known}
    current = VIEW.current().other
    if current and current not in titles:
        titles[current] = f"Run {current[:6]}"
    st.session_state["ai_other"] = current or None
    st.selectbox(
        "Compare with",
        list(titles),
        index=list(titles).index(current) if current else None,
        format_func=titles.__getitem__,
        key="ai_other",
        placeholder="Choose another run of this SAE",
        on_change=lambda: VIEW.change(other=st.session_state["ai_other"] or ""),
    )
    other = load_record(store, current) if current else None
    if other is None:
        if current:
            st.caption("That run is not kept here any more.")
        return
    both = comparison_table(record, other)
    mean, low, high, n = paired_difference(both)
    if n == 0:
        st.info("The two runs have scored no latent in common.")
    else:
        st.markdown(
            f"On the {n} latents that both scored, this run's balanced accuracy is "
            f"**{abs(mean):.3f} {'higher' if mean >= 0 else 'lower'}** on average ("
            + (f"95% interval {low:+.3f} to {high:+.3f})." if n > 1 else "one has no interval).")
        )
    st.dataframe(
        both,
        hide_index=True,
        column_config={
            "latent": "Latent",
            "explanation": st.column_config.TextColumn("This run", width="medium"),
            "other_explanation": st.column_config.TextColumn("The other", width="medium"),
            "balanced_accuracy": st.column_config.NumberColumn("This score", format="%.2f"),
            "other_balanced_accuracy": st.column_config.NumberColumn("Its score", format="%.2f"),
            "difference": st.column_config.NumberColumn("Difference", format="%+.2f"),
        },
    )


def _origin(record: "Record") -> str:
    controls = ", ".join(record["controls"])
    parts = [
        f"Examples from {record['tokens']:,} tokens of text: {record['corpus']}.",
        f"{record['n_silent']} drawn latents never fired on it and were passed over."
        if record["n_silent"]
        else "",
        f"Controls: {controls}." if controls else "",
        f"Asked: {record['service']}, model {record['chat_model']}." if record["service"] else "",
    ]
    return " ".join(part for part in parts if part)


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] != row["low"]:
        return "One latent has no interval." if row["scored"] else "There is no score."
    return f"95% interval {row['low']:.2f} to {row['high']:.2f}."


def _figure(label: str, value: float, note: str) -> None:
    st.metric(label, "–" if value != value else f"{value:.2f}", width="content", help=note)


def _number(name: str) -> Any:
    return st.column_config.NumberColumn(_PERCENT[name][0], format="%.2f", help=_PERCENT[name][1])


def _columns(found: "pd.DataFrame") -> dict[str, Any]:
    columns: dict[str, Any] = {
        "latent": st.column_config.NumberColumn("Latent", format="%d", pinned=True),
        "explanation": st.column_config.TextColumn("Explanation: activates on …", width=290),
        "status": "Status",
        "interval": st.column_config.TextColumn(
            "F1, 95%",
            width=110,
            help="What drawing the scoring examples again would give in 95% of cases.",
        ),
        "predicted": st.column_config.TextColumn("Predicted", help="Examples it says are active."),
        "active": st.column_config.TextColumn(
            "Truly active", help="Numbers of the examples in which the latent is active."
        ),
        "n": st.column_config.NumberColumn("n", format="%d", help="Scoring examples."),
        "unreadable": st.column_config.NumberColumn(
            "Unreadable",
            format="%d",
            help="Answers that could not be read; each was asked for once more.",
        ),
        "error": st.column_config.TextColumn("What went wrong", width=420),
    }
    columns |= {name: _number(name) for name in _PERCENT}
    for name in found:
        if name not in columns and name not in ("f1_low", "f1_high"):
            columns[name] = st.column_config.NumberColumn(str(name).capitalize(), format="%.2f")
    return columns
