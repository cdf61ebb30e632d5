"""Which latents matter in a text? By activation, against their own distribution, by the loss.

found = active_latents(model, sae, model.to_tokens(text))
strongest = found.per_latent()
effects = ablation_effects(model, sae, tokens, strongest["latent"].to_numpy()[:50])
"""

from core.prompt_latents.ablation import AblationEffects, ablation_effects
from core.prompt_latents.active import ActiveLatents, active_latents
from core.prompt_latents.quantile import activation_quantiles

__all__ = [
    "AblationEffects",
    "ActiveLatents",
    "ablation_effects",
    "activation_quantiles",
    "active_latents",
]
