"""Which part of a site does an SAE read? All of it, or one of its heads.

The activations of a site come from the model whole. An SAE of a single head (`hook_head_index` in
its metadata) reads and writes that head's numbers only; the other heads are none of its business.
Everything that gives an SAE activations of its site, or puts something in their place, goes through
here, so that the head is chosen in one place.
"""

import math

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.models.hooks import Model, cache_sites

_SITES_OF_HEADS = ("hook_z", "hook_q", "hook_k", "hook_v", "hook_result")


def head_of(sae: SAE) -> int | None:
    """Head that the SAE reads alone; None for an SAE of a whole site."""
    head = sae.cfg.metadata.hook_head_index
    return None if head is None else int(head)


def reads_heads(sae: SAE) -> bool:
    """Whether the SAE reads all heads of its site, one after the other: `[n_heads * d_head]`."""
    if head_of(sae) is not None:
        return False
    hook_name = str(sae.cfg.metadata.hook_name)
    return sae.cfg.reshape_activations == "hook_z" or hook_name.endswith(_SITES_OF_HEADS)


def read_at_site(sae: SAE, site: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """What the SAE reads of its site's activations: those of its head, `[..., d_in]`, or all.

    `site` is what the model has there, `[..., n_heads, d_head]` for an SAE of a single head. Raises
    ValueError for a head that is not there.
    """
    head = head_of(sae)
    if head is None:
        return site
    check_head(sae, tuple(site.shape[-2:]))
    return site[..., head, :]


def put_at_site(
    sae: SAE, site: Float[Tensor, "..."], new: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """The site's activations with `new` in place of what the SAE reads; other heads stay.

    Has the shape, dtype and device of `site`. Raises ValueError where the sizes do not fit.
    """
    head = head_of(sae)
    part = read_at_site(sae, site)
    if new.numel() != part.numel():
        raise ValueError(
            f"There are {list(new.shape)} numbers to put where the SAE reads {list(part.shape)}."
        )
    new = new.reshape(part.shape).to(site)
    if head is None:
        return new
    heads = [site[..., :head, :], new[..., None, :], site[..., head + 1 :, :]]
    return torch.cat(heads, dim=-2)


def rows_at_site(
    sae: SAE, rows: Float[Tensor, "n d_in"], site_shape: tuple[int, ...]
) -> Float[Tensor, "n d_site"]:
    """Directions of the SAE as directions of its whole site, flattened: 0 at other heads.

    `site_shape` is that of one position there: (n_heads, d_head), or (d_model,).
    """
    head = head_of(sae)
    if head is None:
        return rows
    check_head(sae, site_shape)
    n_heads, d_head = site_shape
    whole = rows.new_zeros(len(rows), n_heads, d_head)
    whole[:, head] = rows
    return whole.flatten(1)


@torch.no_grad()
def sae_inputs(
    model: Model, sae: SAE, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos ..."]:
    """What the SAE reads in a run of the model on `tokens`; `encode` takes it as it is."""
    hook_name = sae.cfg.metadata.hook_name
    return read_at_site(sae, cache_sites(model, tokens, [hook_name])[hook_name])


def check_head(sae: SAE, site_shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a position of such a site has the head that the SAE reads."""
    head, d_in = head_of(sae), sae.cfg.d_in
    if head is None:
        return
    hook_name = sae.cfg.metadata.hook_name
    if len(site_shape) != 2:
        raise ValueError(
            f"The SAE reads head {head} of {hook_name}, where activations of shape "
            f"{list(site_shape)} are not divided into heads; take hook_head_index out of its "
            "cfg.json, or choose another SAE."
        )
    n_heads, width = site_shape
    if width != d_in:
        raise ValueError(
            f"The SAE reads {d_in} numbers of head {head} of {hook_name}, whose heads have {width} "
            f"({math.prod(site_shape)} together); choose an SAE of this model."
        )
    if not 0 <= head < n_heads:
        raise ValueError(
            f"The SAE reads head {head} of {hook_name}, which has heads 0 to {n_heads - 1}; "
            "correct hook_head_index in its cfg.json, or choose an SAE of this model."
        )
