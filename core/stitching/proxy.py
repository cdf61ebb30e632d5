"""Does the nearest direction of the narrow SAE tell which latents of the wide one are novel?

Papers take a latent as novel where the highest cosine of its decoder row with a row of the narrow
SAE is below 0.7. Whether that holds for a pair at hand is seen from the error itself (`delta`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from core.fit_check.sums import Figure

THRESHOLD = 0.7
"""The cosine below which papers call a latent novel."""
_BYTES = 64 << 20
_DRAWS = 300


@dataclass(frozen=True, eq=False)
class ProxyCheck:
    """The cosine as a test for novel latents."""

    n_novel: int
    """Latents that lower the error."""
    n_repeated: int
    """Latents that raise it."""
    auc: Figure
    """Area under the curve; 0.5 is chance. NaN where one of the two kinds is missing."""
    auc_null: float
    """95 % of areas with labels dealt at random lie below this."""
    threshold: float
    """The cosine that is looked at."""
    hits: Figure
    """Share of the novel latents below it."""
    false_alarms: Figure
    """Share of the repeated ones below it."""
    curve: Float[np.ndarray, "points 3"]
    """Cosine, share of the novel and of the repeated ones below it; cosines ascend."""


@torch.no_grad()
def nearest_rows(
    rows: Float[Tensor, "d_wide d_out"], others: Float[Tensor, "d_narrow d_out"]
) -> tuple[Float[np.ndarray, " d_wide"], np.ndarray]:
    """Highest cosine of each row with one of `others`, and which; NaN and -1 for rows of zeros."""
    unit = others.float() / others.float().norm(dim=1, keepdim=True).clamp_min(1e-12)
    best, match = [], []
    for some in rows.split(max(1, _BYTES // (4 * len(others)))):
        length = some.float().norm(dim=1, keepdim=True)
        value, index = (some.float() / length.clamp_min(1e-12) @ unit.T).max(1)
        silent = length[:, 0] == 0
        best.append(value.masked_fill(silent, torch.nan))
        match.append(index.masked_fill(silent, -1))
    return torch.cat(best).cpu().numpy(), torch.cat(match).cpu().numpy()


def check_proxy(
    cosine: Float[np.ndarray, " n"],
    is_novel: np.ndarray,
    *,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> ProxyCheck:
    """The test "cosine below the threshold" against what really lowers the error.

    Intervals come from drawing latents with replacement. Raises ValueError for lists of different
    lengths or a threshold that is no cosine.
    """
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; a cosine lies from -1 to 1.")
    if len(cosine) != len(is_novel):
        raise ValueError(f"There are {len(cosine)} cosines and {len(is_novel)} labels.")
    kept = np.isfinite(cosine)
    cosine, novel = cosine[kept], np.asarray(is_novel, bool)[kept]
    generator = np.random.default_rng(seed)
    n = len(cosine)
    samples, shuffled, hits, alarms = [], [], [], []
    for _ in range(_DRAWS if n else 0):
        some = generator.integers(0, n, n)
        samples.append(_auc(cosine[some], novel[some]))
        shuffled.append(_auc(cosine, generator.permutation(novel)))
        hits.append(_below(cosine[some], novel[some], threshold))
        alarms.append(_below(cosine[some], ~novel[some], threshold))
    cuts = np.unique(np.quantile(cosine, np.linspace(0, 1, 101))) if n else np.zeros(0)
    cuts = np.unique([*cuts, threshold, 1.0 + 1e-6, -1.0])
    curve = [(cut, _below(cosine, novel, cut), _below(cosine, ~novel, cut)) for cut in cuts]
    return ProxyCheck(
        n_novel=int(novel.sum()),
        n_repeated=int((~novel).sum()),
        auc=_figure(_auc(cosine, novel), samples),
        auc_null=_quantile(shuffled, 0.95),
        threshold=threshold,
        hits=_figure(_below(cosine, novel, threshold), hits),
        false_alarms=_figure(_below(cosine, ~novel, threshold), alarms),
        curve=np.array(curve),
    )


def _auc(cosine: np.ndarray, novel: np.ndarray) -> float:
    """How often a novel latent's cosine is below a repeated one's; ties count half."""
    n, m = int(novel.sum()), int((~novel).sum())
    if n == 0 or m == 0:
        return float("nan")
    ranks = rankdata(-cosine)
    return float((ranks[novel].sum() - n * (n + 1) / 2) / (n * m))


def _below(cosine: np.ndarray, chosen: np.ndarray, cut: float) -> float:
    return float((cosine[chosen] < cut).mean()) if chosen.any() else float("nan")


def _figure(value: float, samples: list[float]) -> Figure:
    return Figure(value, _quantile(samples, 0.025), _quantile(samples, 0.975))


def _quantile(samples: list[float], q: float) -> float:
    finite = np.array([it for it in samples if np.isfinite(it)])
    return float(np.quantile(finite, q)) if len(finite) else float("nan")
