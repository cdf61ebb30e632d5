"""A stretch of text with one latent's activations on it."""

from collections.abc import Sequence
from itertools import groupby

import torch

from core.models.hooks import Model


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
        self.str_toks: list[str] = [
            str(token) for token in model.to_str_tokens(torch.tensor(self.toks))
        ]
        self.toks_are_active = [act > self.act_threshold for act in self.acts]
        self.is_active = any(self.toks_are_active)
        """What scoring asks for."""

    def to_str(self, mark_toks: bool = False) -> str:
        """The text on one line, with `<<` and `>>` around runs of active tokens if asked."""
        return self.marked(self.toks_are_active if mark_toks else [False] * len(self.toks))

    def marked(self, marks: Sequence[bool]) -> str:
        """The text on one line, with `<<` and `>>` around runs of the tokens that `marks` names."""
        parts = []
        for mark, run in groupby(zip(self.str_toks, marks, strict=True), key=lambda pair: pair[1]):
            text = "".join(token for token, _ in run)
            parts.append(f"<<{text}>>" if mark else text)
        # Tokens that hold part of a character decode to the replacement sign.
        return "".join(parts).replace("\ufffd", "").replace("\n", "↵")

    @property
    def peak(self) -> int:
        """Index of the strongest token, the first of equals."""
        return max(range(len(self.acts)), key=self.acts.__getitem__)

    def __repr__(self) -> str:
        return f"Example({self.to_str(mark_toks=True)!r}, is_active={self.is_active})"
