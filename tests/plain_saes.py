"""Every kind of SAE in plain torch, from what its authors publish: shares nothing with `core`.

Weights are taken by their names in sae_lens' files; nothing of sae_lens is called.
"""

from dataclasses import dataclass

import torch
from sae_lens import SAE
from torch import Tensor


@dataclass(frozen=True)
class PlainSae:
    """The numbers of an SAE and the formulas that they belong to."""

    architecture: str
    """sae_lens' name."""
    norm: str
    """What is done to the input: "none", "layer_norm", "constant_norm_rescale" or "scaled"."""
    weights: dict[str, Tensor]
    """By their names in sae_lens' files, as they were before anything was folded."""
    k: int | None = None
    """Latents that may be active at once, for TopK and matching pursuit."""
    rescale: bool = False
    """TopK: whether activations are those of decoder rows of length 1."""
    scale: float = 1.0
    """What the input is multiplied by, for "scaled"."""

    @classmethod
    def of(cls, sae: SAE, *, scale: float = 1.0) -> "PlainSae":
        """Of an SAE as it was made, before it is saved or changed."""
        norm, k = sae.cfg.normalize_activations, getattr(sae.cfg, "k", None)
        return cls(
            architecture=sae.cfg.architecture(),
            norm="scaled" if norm == "expected_average_only_in" else norm,
            weights={name: value.detach().clone() for name, value in sae.named_parameters()},
            k=getattr(sae.cfg, "max_iterations", k),
            rescale=getattr(sae.cfg, "rescale_acts_by_decoder_norm", False),
            scale=scale,
        )

    def encode(self, x: Tensor) -> Tensor:
        """`[..., d_in]` to `[..., d_sae]`."""
        return self._latents(self._normalised(x)[0])

    def reconstruct(self, x: Tensor) -> Tensor:
        """What is written for `x`: `[..., d_out]`."""
        given, scale, mean = self._normalised(x)
        w = self.weights
        rows = w["W_dec"] / w["W_dec"].norm(dim=-1, keepdim=True) if self.rescale else w["W_dec"]
        written = (self._latents(given) @ rows + w["b_dec"]) * scale + mean
        return written + x @ w["W_skip"].T if "W_skip" in w else written

    def unit_write(self, latent: int) -> Tensor:
        """What a unit of a latent adds, `[d_out]`; times the scale of an input that has one."""
        row = self.weights["W_dec"][latent]
        row = row / row.norm() if self.rescale else row
        return row / self.scale

    def _normalised(self, x: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """The input as the SAE takes it, and the scale and mean that its output is given back."""
        if self.norm == "layer_norm":
            mean = x.mean(-1, keepdim=True)
            std = (x - mean).std(-1, keepdim=True)
            return (x - mean) / (std + 1e-5), std, mean
        if self.norm == "constant_norm_rescale":
            factor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
            return x * factor, 1 / factor, 0.0
        return x * self.scale, 1 / self.scale, 0.0

    def _latents(self, x: Tensor) -> Tensor:
        w = self.weights
        if "transcoder" not in self.architecture:
            x = x - w["b_dec"]
        if self.architecture == "gated":
            is_open = x @ w["W_enc"] + w["b_gate"] > 0
            return is_open * (x @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"]).relu()
        if self.architecture == "matching_pursuit":
            return self._pursued(x)
        before = x @ w["W_enc"] + w["b_enc"]
        if "threshold" in w:
            return before.relu() * (before > w["threshold"])
        if self.architecture == "topk":
            before = before * w["W_dec"].norm(dim=-1) if self.rescale else before
            places = before.topk(self.k or 1).indices
            kept = torch.zeros_like(before).scatter(-1, places, 1.0)
            return before.relu() * kept
        return before.relu()

    def _pursued(self, rest: Tensor) -> Tensor:
        """Take away the best latent's part, again and again, until little is left."""
        rows = self.weights["W_dec"]
        found = rest.new_zeros(*rest.shape[:-1], len(rows))
        done = torch.zeros(rest.shape[:-1], dtype=torch.bool)
        for _ in range(self.k or 1):
            scores = (rest @ rows.T).relu()
            value, latent = scores.max(-1)
            value = torch.where(done, torch.zeros_like(value), value)
            one = torch.zeros_like(found).scatter(-1, latent[..., None], value[..., None])
            same = ((found > 0) == ((found + one) > 0)).all(-1)
            found, rest, done = found + one, rest - one @ rows, done | same
            done = done | (rest.norm(dim=-1) < 0.01)
        return found
