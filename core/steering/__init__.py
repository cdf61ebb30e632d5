"""Steering: what does the model write when a latent is made to speak, and what breaks?

    steered = steer(model, sae, "I think that", [Intervention((7,), (8.0,))])
    strengths = strengths_at_kl(model, sae, [Intervention((7,), (1.0,))], text, target=0.5)

- `intervention`: what is done, to which latents, how strongly and where
- `steerer`: hooks that do it, for a batch of rows, also under the KV cache
- `strengths`, `effects`: strengths in several units, and what an intervention does to predictions
- `texts`: texts in a batch, and what they are made of
- `downstream`, `token_change`: what a latent is at afterwards, and which tokens come more often
- `scores`, `peaks`: which latents are worth steering
- `run`, `live`, `result`, `score_run`: the work of the page's jobs, under a lease
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:
    from core.steering.intervention import Intervention, Place
    from core.steering.peaks import input_scores
    from core.steering.scores import output_scores
    from core.steering.steerer import Steerer
    from core.steering.strengths import strengths_at_kl
    from core.steering.texts import steer

__all__ = [
    "Intervention",
    "Place",
    "Steerer",
    "input_scores",
    "output_scores",
    "steer",
    "strengths_at_kl",
]
__getattr__ = lazily(
    __name__,
    {
        "Intervention": "intervention",
        "Place": "intervention",
        "Steerer": "steerer",
        "input_scores": "peaks",
        "output_scores": "scores",
        "steer": "texts",
        "strengths_at_kl": "strengths",
    },
)
