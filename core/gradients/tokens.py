"""How the tokens of the prompt feed latents.

A token is not a number, so each position's embedding (token and position together) is given a
scale; the derivative is with respect to that scale, at 1.
"""

from dataclasses import dataclass, replace
from typing import Unpack

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.gradients.ends import latent_name, latents_at, read_by, reader_of
from core.gradients.jacobian import Entries
from core.gradients.route import GradientOptions, Route, freezing, narrowing, pass_options
from core.gradients.segment import checked_tokens, open_segment
from core.gradients.sparse import SparseTensor
from core.models.hooks import Model
from core.saes import check_fits, sae_hook_name

EMBEDDING_SUM = "blocks.0.hook_resid_pre"
"""Where token and position embeddings have been added."""


@dataclass(frozen=True)
class TokenRoute:
    """A route from scales of embeddings to latents."""

    route: Route
    """From one source a position, of value 1, to the active latents."""
    acts: SparseTensor
    """The latents, [batch, pos, d_sae]."""


def token_to_latent_gradients(
    tokens: Int[Tensor, "batch pos"],
    sae: SAE,
    model: Model,
    **options: Unpack[GradientOptions],
) -> tuple[Float[Tensor, "batch pos n_active"], SparseTensor]:
    """Gradients of all active latents with respect to a scale on each position's embedding.

    Returns:
        gradients [batch, pos, n_active]; the last index counts the entries of acts
        acts: the latents on the clean prompt

    `options` are those of `GradientOptions`; positions and max_to keep only some latents (in acts
    as well), all tokens stay.

    Raises:
        ValueError: a prompt the model cannot take, or an SAE that does not fit it.
    """
    found = token_route(tokens, sae, model, **freezing(options))
    kept = narrowing(found.route, options, of_sources=False)["targets"]
    if kept is not None:
        found = replace(found, route=found.route.restrict(targets=kept), acts=found.acts.keep(kept))
    gradients = found.route.gradients(**pass_options(options))
    return gradients.T.reshape(*found.route.base.shape[:2], -1), found.acts


@torch.no_grad()
def token_route(
    tokens: Int[Tensor, "batch pos"],
    sae: SAE,
    model: Model,
    *,
    freeze_attention: bool = False,
    freeze_layer_norm: bool = False,
) -> TokenRoute:
    """The route from the tokens to an SAE's latents, not yet differentiated."""
    tokens = checked_tokens(model, tokens)
    check_fits(sae, model)
    with torch.inference_mode(False):
        segment, clean = open_segment(
            model,
            tokens,
            EMBEDDING_SUM,
            sae_hook_name(sae),
            freeze_attention=freeze_attention,
            freeze_layer_norm=freeze_layer_norm,
        )
        embeddings = clean["source"]
        acts = latents_at(sae, clean["target"])
        places = torch.ones_like(tokens, dtype=torch.bool).argwhere()
        items, positions = places.unbind(-1)
        route = Route(
            segment=segment,
            base=embeddings,
            sources=Entries(items, positions, embeddings[items, positions]),
            source_indices=torch.cat([places, tokens[items, positions, None]], dim=-1),
            source_values=embeddings.new_ones(len(places)),
            source_name="token",
            targets=read_by(sae, acts, clean["target"]),
            target_indices=acts.sparse[1],
            target_values=acts.sparse[0],
            target_name=latent_name(sae),
            read=reader_of(sae),
        )
    return TokenRoute(route, acts)
