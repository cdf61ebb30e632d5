"""The two ends of a route: what an SAE's active latents write, and what they read."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.gradients.jacobian import Entries
from core.gradients.rows import encoder_rows
from core.gradients.sparse import SparseTensor
from core.saes import decode, encode, sae_hook_name, sae_layer
from core.saes.writes import writes_at

KeepError = Literal["nowhere", "first", "everywhere"]
"""Positions at which the SAE's error is added to its reconstruction, which gives what the model
itself has there: at none, at the first (an attention sink that many SAEs were not trained on), or
at all."""

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
    """Such as "F3" for latents of the stream before layer 3, "F3post" after it, "A3", "M3"."""
    site = written_site(sae) if hasattr(sae.cfg, "d_out") else sae_hook_name(sae)
    letter = next((it for end, it in _SITE_LETTERS.items() if site.endswith(end)), "F")
    layer = sae_layer(sae)
    after = "post" if site.endswith("hook_resid_post") else ""
    return f"{letter}{'' if layer is None else layer}{after}"


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
    rows = writes_at(sae, latents, read[items, positions])
    return base, Entries(items, positions, rows)


def with_error(
    reconstruction: Float[Tensor, "batch pos ..."],
    clean: Float[Tensor, "batch pos ..."],
    keep_error: KeepError,
) -> Float[Tensor, "batch pos ..."]:
    """The reconstruction, at the positions of `keep_error` the clean activations of its site.

    Raises:
        ValueError: an unknown choice of positions.
    """
    if keep_error not in ("nowhere", "first", "everywhere"):
        raise ValueError(
            f"Unknown positions {keep_error!r} for the SAE's error; use 'nowhere', 'first' or "
            "'everywhere'."
        )
    base = reconstruction.clone()
    kept = {"nowhere": slice(0, 0), "first": slice(0, 1), "everywhere": slice(None)}[keep_error]
    base[:, kept] = clean[:, kept].reshape(base[:, kept].shape).to(base)
    return base


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
