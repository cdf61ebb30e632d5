"""How tokens feed latents, latents one another, and latents the logits: exact Jacobians."""

from core.gradients.latents import (
    LatentRoute,
    latent_route,
    latent_to_latent_gradients,
    latent_to_latent_gradients_attn,
)
from core.gradients.logits import LogitRoute, latent_to_logit_gradients, logit_route
from core.gradients.report import ReconstructionReport, SaeFit
from core.gradients.route import GradientOptions, Route
from core.gradients.sparse import SparseTensor
from core.gradients.tokens import TokenRoute, token_route, token_to_latent_gradients

__all__ = [
    "GradientOptions",
    "LatentRoute",
    "LogitRoute",
    "ReconstructionReport",
    "Route",
    "SaeFit",
    "SparseTensor",
    "TokenRoute",
    "latent_route",
    "latent_to_latent_gradients",
    "latent_to_latent_gradients_attn",
    "latent_to_logit_gradients",
    "logit_route",
    "token_route",
    "token_to_latent_gradients",
]
