"""Which of a sweep's texts to believe: one text for each latent."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from core.patch_scoping.reading import unigram_f1

By = Literal["combined", "surest", "likeliest", "agreed"]
"""Ways to choose: see `choose`."""
CHOICES: tuple[By, ...] = get_args(By)
_GROUPS = ("latent", "prompt", "layer")


def choose(
    table: pd.DataFrame, by: By = "combined", *, per: Sequence[str] = _GROUPS
) -> pd.DataFrame:
    """One row of a sweep's table for each group of the columns `per`.

    - "combined": the scale ranked first by self-similarity and cross-entropy (its first sample).
      Needs no text, and is the metric of the authors of self-explanation.
    - "surest": the text with the highest mean log-probability of its tokens.
    - "likeliest": the text with the highest log-probability as a whole, which is the model's own
      best answer over all scales (longer texts have more to be unsure of).
    - "agreed": the text that the others agree with most: highest mean word overlap (unigram F1)
      with the texts at all scales, each weighted by how sure the model is of it.

    Raises:
        ValueError: an unknown way.
    """
    if by not in CHOICES:
        raise ValueError(f"Unknown choice {by!r}; use {', '.join(map(repr, CHOICES))}.")
    chosen = []
    for _, group in table.groupby(list(per), sort=False):
        if by == "combined":
            first = group[group["sample"] == 0]
            chosen.append(first["score"].idxmax())
        elif by == "surest":
            chosen.append(group["mean_log_prob"].idxmax())
        elif by == "likeliest":
            chosen.append((group["mean_log_prob"] * group["n_tokens"]).idxmax())
        else:
            support = agreement(group["answer"].tolist(), group["mean_log_prob"].to_numpy())
            chosen.append(group.index[int(np.argmax(support))])
    return table.loc[chosen].reset_index(drop=True)


def agreement(
    texts: Sequence[str], mean_log_probs: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Weighted mean overlap of each text with all texts, itself among them.

    The weight of a text is exp(mean log-probability): about the chance of a token of it.
    """
    weights = np.exp(mean_log_probs)
    different = list(dict.fromkeys(texts))
    overlap = np.array([[unigram_f1(a, b) if a else 0.0 for b in different] for a in different])
    place = [different.index(text) for text in texts]
    mass = np.bincount(place, weights=weights, minlength=len(different))
    support = overlap @ mass / mass.sum()
    # Among equal texts the one that the model is surest of stands for them.
    return support[place] + 1e-9 * weights
