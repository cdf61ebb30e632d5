"""Which windows explain and which score: no text serves for both."""

from typing import TypeAlias

import numpy as np

from core.autointerp.config import AutoInterpConfig
from core.autointerp.example import Example
from core.autointerp.windows import LatentWindows, Windows
from core.models.hooks import Model

ExamplesByLatent: TypeAlias = dict[int, list[Example]]
"""Examples of each latent."""


def split_windows(
    gathered: dict[int, LatentWindows], cfg: AutoInterpConfig, model: Model
) -> tuple[ExamplesByLatent, ExamplesByLatent]:
    """(generation, scoring) examples of each latent; empty where it never fired.

    Of the strongest windows a random few score and the others explain. Windows that share tokens of
    the corpus stay together, and random windows that share tokens with an explaining one are left
    out. Scoring examples are shuffled. Where a latent fired too seldom, both parts shrink alike.
    """
    generation, scoring = {}, {}
    for latent in cfg.latents:
        windows = gathered[latent]
        rng = np.random.default_rng([cfg.seed, latent])
        explain, score = _split_top(windows.top, cfg, rng)
        threshold = cfg.act_threshold_frac * float(windows.top.acts.max(initial=0))
        shown, scored = windows.top.take(explain), windows.top.take(score)
        if cfg.across_quantiles:
            shown = _spread(windows.firing, shown, scored, threshold, cfg)
        random = _unseen(windows.random, shown.join(scored), cfg.buffer)
        random = random.take(np.arange(min(len(random), cfg.n_random_ex_for_scoring)))
        generation[latent] = to_examples(shown, threshold, model, source="top")
        mixed = to_examples(scored, threshold, model, source="top") + to_examples(
            random, threshold, model, source="random"
        )
        scoring[latent] = [mixed[i] for i in rng.permutation(len(mixed))] if len(shown) else []
    return generation, scoring


def to_examples(windows: Windows, threshold: float, model: Model, *, source: str) -> list[Example]:
    """Examples without the padding that windows at the end of a row have."""
    return [
        Example(
            tokens[tokens >= 0].tolist(),
            acts[tokens >= 0].tolist(),
            threshold,
            model,
            source=source,
        )
        for tokens, acts in zip(windows.tokens, windows.acts, strict=True)
    ]


def _split_top(
    top: Windows, cfg: AutoInterpConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Indices that explain, and indices that score."""
    n = min(len(top), cfg.n_top_ex)
    wanted = n * cfg.n_top_ex_for_scoring // cfg.n_top_ex
    if n > 1:
        wanted = max(1, wanted)
    close = near(top, top, cfg.buffer)
    component = _components(close[:n, :n])
    score: list[int] = []
    for number in rng.permutation(component.max(initial=-1) + 1):
        members = np.flatnonzero(component == number).tolist()
        if len(score) + len(members) <= wanted:
            score += members
    explain = [i for i in range(n) if i not in score][: cfg.n_top_ex_for_generation]
    # Where windows hang together, some of the next strongest may still be free to score.
    for i in range(n, len(top)):
        if len(score) < wanted and not close[i, explain].any():
            score.append(i)
    return np.array(explain, dtype=np.int64), np.array(score, dtype=np.int64)


def _spread(
    firing: Windows, top: Windows, scored: Windows, threshold: float, cfg: AutoInterpConfig
) -> Windows:
    """Windows to explain with, at equal steps of rank among all firings, the strongest first.

    Windows that hold no token above the threshold, or share text with what scores, are left out.
    """
    middle = firing.acts[:, cfg.buffer]
    usable = (middle > threshold) & ~near(firing, scored, cfg.buffer).any(axis=1)
    order = np.argsort(-middle, kind="stable")
    order = order[usable[order]]
    ranked = firing.take(order)
    again = np.triu(near(ranked, ranked, cfg.buffer), k=1).any(axis=0)
    ranked = ranked.take(np.flatnonzero(~again))
    n = min(len(ranked), cfg.n_top_ex_for_generation)
    if n == 0:
        return top
    return ranked.take(np.linspace(0, len(ranked) - 1, n).round().astype(np.int64))


def near(a: Windows, b: Windows, buffer: int) -> np.ndarray:
    """Whether windows share tokens of the corpus, or have the same ones."""
    same_row = a.rows[:, None] == b.rows[None]
    close = np.abs(a.positions[:, None] - b.positions[None]) <= 2 * buffer
    equal = (a.tokens[:, None] == b.tokens[None]).all(axis=2)
    return (same_row & close) | equal


def _components(near: np.ndarray) -> np.ndarray:
    """Number of the group that each window belongs to, by chains of near ones."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    return connected_components(csr_array(near), directed=False)[1]


def _unseen(random: Windows, used: Windows, buffer: int) -> Windows:
    """Random windows that share nothing with the used ones or with an earlier random one."""
    free = ~near(random, used, buffer).any(axis=1)
    again = np.triu(near(random, random, buffer), k=1).any(axis=0)
    return random.take(np.flatnonzero(free & ~again))
