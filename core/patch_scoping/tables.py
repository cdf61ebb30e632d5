"""A sweep's texts for readers: the best one, tables, and what is common to two."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from core.patch_scoping.choice import By, choose
from core.patch_scoping.null_distribution import NullComparison
from core.view.markup import escape_markdown

MARKS = ("①", "②", "③")
_ENDINGS = {"stop": "", "eos": "", "length": "cut off"}
_HUGE = 8.0


@dataclass(frozen=True)
class BestText:
    """The text that stands for a latent."""

    text: str
    """What the model says; may be empty."""
    layer: int
    """Where the latent was put in."""
    scale: float
    """Norm of what was put in."""
    multiple: float
    """The same in multiples of the typical norm."""
    log_prob: float
    """Mean log-probability of its tokens, in nats."""


def best_text(table: pd.DataFrame, by: By) -> BestText:
    """The best text of one latent over all layers and scales."""
    row = choose(table, by, per=("latent",)).iloc[0]
    return BestText(
        text=str(row["answer"]),
        layer=int(row["layer"]),
        scale=float(row["scale"]),
        multiple=float(row["multiple"]),
        log_prob=float(row["mean_log_prob"]),
    )


def batch_table(
    table: pd.DataFrame, against_null: Mapping[int, NullComparison], by: By
) -> pd.DataFrame:
    """A row a latent: its best text over all layers and scales, and whether it stands out.

    `table` is a sweep's, `against_null` compares its latents with random directions.

    `p` is the share of random directions that speak as clearly, `agreement` that of the latent's
    texts with one another; the other measures are those of the best text.
    """
    best = choose(table, by, per=("latent",))
    compared = [against_null[int(latent)] for latent in best["latent"]]
    return pd.DataFrame(
        {
            "latent": best["latent"].astype(int),
            "text": best["answer"],
            "verdict": [one.verdict for one in compared],
            "probability": best["mean_log_prob"].map(math.exp).round(4),
            "layer": best["layer"].astype(int),
            "scale": best["multiple"].round(4),
            "norm": best["scale"].round(4),
            "self_similarity": best["self_similarity"].round(5),
            "entropy": best["entropy"].round(4),
            "cross_entropy": best["cross_entropy"].round(4),
            "p": [round(one.p, 4) for one in compared],
            "agreement": [round(one.agreement, 4) for one in compared],
        }
    )


def text_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table of one latent for readers; layer and sample only where there are several."""
    ranks = table["rank"].astype(int)
    columns: dict[str, object] = {
        "best": [MARKS[rank - 1] if 1 <= rank <= len(MARKS) else "" for rank in ranks],
        "scale": table["multiple"].round(3),
        "text": table["answer"],
    }
    if table["layer"].nunique() > 1:
        columns = {"layer": table["layer"]} | columns
    if table["sample"].nunique() > 1:
        columns["sample"] = table["sample"] + 1
    columns |= {
        "probability": table["mean_log_prob"].map(math.exp),
        "self-similarity": table["self_similarity"],
        "entropy": table["entropy"],
        "cross-entropy": table["cross_entropy"],
        "score": table["score"],
        "norm": table["scale"],
        "end": table["ended_by"].map(_ENDINGS),
    }
    return pd.DataFrame(columns)


def remarks(table: pd.DataFrame) -> list[str]:
    """What a reader should know about unusual scales and cut texts, in sentences."""
    found = []
    if (table["scale"] == 0).any():
        found.append(
            "At scale 0 the word is wiped out rather than replaced: that text is what the model "
            "says about nothing."
        )
    if (table["multiple"].abs() > _HUGE).any():
        found.append(
            f"Beyond some {_HUGE:.0f} times the typical norm the vector drowns what else stands in "
            "its place, and texts no longer change with the scale."
        )
    if (table["multiple"] < 0).any():
        found.append("At negative scales the opposite of the latent is put in.")
    n_cut = int((table["ended_by"] == "length").sum())
    if n_cut:
        found.append(
            f"{n_cut} of {len(table)} texts were cut off at the longest length; it is set under "
            "Sampling."
        )
    if (table["answer"] == "").any():
        found.append("Where the text is empty, the model ended its answer at once.")
    return found


def side_by_side(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """First samples of several tables of the same scales and layers: a column of texts each."""
    columns: dict[str, pd.Series] = {}
    for name, table in tables.items():
        first = table[table["sample"] == 0]
        index = pd.MultiIndex.from_arrays(
            [first["layer"], first["multiple"].round(3)], names=["layer", "scale"]
        )
        columns[name] = pd.Series(first["answer"].to_numpy(), index=index)
    joined = pd.DataFrame(columns).reset_index()
    return joined if joined["layer"].nunique() > 1 else joined.drop(columns="layer")


def diff_markdown(a: str, b: str) -> tuple[str, str]:
    """Both texts as Markdown, in which words that only one of them has are coloured."""
    first, second = a.split(), b.split()
    matcher = difflib.SequenceMatcher(
        None, [word.lower() for word in first], [word.lower() for word in second], autojunk=False
    )
    left, right = [], []
    for tag, i, j, k, m in matcher.get_opcodes():
        same = tag == "equal"
        left += [_piece(first[i:j], None if same else "orange")]
        right += [_piece(second[k:m], None if same else "blue")]
    return " ".join(filter(None, left)), " ".join(filter(None, right))


def _piece(words: list[str], colour: str | None) -> str:
    if not words:
        return ""
    text = escape_markdown(" ".join(words))
    return text if colour is None else f":{colour}[{text}]"
