"""Which latents matter in a text? By activation, against their own distribution, by the loss.

prompt = prompt_for(model, [sae], text)  # of core.corpus
found = active_latents(model, sae, prompt.tokens, n_leading=prompt.n_leading)
strongest = found.per_latent()["latent"].to_numpy()[:50]
effects = ablation_effects(model, sae, prompt.tokens, strongest, n_leading=prompt.n_leading)
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
