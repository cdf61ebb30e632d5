"""How tokens feed latents, and latents feed later latents.

A token is not a number, so each position's embedding (token and position together) is given a
scale; the derivative is with respect to that scale, at 1.

Between latents, the earlier SAE's reconstruction takes the place of its site; the rest of the
model, up to the site of the later SAE, turns it into the *reconstructed* later latents, whose
derivatives with respect to the earlier latents are taken. The residual stream that enters the
earlier SAE's layer is that of the clean run: for SAEs of the stream itself it is replaced, for
those of attention or MLP it flows past them.
"""

from dataclasses import dataclass, replace
from typing import Unpack

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.bos import n_leading
from core.gradients.ends import (
    KeepError,
    add_sae_error,
    decoder_entries,
    encoder_entries,
    fit_at,
    fit_of_reader,
    latent_name,
    latents_at,
    reader_of,
)
from core.gradients.jacobian import Entries
from core.gradients.prompt import checked_tokens
from core.gradients.reconstruction import ReconstructionReport, reconstruction_report
from core.gradients.route import GradientOptions, Route, freezing, narrowing, pass_options
from core.gradients.segment import open_segment
from core.gradients.sparse import SparseTensor
from core.models.hooks import Model
from core.saes import check_fits, sae_hook_name
from core.saes.writes import written_site

EMBEDDING_SUM = "blocks.0.hook_resid_pre"
"""Where token and position embeddings have been added."""


@dataclass(frozen=True)
class LatentRoute:
    """A route from latents to later latents, with the latents at both of its ends."""

    route: Route
    """From the earlier latents to the later ones as reconstructed."""
    acts_prev: SparseTensor
    """Earlier latents on the clean prompt, [batch, pos, d_sae]."""
    acts_next: SparseTensor
    """Later latents on the clean prompt."""
    acts_next_recon: SparseTensor
    """Later latents when the earlier site holds its SAE's reconstruction."""
    report: ReconstructionReport
    """How far the two later ones agree, and how well the SAEs reconstruct."""

    def restrict(
        self, *, sources: Int[Tensor, " m"] | None = None, targets: Int[Tensor, " n"] | None = None
    ) -> "LatentRoute":
        """Only these sources and targets, by number: the activations lose the others as well."""
        prev, recon = self.acts_prev, self.acts_next_recon
        return replace(
            self,
            route=self.route.restrict(sources=sources, targets=targets),
            acts_prev=prev if sources is None else prev.keep(sources),
            acts_next_recon=recon if targets is None else recon.keep(targets),
        )


def latent_to_latent_gradients(
    tokens: Int[Tensor, "batch pos"],
    sae_from: SAE,
    sae_to: SAE,
    model: Model,
    **options: Unpack[GradientOptions],
) -> tuple[Float[Tensor, "n_next n_prev"], SparseTensor, SparseTensor, SparseTensor]:
    """Gradients of all later latents with respect to all earlier ones that are active.

    Returns:
        gradients [n_next, n_prev]; row i belongs to entry i of acts_next_recon, column j to entry
            j of acts_prev
        acts_prev: the earlier latents on the clean prompt
        acts_next: the later latents on the clean prompt
        acts_next_recon: the later latents computed from the earlier SAE's reconstruction

    `options` are those of `GradientOptions`. Where they restrict sources or targets, acts_prev and
    acts_next_recon hold only what was kept, so that they still name the rows and columns.

    Raises:
        ValueError: a prompt the model cannot take, an SAE that does not fit it, or an earlier
            SAE that is not earlier.
    """
    latents = latent_route(
        tokens,
        sae_from,
        sae_to,
        model,
        **freezing(options),
        keep_error=options.get("keep_error", "nowhere"),
    )
    latents = latents.restrict(**narrowing(latents.route, options))
    gradients = latents.route.gradients(**pass_options(options))
    return gradients, latents.acts_prev, latents.acts_next, latents.acts_next_recon


def latent_to_latent_gradients_attn(
    tokens: Int[Tensor, "batch pos"],
    sae_from: SAE,
    sae_to: SAE,
    model: Model,
    **options: Unpack[GradientOptions],
) -> tuple[Float[Tensor, "n_next n_prev"], SparseTensor, SparseTensor, SparseTensor]:
    """As `latent_to_latent_gradients`, for two SAEs of attention outputs (hook_z).

    The earlier layer's heads write the reconstruction instead of what they found, while the stream
    they read stays clean. Later attention patterns are live, so that what the earlier latents do
    to queries and keys counts (the composition of an induction circuit).
    """
    for sae in (sae_from, sae_to):
        if not sae_hook_name(sae).endswith("hook_z"):
            raise ValueError(
                f"The SAE at {sae_hook_name(sae)} does not read attention heads (hook_z); use "
                "latent_to_latent_gradients for it."
            )
    return latent_to_latent_gradients(tokens, sae_from, sae_to, model, **options)


@torch.no_grad()
def latent_route(
    tokens: Int[Tensor, "batch pos"],
    sae_from: SAE,
    sae_to: SAE,
    model: Model,
    *,
    freeze_attention: bool = False,
    freeze_layer_norm: bool = False,
    keep_error: KeepError = "nowhere",
) -> LatentRoute:
    """The route from one SAE's latents to another's, not yet differentiated."""
    tokens = checked_tokens(model, tokens)
    for sae in (sae_from, sae_to):
        check_fits(sae, model)
    with torch.inference_mode(False):
        segment, clean = open_segment(
            model,
            tokens,
            written_site(sae_from),
            sae_hook_name(sae_to),
            freeze_attention=freeze_attention,
            freeze_layer_norm=freeze_layer_norm,
            also_cache=[sae_hook_name(sae_from)],
        )
        read = clean[sae_hook_name(sae_from)]
        acts_prev = latents_at(sae_from, read)
        acts_next = latents_at(sae_to, clean["target"])
        reconstruction, sources = decoder_entries(sae_from, acts_prev, read)
        base = add_sae_error(reconstruction, clean["source"], keep_error)
        everything = torch.arange(len(tokens), device=tokens.device)
        reached = segment.run(base, everything)
        acts_next_recon = latents_at(sae_to, reached)
        route = Route(
            segment=segment,
            base=base,
            sources=sources,
            source_indices=acts_prev.sparse[1],
            source_values=acts_prev.sparse[0],
            source_name=latent_name(sae_from),
            targets=encoder_entries(sae_to, acts_next_recon, reached),
            target_indices=acts_next_recon.sparse[1],
            target_values=acts_next_recon.sparse[0],
            target_name=latent_name(sae_to),
            read=reader_of(sae_to),
        )
    report = reconstruction_report(
        acts_next,
        acts_next_recon,
        source=fit_at(
            sae_from,
            clean["source"],
            reconstruction,
            n_leading=n_leading(model, [sae_from], tokens),
        ),
        target=fit_of_reader(sae_to, clean["target"], n_leading=n_leading(model, [sae_to], tokens)),
    )
    return LatentRoute(route, acts_prev, acts_next, acts_next_recon, report)


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
            targets=encoder_entries(sae, acts, clean["target"]),
            target_indices=acts.sparse[1],
            target_values=acts.sparse[0],
            target_name=latent_name(sae),
            read=reader_of(sae),
        )
    return TokenRoute(route, acts)
