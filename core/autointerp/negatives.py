"""The hardest negatives: texts like those in which a latent fires, in which it is silent.

A latent's strong examples are told from random text by almost any explanation. Its decoder
neighbours' examples ask what sets it apart from them; its peaks' own tokens in contexts that leave
it silent ask what has to come with them: strong examples show "stop" only inside "don't stop", and
random ones hardly ever hold it.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE

from core.activations.examples import row_activations
from core.autointerp.config import AutoInterpConfig
from core.autointerp.detection_statistics import detection_statistics, why_no_score, without_nan
from core.autointerp.examples import Example, LatentWindows, Windows, near, to_examples
from core.autointerp.roles import Explained, Judge, Material, NoScore, Scored
from core.corpus.token_set import TokenSet
from core.models.hooks import Model

_SIMILARITIES_AT_ONCE = 256
_PEAK_TOKENS = 5
_ROWS_FOR_EACH = 3


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
) -> Windows:
    """The strongest windows of each neighbour, with the activations of `latent` on them.

    In turns: the strongest of each neighbour, then the second of each. Text that two share comes
    once; text that was gathered for `latent` itself does not come at all.
    """
    mine = gathered[latent].top.join(gathered[latent].random)
    tops = [_first(gathered[other].top, per_neighbour) for other in neighbours]
    whole = Windows.empty(2 * cfg.buffer + 1).join(*tops)
    turn = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(top)) for top in tops)])
    whole = whole.take(np.argsort(turn, kind="stable"))
    again = np.triu(near(whole, whole, cfg.buffer), k=1).any(axis=0)
    known = near(whole, mine, cfg.buffer).any(axis=1)
    whole = whole.take(np.flatnonzero(~again & ~known))
    return replace(whole, acts=_around(model, sae, token_set, latent, whole, cfg.buffer))


def _around(
    model: Model, sae: SAE, token_set: TokenSet, latent: int, windows: Windows, buffer: int
) -> Float[np.ndarray, "n width"]:
    """A latent's activations on windows, which is run on their rows."""
    acts = row_activations(model, sae, token_set, windows.rows, latent)
    columns = windows.positions[:, None] + np.arange(-buffer, buffer + 1)
    return np.take_along_axis(acts, columns, axis=1)


def _first(windows: Windows, n: int) -> Windows:
    return windows.take(np.arange(min(n, len(windows))))


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
    around = token_set.windows(rows * token_set.context + positions, cfg.buffer, cfg.buffer)
    windows = Windows(around, np.zeros(around.shape, np.float32), rows, positions)
    acts = _around(model, sae, token_set, latent, windows, cfg.buffer)
    threshold = cfg.act_threshold_frac * float(gathered.top.acts.max(initial=0))
    silent = np.flatnonzero(acts.max(axis=1) <= threshold)[:n]
    return to_examples(
        replace(windows, acts=acts).take(silent), threshold, model, source="same token"
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
        why = why_no_score([example.is_active for example in mixed])
        if why:
            raise NoScore(why)
        rng = np.random.default_rng([self._seed, material.evidence.latent])
        examples = [mixed[i] for i in rng.permutation(len(mixed))]
        judged = await self._judge.judge(explained, examples)
        active = [example.is_active for example in examples]
        predicted = [number in judged.predictions for number in range(1, len(examples) + 1)]
        numbers = without_nan(asdict(detection_statistics(active, predicted, seed=self._seed)))
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
