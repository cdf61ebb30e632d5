"""The two ends of a route: what an SAE's active latents write, and what they read."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.gradients.jacobian import Entries
from core.gradients.reconstruction import SaeFit, sae_fit
from core.gradients.rows import encoder_rows
from core.gradients.sparse import SparseTensor
from core.saes import (
    decode,
    encode,
    head_of,
    put_at_site,
    read_at_site,
    reconstruct,
    sae_layer,
)
from core.saes.site import rows_at_site
from core.saes.writes import writes_at, written_site

KeepError = Literal["nowhere", "first", "everywhere"]
"""Positions at which the SAE's error is added to its reconstruction, which gives what the model
itself has there: at none, at the first (an attention sink that many SAEs were not trained on), or
at all."""

_SITE_LETTERS = {"hook_z": "A", "hook_attn_out": "A", "hook_mlp_out": "M"}


def latent_name(sae: SAE) -> str:
    """Such as "F3" for latents of the stream before layer 3, "F3post" after it, "A3", "M3".

    "A3h5" for those of head 5 alone.
    """
    site = written_site(sae)
    letter = next((initial for end, initial in _SITE_LETTERS.items() if site.endswith(end)), "F")
    layer = sae_layer(sae)
    after = "post" if site.endswith("hook_resid_post") else ""
    head = head_of(sae)
    single = "" if head is None else f"h{head}"
    return f"{letter}{'' if layer is None else layer}{after}{single}"


@torch.no_grad()
def decoder_entries(
    sae: SAE, acts: SparseTensor, read: Float[Tensor, "batch pos ..."]
) -> tuple[Float[Tensor, "batch pos ..."], Entries]:
    """What all active latents write together, and what each adds to it per unit.

    `read` is the whole site that the SAE reads; so are what is given back and the rows. Beside an
    SAE of a single head the others stay as they are. A skip transcoder's linear part is in the
    first, as constant.
    """
    part = read_at_site(sae, read)
    base = decode(sae, acts.dense, like=part)
    skip = getattr(sae, "W_skip", None)
    if isinstance(skip, Tensor):
        base = base + part.to(skip) @ skip.T
    items, positions, latents = acts.sparse[1].unbind(-1)
    rows = writes_at(sae, latents, part[items, positions])
    if head_of(sae) is not None:
        base = put_at_site(sae, read.to(base), base)
        rows = rows_at_site(sae, rows, tuple(read.shape[2:]))
    return base, Entries(items, positions, rows)


@torch.no_grad()
def latents_at(sae: SAE, site: Float[Tensor, "batch pos ..."]) -> SparseTensor:
    """The SAE's active latents where its whole site holds `site`."""
    return SparseTensor.from_dense(encode(sae, read_at_site(sae, site)))


def fit_at(
    sae: SAE,
    site: Float[Tensor, "batch pos ..."],
    rebuilt: Float[Tensor, "batch pos ..."],
    *,
    n_leading: int,
) -> SaeFit:
    """How well `rebuilt` stands for `site`, at what the SAE writes of it; see `sae_fit`."""
    return sae_fit(read_at_site(sae, site), read_at_site(sae, rebuilt), n_leading=n_leading)


def fit_of_reader(sae: SAE, site: Float[Tensor, "batch pos ..."], *, n_leading: int) -> SaeFit:
    """How well the SAE reconstructs what it reads; NaN for a transcoder, which writes elsewhere."""
    if hasattr(sae.cfg, "d_out"):
        return SaeFit(float("nan"), float("nan"))
    part = read_at_site(sae, site)
    return sae_fit(part, reconstruct(sae, part), n_leading=n_leading)


def add_sae_error(
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


def encoder_entries(sae: SAE, acts: SparseTensor, read: Float[Tensor, "batch pos ..."]) -> Entries:
    """How each active latent depends on `read`, the activations of its site at its position."""
    items, positions, latents = acts.sparse[1].unbind(-1)
    return Entries(items, positions, rows_read(sae, read[items, positions], latents))


def rows_read(
    sae: SAE, site: Float[Tensor, "n ..."], latents: Int[Tensor, " n"]
) -> Float[Tensor, "n d_site"]:
    """Derivative of each active latent with respect to its whole site, flattened."""
    rows = encoder_rows(sae, read_at_site(sae, site), latents)
    return rows_at_site(sae, rows, tuple(site.shape[1:]))


def reader_of(
    sae: SAE,
) -> Callable[[Float[Tensor, "m ..."], Int[Tensor, " m"]], Float[Tensor, " m"]]:
    """Function that says what given latents really come to, thresholds included."""

    @torch.no_grad()
    def read(activations: Tensor, latents: Tensor) -> Tensor:
        return encode(sae, read_at_site(sae, activations)).gather(-1, latents[:, None])[:, 0]

    return read
