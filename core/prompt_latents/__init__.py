"""Which latents matter in a text? By activation, against their own distribution, by the loss.

    read = read_prompt(PlainLease(model, [sae]), text)
    effects = ablate(PlainLease(model, [sae]), read, 50)
    table = ranked(latents_table(read, effects=effects), "effect")

- `active`: what fires where in a text
- `ablation`: what the model loses without a latent
- `ranking`: the active latents as tables
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:
    from core.prompt_latents.ablation import AblationEffects, ablation_effects
    from core.prompt_latents.active import ActiveLatents, active_latents
    from core.prompt_latents.ranking import activation_quantiles

__all__ = [
    "AblationEffects",
    "ActiveLatents",
    "ablation_effects",
    "activation_quantiles",
    "active_latents",
]
__getattr__ = lazily(
    __name__,
    {
        "AblationEffects": "ablation",
        "ActiveLatents": "active",
        "ablation_effects": "ablation",
        "activation_quantiles": "ranking",
        "active_latents": "active",
    },
)
