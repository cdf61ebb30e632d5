"""Vector-Jacobian products of a transformer's blocks, for many targets at once.

A block is linear around the run it was recorded on. Autograd finds its derivatives anew in every
batch of passes, with some ten memory-bound operations for one activation function, and always at
all positions. Here they are kept as plain numbers: the slope of each neuron, the attention
patterns, keys, queries and values, the scales of the norms. What is left of a pass are the matrix
products. A `Pullback` goes back through a whole segment with them: rows of cotangents stay at one
position each until they have passed the last heads, so that the last MLP is computed once a row
instead of at all positions, and the last heads are of low rank.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Place = tuple[str, int]
"""Kind of a site ("stream", "z", "attn_out", "mid", "mlp_out", "final") and its layer; the stream
after a block is that before the next."""
Part = tuple[str, int]
"""Part of a block ("attention" or "mlp") and its layer."""
_ROWS = 2048
"""Rows of hidden neurons at a time: few enough to stay in a processor's cache."""


@dataclass(frozen=True)
class NormSlope:
    """A LayerNorm or RMSNorm around one prompt's activations."""

    scale: Float[Tensor, "pos 1"]
    """What it divides by."""
    normalised: Float[Tensor, "pos d"]
    """What comes of that, before weights."""
    weight: Float[Tensor, " d"] | None
    """What it multiplies by; None where that is folded into what reads it."""
    centred: bool
    """Whether it takes the mean away."""
    frozen: bool
    """Whether the scale is held, so that nothing flows through it."""

    def pull(
        self, grads: Float[Tensor, "... d"], positions: slice | Int[Tensor, " m"]
    ) -> Float[Tensor, "... d"]:
        """From what reads the norm to what it reads; `positions` are those of the last axis but
        one. May write into `grads`."""
        if self.weight is not None:
            grads = grads * self.weight
        if self.centred:
            grads = grads - grads.mean(-1, keepdim=True)
        if not self.frozen:
            normalised = self.normalised[positions]
            along = (grads * normalised).mean(-1, keepdim=True)
            grads = torch.addcmul(grads, along, normalised, value=-1)
        return grads / self.scale[positions]


@dataclass(frozen=True)
class MlpSlope:
    """An MLP of one hidden layer, with the norm before it."""

    norm: NormSlope
    """The norm it reads through."""
    slopes: Float[Tensor, "pos hidden"]
    """Derivative of each hidden neuron's activation function."""
    w_in: Float[Tensor, "d hidden"]
    """Weights of the hidden layer."""
    w_out: Float[Tensor, "hidden d"]
    """Weights of the output."""

    def pull(
        self, grads: Float[Tensor, "rows d"], positions: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows d"]:
        """From its output to the stream it reads, without the stream that flows past."""
        parts = []
        for chunk, at in zip(grads.split(_ROWS), positions.split(_ROWS), strict=True):
            hidden = chunk @ self.w_out.T
            hidden *= self.slopes[at]
            parts.append(self.norm.pull(hidden @ self.w_in.T, at))
        return torch.cat(parts) if parts else grads


@dataclass(frozen=True)
class AttentionSlope:
    """The heads of a layer, with the norm before them."""

    norm: NormSlope
    """The norm they read through."""
    pattern: Float[Tensor, "head query key"]
    """Where each looks."""
    q: Float[Tensor, "head pos d_head"]
    """Queries, divided by what scores are divided by."""
    k: Float[Tensor, "head pos d_head"]
    """Keys, divided likewise."""
    v: Float[Tensor, "head pos d_head"]
    """Values."""
    z: Float[Tensor, "head pos d_head"]
    """What each head found."""
    w_qkv: Float[Tensor, "three head d_head d"]
    """Transposed weights of queries, keys and values."""
    w_o: Float[Tensor, "head d_head d"]
    """Weights of the output."""
    frozen: bool
    """Whether patterns are held, so that nothing flows through queries and keys."""

    def to_heads(self, grads: Float[Tensor, "... d"]) -> Float[Tensor, "... head d_head"]:
        """From the heads' common output to what each found."""
        return (grads @ self.w_o.flatten(0, 1).T).unflatten(-1, self.w_o.shape[:2])

    def pull(self, found: Float[Tensor, "rows cut head d_head"]) -> Float[Tensor, "rows cut d"]:
        """From what the heads found to the stream they read, at all positions."""
        rows, cut = found.shape[:2]
        z = found.permute(2, 1, 0, 3).contiguous()
        pattern = self.pattern[:, :cut, :cut]
        values = pattern.transpose(1, 2) @ z.flatten(2)
        sides = [values.unflatten(2, (rows, -1)).permute(2, 1, 0, 3)]
        weights = self.w_qkv[2:]
        if not self.frozen:
            scores = z.flatten(1, 2) @ self.v[:, :cut].transpose(1, 2)
            scores -= (z * self.z[:, :cut, None]).sum(-1).flatten(1)[..., None]
            scores = scores.unflatten(1, (cut, rows)).mul_(pattern[:, :, None])
            queries = scores.flatten(1, 2) @ self.k[:, :cut]
            keys = scores.flatten(2).transpose(1, 2) @ self.q[:, :cut]
            sides = [
                queries.unflatten(1, (cut, rows)).permute(2, 1, 0, 3),
                keys.unflatten(1, (rows, cut)).permute(1, 2, 0, 3),
                *sides,
            ]
            weights = self.w_qkv
        together = torch.stack(sides, 2).flatten(2)
        return self.norm.pull(together @ weights.flatten(0, 2), slice(0, cut))

    def pull_one(
        self, found: Float[Tensor, "rows head d_head"], position: int
    ) -> Float[Tensor, "rows cut d"]:
        """The same from one position, where each head's part is of low rank: much less work."""
        cut = position + 1
        pattern = self.pattern[:, position, :cut]
        z = found.transpose(0, 1)
        spread = (z @ self.w_qkv[2]).transpose(0, 1)
        weights = pattern.T.expand(len(found), -1, -1)
        if self.frozen:
            return self.norm.pull(torch.bmm(weights, spread), slice(0, cut))
        scores = z @ self.v[:, :cut].transpose(1, 2)
        scores -= (z * self.z[:, position, None]).sum(-1)[..., None]
        scores *= pattern[:, None]
        of_keys = torch.bmm(self.q[:, position, None], self.w_qkv[1])[:, 0]
        spread = torch.cat([spread, of_keys.expand(len(found), -1, -1)], 1)
        weights = torch.cat([weights, scores.permute(1, 2, 0)], 2)
        back = torch.bmm(weights, spread)
        queries = torch.bmm(scores, self.k[:, :cut])
        back[:, position] += queries.transpose(0, 1).flatten(1) @ self.w_qkv[0].flatten(0, 1)
        return self.norm.pull(back, slice(0, cut))


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
