"""Stretches of text with one latent's activations on them: which explain it, and which score.

`Windows` are many of them as arrays, as the pass over the text finds them; an `Example` is one as
explainers and judges read it. No text serves for both: `split_windows`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int

from core.autointerp.config import AutoInterpConfig
from core.models.hooks import Model
from core.tokens import Pieces, RowTexts, join_parts, row_texts

_SHOWN = {" ": "␣", "\t": "⇥", "\n": "↵", "\r": "␍"}


class Example:
    """Tokens, the latent's activation at each, and which of them count as active."""

    def __init__(
        self,
        toks: Sequence[int],
        acts: Sequence[float],
        act_threshold: float,
        model: Model,
        *,
        source: str = "",
    ) -> None:
        """`source`: how it was found (`top`, `random`). Raises ValueError for unequal lengths."""
        if len(toks) != len(acts):
            raise ValueError(
                f"There are {len(toks)} tokens and {len(acts)} activations; give one for each."
            )
        self.toks = [int(token) for token in toks]
        self.acts = [float(act) for act in acts]
        self.act_threshold = float(act_threshold)
        self.source = source
        texts = _texts(model, self.toks)
        self.str_toks: list[str] = list(texts.parts)
        """What each token adds to the text; "" for the parts of a character but the first."""
        self.cells: list[str] = list(texts.cells)
        """A text for each token by itself, as `RowTexts.cells`."""
        self.toks_are_active = [act > self.act_threshold for act in self.acts]
        self.is_active = any(self.toks_are_active)
        """What scoring asks for."""

    def to_str(self, mark_toks: bool = False) -> str:
        """The text on one line, with `<<` and `>>` around runs of active tokens if asked."""
        return self.marked(self.toks_are_active if mark_toks else [False] * len(self.toks))

    def marked(self, marks: Sequence[bool]) -> str:
        """The text on one line, with `<<` and `>>` around runs of the tokens that `marks` names.

        Where one of the tokens that make up a character is marked, the character is. What stands
        alone between marks and would not be seen has signs instead: `␣` for a space.
        """
        pieces = join_parts(self.str_toks, [float(mark) for mark in marks])
        parts = []
        for mark, run in groupby(
            zip(pieces.texts, pieces.activations, strict=True), key=lambda pair: pair[1] > 0
        ):
            text = "".join(piece for piece, _ in run)
            parts.append(f"<<{_seen(text)}>>" if mark else text)
        return "".join(parts).replace("\n", "↵")

    @property
    def pieces(self) -> Pieces:
        """The text, characters whole, with the strongest activation of each piece."""
        return join_parts(self.str_toks, self.acts)

    @property
    def peak(self) -> int:
        """Index of the strongest token, the first of equals."""
        return max(range(len(self.acts)), key=self.acts.__getitem__)

    def __repr__(self) -> str:
        return f"Example({self.to_str(mark_toks=True)!r}, is_active={self.is_active})"


def _texts(model: Model, toks: list[int]) -> RowTexts:
    if not hasattr(model, "tokenizer"):
        # What stands in for a model says itself how its tokens read.
        texts = tuple(map(str, model.to_str_tokens(torch.tensor(toks))))
        return RowTexts(texts, texts)
    return row_texts(model.tokenizer, toks)


def _seen(text: str) -> str:
    """`text`, or signs for it where all of it is spaces or has no sign of its own."""
    if any(sign.isprintable() and not sign.isspace() for sign in text):
        return text
    return "".join(
        _SHOWN.get(sign) or sign.encode("unicode_escape").decode("ascii") for sign in text
    )


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of text around some places, with one latent's activations."""

    tokens: Int[np.ndarray, "n width"]
    """Token ids; -1 in padding."""
    acts: Float[np.ndarray, "n width"]
    """float32 activations; 0 at BOS and in padding."""
    rows: Int[np.ndarray, " n"]
    """Row of the corpus, counted from the first one that was read."""
    positions: Int[np.ndarray, " n"]
    """Position of the middle in its row."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: np.ndarray) -> "Windows":
        """Some of them, in that order."""
        return Windows(
            self.tokens[index], self.acts[index], self.rows[index], self.positions[index]
        )

    def join(self, *others: "Windows") -> "Windows":
        """These and others."""
        parts = [self, *others]
        return Windows(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.acts for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.positions for part in parts]),
        )

    @classmethod
    def empty(cls, width: int) -> "Windows":
        """None at all."""
        none = np.zeros(0, np.int64)
        return cls(np.zeros((0, width), np.int64), np.zeros((0, width), np.float32), none, none)


@dataclass(frozen=True, eq=False)
class LatentWindows:
    """What one latent is explained and scored with."""

    top: Windows
    """Its strongest places, best first, and a few more than asked for."""
    random: Windows
    """Random places, and a few more than asked for."""
    firing: Windows
    """Random ones of all places at which it fires; none unless quantiles are asked for."""


ExamplesByLatent: TypeAlias = dict[int, list[Example]]
"""Examples of each latent."""


def split_windows(
    gathered: Mapping[int, LatentWindows], cfg: AutoInterpConfig, model: Model
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


def is_enough(top: Windows, cfg: AutoInterpConfig, latent: int) -> bool:
    """Whether weaker windows than `top`, the strongest of a latent, would explain or score nothing.

    Then `split_windows` makes the same of it as of a longer list.
    """
    if len(top) < cfg.n_top_ex:
        return False
    _, score = _split_top(top, cfg, np.random.default_rng([cfg.seed, latent]))
    return len(score) >= max(1, cfg.n_top_ex_for_scoring)


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
