"""A model explains a latent by itself: its direction stands for a word that the model defines.

- `view`, `question`: what a link carries, who is asked and what
- `prompt`: the question as tokens, and where the placeholder stands in them
- `injection`, `generation`, `sampling`: what takes the placeholder's place, and the answers
- `diagnostics`, `scale_ranking`, `null_distribution`: which scale speaks, and whether anything does
- `sweep`, `controls`: scales, latents, layers and prompts at once; `figure` and `tables` show them
- `run`: the work of the page's jobs, under a lease
- `arena`: ARENA's functions
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:
    from core.patch_scoping.arena import (
        generate_patch_scoping_explanation,
        hook_fn_patch_scoping,
        scale_tuning,
    )

__all__ = ["generate_patch_scoping_explanation", "hook_fn_patch_scoping", "scale_tuning"]
__getattr__ = lazily(__name__, dict.fromkeys(__all__, "arena"))
