"""A model explains a latent by itself: its direction stands for a word that the model defines.

- `prompt`, `templates`: the question, and where the placeholder stands in its tokens
- `directions`, `inject`: what takes the placeholder's place
- `generation`, `sampling`, `kv_cache`: many answers in one batch
- `diagnostics`, `scale_tuning`, `standing`: which scale speaks, and whether anything does
- `sweep`: scales, latents, layers and prompts at once; `figure` draws it
- `seed_api`: one latent at one scale
"""

from core.patch_scoping.scale_tuning import scale_tuning
from core.patch_scoping.seed_api import (
    generate_patch_scoping_explanation,
    hook_fn_patch_scoping,
)
from core.patch_scoping.sweep import Sweep, SweepConfig, sweep
from core.patch_scoping.templates import TEMPLATES, template_prompt

__all__ = [
    "TEMPLATES",
    "Sweep",
    "SweepConfig",
    "generate_patch_scoping_explanation",
    "hook_fn_patch_scoping",
    "scale_tuning",
    "sweep",
    "template_prompt",
]
