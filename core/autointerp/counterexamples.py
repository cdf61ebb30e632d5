"""The negatives that an explainer lacks: the peaks' own tokens in contexts that leave it silent.

Strong examples show "stop" only inside "don't stop", and random ones hardly ever hold it; whether
"stop" alone is enough can only be told from texts with "stop" in which the latent does not fire.
"""

from collections import Counter
from collections.abc import Collection

import numpy as np
from sae_lens import SAE

from core.activations import row_activations
from core.autointerp.config import AutoInterpConfig
from core.autointerp.example import Example
from core.autointerp.split import to_examples
from core.autointerp.windows import LatentWindows, Windows
from core.corpus.token_set import TokenSet
from core.models.hooks import Model

_PEAK_TOKENS = 5
_ROWS_FOR_EACH = 3


def same_token_inactive(
    model: Model,
    sae: SAE,
    token_set: TokenSet,
    latent: int,
    gathered: LatentWindows,
    cfg: AutoInterpConfig,
    *,
    n: int = 5,
    avoid_rows: Collection[int] = (),
) -> list[Example]:
    """Up to `n` windows around the tokens of the latent's peaks in which it is nowhere active.

    Args:
        model: either model class.
        sae: the latent's.
        token_set: what `gathered` was gathered from; rows of its windows are not used, so nothing
            shown here is scored with.
        latent: which.
        gathered: its windows, which tell its peaks' tokens.
        cfg: as they were gathered with.
        avoid_rows: further rows that are used elsewhere.
        n: at most so many; fewer where the token seldom stands without the latent firing.
    """
    peaks = gathered.top.tokens[: cfg.n_top_ex, cfg.buffer].tolist()
    tokens = [token for token, _ in Counter(peaks).most_common(_PEAK_TOKENS)]
    used = np.unique(np.concatenate([gathered.top.rows, gathered.random.rows]))
    here = np.isin(token_set.tokens, tokens) & token_set.mask
    here[used] = False
    here[np.array(list(avoid_rows), dtype=np.int64)] = False
    here[:, : cfg.buffer] = here[:, token_set.context - cfg.buffer :] = False
    rows, positions = np.nonzero(here)
    rng = np.random.default_rng([cfg.seed, latent])
    order = rng.permutation(len(rows))
    _, first = np.unique(rows[order], return_index=True)
    chosen = order[np.sort(first)[: _ROWS_FOR_EACH * n]]  # one place a row, at random
    rows, positions = rows[chosen], positions[chosen]
    if len(rows) == 0:
        return []
    acts = row_activations(model, sae, token_set, rows, latent)
    columns = positions[:, None] + np.arange(-cfg.buffer, cfg.buffer + 1)
    windows = Windows(
        token_set.windows(rows * token_set.context + positions, cfg.buffer, cfg.buffer),
        np.take_along_axis(acts, columns, axis=1),
        rows,
        positions,
    )
    threshold = cfg.act_threshold_frac * float(gathered.top.acts.max(initial=0))
    silent = np.flatnonzero(windows.acts.max(axis=1) <= threshold)[:n]
    return to_examples(windows.take(silent), threshold, model, source="same token")
