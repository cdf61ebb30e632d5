"""A record as tables: one row a latent, two runs side by side, and files for others."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from core.autointerp.record import Record
from core.tokens import join_parts

STATUS = {
    "scored": "scored",
    "explained": "explained",
    "unscored": "no score",
    "no pattern": "found no pattern",
    "failed": "failed",
    "stopped": "stopped by the budget",
}
_SCORE_NAMES = {
    "fuzzing": "fuzzing",
    "neighbours": "neighbour precision",
    "generation": "generation",
    "simulation": "simulation",
    "output": "output metric",
}


def results_table(record: Record) -> pd.DataFrame:
    """A row for each latent that is done, in the order of the run.

    Columns: `latent`, `explanation`, `status`, `accuracy`, `all_none` (the accuracy of answering
    "None" to everything), `balanced_accuracy` (0.5 is chance), `f1`, `f1_low`, `f1_high` (95%
    bootstrap), `precision`, `recall`, `n` (scoring examples), `unreadable` (answers that could not
    be read), further scores by name, `predicted`, `active` (numbers of examples) and `error`.
    """
    rows = []
    scored = [name for name in _SCORE_NAMES if name in record["settings"]["scores"]]
    for latent in record["latents"]:
        result = record["results"].get(str(latent))
        if result is None:
            continue
        numbers = result.get("numbers") or {}
        row: dict[str, Any] = {
            "latent": latent,
            "explanation": result["explanation"] or "",
            "status": STATUS[result["status"]] + (", edited" if result.get("edited") else ""),
            "accuracy": numbers.get("accuracy"),
            "all_none": numbers.get("all_none"),
            "balanced_accuracy": numbers.get("balanced_accuracy"),
            "f1": numbers.get("f1"),
            "f1_low": numbers.get("f1_low"),
            "f1_high": numbers.get("f1_high"),
            "precision": numbers.get("precision"),
            "recall": numbers.get("recall"),
            "n": numbers.get("n", len(result.get("scoring") or ())),
            "unreadable": count_unreadable(result),
        }
        for name in scored:
            row[_SCORE_NAMES[name]] = (result.get("scores") or {}).get(name, {}).get("score")
        row["predicted"] = _listed(result.get("predictions"))
        row["active"] = _listed(result.get("correct seqs"))
        row["error"] = result["error"]
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["latent", "explanation"])
    numeric = [name for name in table if name not in _TEXTS]
    return table.astype(dict.fromkeys(numeric, "float64"))


def count_unreadable(result: Mapping[str, Any]) -> int:
    """Answers of one latent that could not be read, those of further scores included."""
    further = (result.get("scores") or {}).values()
    return sum(int(part.get("unreadable") or 0) for part in (result, *further))


_TEXTS = ("latent", "explanation", "status", "predicted", "active", "error")


def readable_marks(example: Mapping[str, Any]) -> str:
    """The text of an example with its active tokens between ⟦ and ⟧, for readers.

    Chat models see << and >>, which people cannot tell from the >>> of Python's prompt.
    """
    active = [act if act > example["threshold"] else 0.0 for act in example["acts"]]
    pieces = join_parts(example["tokens"], active)
    runs = groupby(
        zip(pieces.texts, pieces.activations, strict=True), key=lambda piece: piece[1] > 0
    )
    texts = (("".join(text for text, _ in run), mark) for mark, run in runs)
    return "".join(f"⟦{text}⟧" if mark else text for text, mark in texts).replace("\n", "↵")


def examples_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """The scoring examples of one latent: `number`, `text`, `active`, `predicted`, `right`,
    `strongest` (activation) and `source`."""
    predicted = result.get("predictions")
    rows = []
    for number, example in enumerate(result["scoring"], start=1):
        guess = None if predicted is None else number in predicted
        rows.append(
            {
                "number": number,
                "text": readable_marks(example),
                "active": example["active"],
                "predicted": guess,
                "right": None if guess is None else guess == example["active"],
                "strongest": max(example["acts"], default=0.0),
                "source": example["source"],
            }
        )
    return pd.DataFrame(rows)


def distributions(record: Record, figure: str = "balanced_accuracy") -> dict[str, list[float]]:
    """One figure of every scored unit: of the latents, and of each control.

    Units without a score are left out of all figures alike, also where one could be worked out.
    """
    found = {"latents": [one.get("numbers") or {} for one in record["results"].values()]}
    for kind, units in record["controls"].items():
        found[kind] = [unit["numbers"] or {} for unit in units]
    return {
        name: [
            float(unit[figure])
            for unit in numbers
            if unit.get(figure) is not None and unit.get("balanced_accuracy") is not None
        ]
        for name, numbers in found.items()
    }


def distribution_table(record: Record) -> pd.DataFrame:
    """`units`, `number` (how many), `scored`, means of accuracy, all-"None" and balanced accuracy
    over these, with a 95% interval (normal approximation; NaN for one) of the last, and
    `unreadable`: answers that could not be read."""
    rows = []
    totals = {"latents": len(record["results"])}
    bad = {"latents": sum(map(count_unreadable, record["results"].values()))}
    bad |= {kind: sum(map(count_unreadable, units)) for kind, units in record["controls"].items()}
    totals |= {kind: len(units) for kind, units in record["controls"].items()}
    by_figure = {
        name: distributions(record, name) for name in ("accuracy", "all_none", "balanced_accuracy")
    }
    for kind, total in totals.items():
        balanced = np.array(by_figure["balanced_accuracy"][kind])
        n = len(balanced)
        half = 1.96 * balanced.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
        mean = float(balanced.mean()) if n else math.nan
        rows.append(
            {
                "units": "the SAE's latents" if kind == "latents" else kind,
                "number": total,
                "scored": n,
                "accuracy": _mean(by_figure["accuracy"][kind]),
                "all_none": _mean(by_figure["all_none"][kind]),
                "balanced_accuracy": mean,
                "low": mean - half,
                "high": mean + half,
                "unreadable": bad[kind],
            }
        )
    return pd.DataFrame(rows)


def controls_table(record: Record) -> pd.DataFrame:
    """A row for each unit of each control: `kind`, `unit`, `explanation`, `balanced_accuracy`,
    `accuracy`, `all_none` and `error`."""
    rows = [
        {
            "kind": kind,
            "unit": unit["unit"],
            "explanation": unit["explanation"] or "",
            **{name: (unit["numbers"] or {}).get(name) for name in _CONTROL_FIGURES},
            "error": unit["error"],
        }
        for kind, units in record["controls"].items()
        for unit in units
    ]
    columns = ["kind", "unit", "explanation", *_CONTROL_FIGURES, "error"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(_CONTROL_FIGURES, "float64"))


_CONTROL_FIGURES = ("balanced_accuracy", "accuracy", "all_none")


def comparison_table(first: Record, second: Record) -> pd.DataFrame:
    """Latents that both runs scored, side by side: `latent`, `explanation`, `balanced_accuracy`,
    `other_explanation`, `other_balanced_accuracy`, `difference` (this run less the other)."""
    a, b = results_table(first), results_table(second)
    names = ["latent", "explanation", "balanced_accuracy"]
    both = a[names].merge(b[names], on="latent", suffixes=("", "_other"))
    both = both.rename(
        columns={
            "explanation_other": "other_explanation",
            "balanced_accuracy_other": "other_balanced_accuracy",
        }
    )
    both["difference"] = both["balanced_accuracy"] - both["other_balanced_accuracy"]
    return both


def paired_difference(both: pd.DataFrame, *, seed: int = 0) -> tuple[float, float, float, int]:
    """(mean difference, low, high, latents): the 95% interval is that of drawing latents again;
    NaN for one latent, which tells nothing of others."""
    values = both["difference"].dropna().to_numpy()
    if len(values) == 0:
        return math.nan, math.nan, math.nan, 0
    if len(values) == 1:
        return float(values[0]), math.nan, math.nan, 1
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (2000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high), len(values)


def jsonl_bytes(record: Record) -> bytes:
    """Everything of each latent, one JSON object a line."""
    shared = {name: record[name] for name in ("model", "release", "sae", "chat_model", "settings")}
    lines = [
        json.dumps({"latent": latent, **shared, **record["results"][str(latent)]})
        for latent in record["latents"]
        if str(latent) in record["results"]
    ]
    return "\n".join([*lines, ""]).encode("utf-8", "replace")


def neuronpedia_bytes(record: Record, source: str | None) -> bytes:
    """Explanations in the fields of Neuronpedia's exports, one JSON object a line.

    `source` is the SAE's id there ("gpt2-small/7-res-jb"); None takes the names used here.
    """
    model, _, layer = (source or "").partition("/")
    lines = []
    for row in results_table(record).to_dict("records"):
        if not row["explanation"]:
            continue
        score = row["balanced_accuracy"]
        entry = {
            "modelId": model or record["model"],
            "layer": layer or f"{record['release']}/{record['sae']}",
            "index": str(row["latent"]),
            "description": row["explanation"],
            "typeName": _type_name(record),
            "explanationModelName": record["chat_model"] or "",
            "scores": []
            if score is None or math.isnan(score)
            else [{"explanationScoreTypeName": "detection_balanced_accuracy", "value": score}],
        }
        lines.append(json.dumps(entry))
    return "\n".join([*lines, ""]).encode("utf-8", "replace")


def descriptions_of_run(record: Record, d_sae: int) -> tuple[list[str], list[float]]:
    """(text, balanced accuracy) of every latent of the SAE; "" and NaN where the run has none."""
    texts, scores = [""] * d_sae, [math.nan] * d_sae
    for row in results_table(record).to_dict("records"):
        texts[row["latent"]] = " ".join(str(row["explanation"]).split())
        scores[row["latent"]] = row["balanced_accuracy"]
    return texts, scores


def _type_name(record: Record) -> str:
    names = {"words": "offline-words", "chat": "arena_detection", "scope": "patch-scoping"}
    return names[record["settings"]["explainer"]]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _listed(numbers: Sequence[int] | None) -> str:
    if numbers is None:
        return ""
    return ", ".join(map(str, sorted(numbers))) or "None"
