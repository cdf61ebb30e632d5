"""The formulas of the modes, random directions, and what an intervention may name."""

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.steering.intervention import READS_LATENT, Intervention


def moved(
    mode: str,
    flat: Float[Tensor, "rows pos d"],
    directions: Float[Tensor, "rows k d"],
    unit: Float[Tensor, "rows pos k"],
    strength: Float[Tensor, "rows pos k"],
    now: Float[Tensor, "rows pos k"] | None,
) -> Float[Tensor, "rows pos k"]:
    """How far the stream is moved along each direction. `unit` is what one unit of activation
    writes, `now` the activations."""
    if mode in ("add", "renormalise"):
        return strength * unit
    if mode in READS_LATENT and now is not None:
        if mode == "ablate":
            return -now * unit
        gap = strength - now
        return (gap.clamp_min(0) if mode == "least" else gap) * unit
    component = torch.einsum("rpd,rkd->rpk", flat, directions)
    if mode == "scale":
        return (strength - 1) * component
    return torch.minimum(component, strength * unit) - component


def random_like(writes: Float[Tensor, "k d"], seed: int) -> Float[Tensor, "k d"]:
    """Directions uniform on the sphere, as long as those of `writes`; the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(writes.shape, generator=generator, dtype=torch.float64)
    drawn = drawn / drawn.norm(dim=-1, keepdim=True)
    return drawn.to(writes) * writes.norm(dim=-1, keepdim=True)


def check_intervention(sae: SAE, it: Intervention, n_prompt: int) -> None:
    d_sae = int(sae.cfg.d_sae)
    gate = [] if it.place.latent is None else [it.place.latent]
    for latent in (*it.latents, *gate):
        if not 0 <= latent < d_sae:
            raise ValueError(
                f"There is no latent {latent}; this SAE has {d_sae}, so choose 0 to {d_sae - 1}."
            )
    beyond = [it for it in it.place.positions if it >= n_prompt]
    if beyond:
        raise ValueError(
            f"The prompt has {n_prompt} tokens, so there is no token {beyond[0]} to steer; choose "
            f"0 to {n_prompt - 1}."
        )
