"""How tokens feed latents, latents one another, and latents the logits: exact Jacobians.

What notebooks call is imported when first asked for, because the page reads its link
(`core.gradients.page_view`) before torch is there.
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:
    from core.gradients.sparse import SparseTensor
    from core.gradients.to_latents import (
        latent_to_latent_gradients,
        latent_to_latent_gradients_attn,
        token_to_latent_gradients,
    )
    from core.gradients.to_logits import latent_to_logit_gradients

__all__ = [
    "SparseTensor",
    "latent_to_latent_gradients",
    "latent_to_latent_gradients_attn",
    "latent_to_logit_gradients",
    "token_to_latent_gradients",
]

__getattr__ = lazily(
    __name__,
    {
        "SparseTensor": "sparse",
        "latent_to_latent_gradients": "to_latents",
        "latent_to_latent_gradients_attn": "to_latents",
        "latent_to_logit_gradients": "to_logits",
        "token_to_latent_gradients": "to_latents",
    },
)
