"""The two ends of a route: what an SAE's active latents write, and what they read."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.gradients.jacobian import Entries
from core.gradients.rows import decoder_rows, encoder_rows
from core.gradients.sparse import SparseTensor
from core.saes import decode, encode, sae_hook_name, sae_layer

_SITE_LETTERS = {"hook_z": "A", "hook_attn_out": "A", "hook_mlp_out": "M"}


def written_site(sae: SAE) -> str:
    """Site that the SAE's output belongs to: for a transcoder another than it reads.

    Raises:
        ValueError: a transcoder whose metadata does not say.
    """
    if not hasattr(sae.cfg, "d_out"):
        return sae_hook_name(sae)
    written = sae.cfg.metadata.hook_name_out
    if not isinstance(written, str):
        raise ValueError(
            "The transcoder does not say which site it writes; add hook_name_out to metadata in "
            "its cfg.json."
        )
    return written


def latent_name(sae: SAE) -> str:
    """Such as "F3" for latents of the residual stream of layer 3, "A3" attention, "M3" MLP."""
    site = written_site(sae) if hasattr(sae.cfg, "d_out") else sae_hook_name(sae)
    letter = next((it for end, it in _SITE_LETTERS.items() if site.endswith(end)), "F")
    layer = sae_layer(sae)
    return f"{letter}{'' if layer is None else layer}"


@torch.no_grad()
def written_by(
    sae: SAE, acts: SparseTensor, read: Float[Tensor, "batch pos ..."]
) -> tuple[Float[Tensor, "batch pos ..."], Entries]:
    """What all active latents write together, and what each adds to it per unit.

    `read` is what the SAE encoded. A skip transcoder's linear part is in the first, as constant.
    """
    base = decode(sae, acts.dense, like=read)
    skip = getattr(sae, "W_skip", None)
    if isinstance(skip, Tensor):
        base = base + read.to(skip) @ skip.T
    items, positions, latents = acts.sparse[1].unbind(-1)
    rows = decoder_rows(sae, latents, read[items, positions])
    return base, Entries(items, positions, rows)


def read_by(sae: SAE, acts: SparseTensor, read: Float[Tensor, "batch pos ..."]) -> Entries:
    """How each active latent depends on `read`, the activations at its position."""
    items, positions, latents = acts.sparse[1].unbind(-1)
    return Entries(items, positions, encoder_rows(sae, read[items, positions], latents))


def reader_of(
    sae: SAE,
) -> Callable[[Float[Tensor, "m ..."], Int[Tensor, " m"]], Float[Tensor, " m"]]:
    """Function that says what given latents really come to, thresholds included."""

    @torch.no_grad()
    def read(activations: Tensor, latents: Tensor) -> Tensor:
        return encode(sae, activations).gather(-1, latents[:, None])[:, 0]

    return read
