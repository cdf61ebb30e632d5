"""The hardest negatives: where latents with similar directions fire and this one does not.

A latent's strong examples are told from random text by almost any explanation; from the examples of
its decoder neighbours only by one that says what sets it apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Int
from sae_lens import SAE

from core.autointerp.config import AutoInterpConfig
from core.autointerp.example import Example
from core.autointerp.gather import latent_activations, not_counted
from core.autointerp.numbers import detection_numbers, one_sided, without_nan
from core.autointerp.roles import Explained, Judge, Material, NoScore, Scored
from core.autointerp.split import near, to_examples
from core.autointerp.windows import LatentWindows, Windows, joined
from core.corpus.token_set import TokenSet
from core.jobs.progress import Progress
from core.models.hooks import Model

_ROWS_AT_ONCE = 16
_SIMILARITIES_AT_ONCE = 256


@torch.no_grad()
def nearest_latents(sae: SAE, latents: Sequence[int], k: int) -> Int[np.ndarray, "n k"]:
    """The `k` latents of highest decoder cosine with each, nearest first, itself left out.

    Raises ValueError unless the SAE has more than `k` latents.
    """
    if not 1 <= k < sae.cfg.d_sae:
        raise ValueError(f"k is {k}; an SAE of {sae.cfg.d_sae} latents has 1 to that less one.")
    directions = torch.nn.functional.normalize(sae.W_dec.detach().float(), dim=1)
    found = []
    for part in torch.tensor(list(latents), device=directions.device).split(_SIMILARITIES_AT_ONCE):
        cosines = directions[part] @ directions.T
        cosines[torch.arange(len(part)), part] = -2
        found.append(cosines.topk(k, dim=1).indices.cpu())
    return torch.cat(found).numpy()


def neighbour_windows(
    model: Model,
    sae: SAE,
    token_set: TokenSet,
    latent: int,
    gathered: Mapping[int, LatentWindows],
    neighbours: Sequence[int],
    cfg: AutoInterpConfig,
    *,
    per_neighbour: int = 4,
    progress: Progress | None = None,
) -> Windows:
    """The strongest windows of each neighbour, with the activations of `latent` on them.

    In turns: the strongest of each neighbour, then the second of each. Text that two share comes
    once; text that was gathered for `latent` itself does not come at all.
    """
    mine = gathered[latent].top.join(gathered[latent].random)
    tops = [_first(gathered[other].top, per_neighbour) for other in neighbours]
    whole = joined([*tops, Windows.empty(2 * cfg.buffer + 1)])
    turn = np.concatenate([*(np.arange(len(top)) for top in tops), np.zeros(0, np.int64)])
    whole = whole.take(np.argsort(turn, kind="stable"))
    again = np.triu(near(whole, whole, cfg.buffer), k=1).any(axis=0)
    known = near(whole, mine, cfg.buffer).any(axis=1)
    whole = whole.take(np.flatnonzero(~again & ~known))
    return with_activations(model, sae, token_set, latent, whole, cfg, progress=progress)


def _first(windows: Windows, n: int) -> Windows:
    return windows.take(np.arange(min(n, len(windows))))


def with_activations(
    model: Model,
    sae: SAE,
    token_set: TokenSet,
    latent: int,
    windows: Windows,
    cfg: AutoInterpConfig,
    *,
    progress: Progress | None = None,
) -> Windows:
    """The same windows with the activations of another latent, which is run on their rows."""
    acts = np.zeros_like(windows.acts)
    different = np.unique(windows.rows)
    for start in range(0, len(different), _ROWS_AT_ONCE):
        rows = different[start : start + _ROWS_AT_ONCE]
        # Attention looks back only, so nothing behind the last window is needed.
        width = int(windows.positions[np.isin(windows.rows, rows)].max()) + cfg.buffer + 1
        inside = np.arange(width) < token_set.lengths[rows, None]
        tokens = np.where(inside, token_set.tokens[rows, :width], -1).astype(np.int64)
        ignored = not_counted(token_set, rows, tokens)
        [found] = latent_activations(
            model, [(sae, [latent])], tokens, ignored=ignored, progress=progress
        )
        for i in np.flatnonzero(np.isin(windows.rows, rows)):
            at = windows.positions[i]
            row = np.searchsorted(rows, windows.rows[i])
            acts[i] = found[row, at - cfg.buffer : at + cfg.buffer + 1, 0]
    return Windows(windows.tokens, acts, windows.rows, windows.positions)


def split_neighbours(
    windows: Windows,
    threshold: float,
    model: Model,
    cfg: AutoInterpConfig,
    *,
    n_contrast: int,
    n_scoring: int,
) -> tuple[list[Example], list[Example]]:
    """(examples to explain against, examples to score with); they share no text.

    Those to explain against are silent; those to score with are what they are.
    """
    silent = windows.acts.max(axis=1, initial=0) <= threshold
    contrast = np.flatnonzero(silent)[: 2 * n_contrast : 2]
    shown = windows.take(contrast)
    free = ~near(windows, shown, cfg.buffer).any(axis=1)
    scored = windows.take(np.flatnonzero(free)[:n_scoring])
    source = "neighbour"
    return (
        to_examples(shown, threshold, model, source=source),
        to_examples(scored, threshold, model, source=source),
    )


class NeighbourPrecision:
    """Detection of a latent's own examples among those of its neighbours."""

    name = "neighbours"

    def __init__(self, judge: Judge, *, seed: int = 0) -> None:
        """`judge`: the one that detects; `seed` of the order of the examples."""
        self._judge, self._seed = judge, seed

    async def score(self, explained: Explained, material: Material) -> Scored:
        """Balanced accuracy; 0.5 is chance. Raises NoScore where there is nothing to tell apart."""
        own = [example for example in material.scoring if example.source == "top"]
        mixed = [*own, *material.neighbours]
        if not own or not material.neighbours:
            missing = "examples of neighbours" if own else "examples of its own"
            raise NoScore(f"No score: there are no {missing}.")
        why = one_sided([example.is_active for example in mixed])
        if why:
            raise NoScore(why)
        rng = np.random.default_rng([self._seed, material.evidence.latent])
        examples = [mixed[i] for i in rng.permutation(len(mixed))]
        judged = await self._judge.judge(explained, examples)
        active = [example.is_active for example in examples]
        predicted = [number in judged.predictions for number in range(1, len(examples) + 1)]
        numbers = without_nan(asdict(detection_numbers(active, predicted, seed=self._seed)))
        return Scored(
            numbers["balanced_accuracy"],
            0.5,
            numbers,
            [
                {"text": ex.to_str(), "source": ex.source, "truth": truth, "predicted": guess}
                for ex, truth, guess in zip(examples, active, predicted, strict=True)
            ],
            judged.messages,
            judged.raw,
            judged.unreadable,
        )
