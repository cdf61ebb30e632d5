"""A stretch of text with one latent's activations on it."""

from collections.abc import Sequence
from itertools import groupby

import torch

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
    if any(it.isprintable() and not it.isspace() for it in text):
        return text
    return "".join(_SHOWN.get(it) or it.encode("unicode_escape").decode("ascii") for it in text)
