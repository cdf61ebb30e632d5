"""Derivatives of the parts of a transformer block, pulled back for many targets at once.

A block is linear around the run it was recorded on. Autograd finds its derivatives anew in every
batch of passes, with some ten memory-bound operations for one activation function, and always at
all positions. Here they are kept as plain numbers: the slope of each neuron, the attention
patterns, keys, queries and values, the scales of the norms. What is left of a pass are the matrix
products.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
