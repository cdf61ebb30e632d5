"""A whole segment pulled back with the derivatives of its blocks.

Rows of cotangents stay at one position each until they have passed the last heads, so that the
last MLP is computed once a row instead of at all positions, and the last heads are of low rank.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.gradients.blocks import AttentionSlope, MlpSlope, NormSlope

Place = tuple[str, int]
"""Kind of a site ("stream", "z", "attn_out", "mid", "mlp_out", "final") and its layer; the stream
after a block is that before the next."""
Part = tuple[str, int]
"""Part of a block ("attention" or "mlp") and its layer."""


@dataclass(frozen=True)
class Pullback:
    """A segment linearised at one prompt."""

    source: Place
    """Where it begins."""
    target: Place
    """Where it ends."""
    attention: dict[int, AttentionSlope]
    """Heads by layer."""
    mlps: dict[int, MlpSlope]
    """MLPs by layer."""
    final: NormSlope | None
    """The last norm, for logits."""
    w_o: Float[Tensor, "head d_head d"] | None = None
    """Where it begins at heads: what writes what they found to the stream."""

    @torch.no_grad()
    def __call__(
        self, rows: Float[Tensor, "rows d_to"], positions: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows cut d_from"]:
        """Derivatives at the source of what `rows` read, each at its position of the target.

        `positions` must ascend; `cut` is one more than the last.
        """
        kind, layer = self.target
        # As long as no heads were passed, all is at the position of its row: [rows, d].
        back = rows
        if kind == "final":
            assert self.final is not None
            back = self.final.pull(rows, positions)
        elif kind == "mlp_out":
            back = self.mlps[layer].pull(rows, positions)
        elif kind == "attn_out":
            back = self._spread(layer, self.attention[layer].to_heads(rows), positions)
        elif kind == "z":
            heads = self.attention[layer].w_o.shape[:2]
            back = self._spread(layer, rows.unflatten(-1, heads), positions)
        for part, layer in way(self.source, self.target) or ():
            if part == "mlp":
                back = back + self._through_mlp(layer, back, positions)
            else:
                found = self.attention[layer].to_heads(back)
                if back.dim() == 3:
                    back = back + self.attention[layer].pull(found)
                else:
                    further = self._spread(layer, found, positions)
                    further[torch.arange(len(rows), device=rows.device), positions] += back
                    back = further
        if self.w_o is not None:
            back = back @ self.w_o.flatten(0, 1).T
        if back.dim() == 2:
            alone = back.new_zeros(len(rows), int(positions[-1]) + 1, back.shape[-1])
            alone[torch.arange(len(rows), device=rows.device), positions] = back
            back = alone
        return back

    def _spread(self, layer: int, found: Tensor, positions: Tensor) -> Tensor:
        """Through the heads from one position a row to all before it."""
        attention = self.attention[layer]
        cut, width = int(positions[-1]) + 1, attention.w_qkv.shape[-1]
        back = found.new_zeros(len(found), cut, width)
        start = 0
        here, counts = positions.unique_consecutive(return_counts=True)
        for position, count in zip(here.tolist(), counts.tolist(), strict=True):
            part = slice(start, start + count)
            back[part, : position + 1] = attention.pull_one(found[part], position)
            start += count
        return back

    def _through_mlp(self, layer: int, back: Tensor, positions: Tensor) -> Tensor:
        if back.dim() == 2:
            return self.mlps[layer].pull(back, positions)
        everywhere = torch.arange(back.shape[1], device=back.device).repeat(len(back))
        return self.mlps[layer].pull(back.flatten(0, 1), everywhere).view_as(back)


def way(source: Place, target: Place) -> list[Part] | None:
    """What is passed beside the stream on the way back, after what the target itself hangs on.

    None where the target's own part already leads past the source.
    """
    end = {"mlp_out": 1}.get(source[0], 0), source[0] in ("z", "attn_out", "mid")
    stop = _depth(source[1] + end[0], at_middle=end[1])
    here = _depth(target[1], at_middle=target[0] in ("mid", "mlp_out"))
    if here < stop:
        return None
    # From the middle of a layer back to its start there are its heads, from a start the MLP before.
    return [
        ("attention" if depth % 2 else "mlp", (depth - 1) // 2) for depth in range(here, stop, -1)
    ]


def _depth(layer: int, *, at_middle: bool) -> int:
    return 2 * layer + at_middle
