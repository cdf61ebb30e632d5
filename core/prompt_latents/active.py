"""What fires where in one text."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.models.hooks import Model
from core.saes import encode, sae_inputs


@dataclass(frozen=True, eq=False)
class ActiveLatents:
    """Every activation above 0 in one text, ordered by position, then latent."""

    n_positions: int
    """Positions of the prompt, a beginning-of-text token in front included."""
    position: Int[np.ndarray, " n"]
    """Where (int32); what stands in front of the text is left out: SAEs fire arbitrarily there."""
    latent: Int[np.ndarray, " n"]
    """Which latent (int32)."""
    value: Float[np.ndarray, " n"]
    """How strongly (float32)."""

    def per_latent(self) -> pd.DataFrame:
        """A row for each active latent, the strongest first: `latent`, `activation` (largest),
        `position` of it (the first of equals), `n_tokens` at which it is active, `total`."""
        order = np.lexsort((self.position, -self.value, self.latent))
        latent, value = self.latent[order], self.value[order]
        starts = np.flatnonzero(np.r_[True, latent[1:] != latent[:-1]]) if len(order) else order
        table = pd.DataFrame(
            {
                "latent": latent[starts],
                "activation": value[starts],
                "position": self.position[order][starts],
                "n_tokens": np.diff(np.r_[starts, len(latent)]),
                "total": np.add.reduceat(value, starts) if len(starts) else value,
            }
        )
        return table.sort_values("activation", ascending=False, kind="stable", ignore_index=True)

    def at(self, position: int) -> pd.DataFrame:
        """`latent` and `activation` at one position, the strongest first."""
        here = np.flatnonzero(self.position == position)
        here = here[np.argsort(-self.value[here], kind="stable")]
        return pd.DataFrame({"latent": self.latent[here], "activation": self.value[here]})

    def of(self, latent: int) -> Float[np.ndarray, " n_positions"]:
        """Activation of one latent at every position (float32)."""
        values = np.zeros(self.n_positions, dtype=np.float32)
        here = self.latent == latent
        values[self.position[here]] = self.value[here]
        return values


@torch.no_grad()
def active_latents(
    model: Model, sae: SAE, tokens: Int[Tensor, "1 pos"], *, n_leading: int = 1
) -> ActiveLatents:
    """All activations above 0 on one prompt.

    The first `n_leading` positions are no text and are left out: 1 for a prompt that begins with
    BOS, 0 for one that does not (`core.corpus.prompt_for` says which).

    Raises ValueError for several prompts, or none.
    """
    if tokens.dim() != 2 or len(tokens) != 1:
        raise ValueError(f"tokens are {list(tokens.shape)}; give one prompt as [1, pos].")
    activations = encode(sae, sae_inputs(model, sae, tokens))[0].float()
    activations[:n_leading] = 0
    position, latent = (activations > 0).nonzero(as_tuple=True)
    return ActiveLatents(
        n_positions=tokens.shape[1],
        position=position.cpu().numpy().astype(np.int32),
        latent=latent.cpu().numpy().astype(np.int32),
        value=activations[position, latent].cpu().numpy(),
    )
