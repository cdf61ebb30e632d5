"""Explain latents in words, and test the words: do they tell where the latent fires?

    cfg = AutoInterpConfig(latents=[9, 11, 15], scoring=True)
    autointerp = AutoInterp(cfg, model, sae, token_set, endpoint=endpoint, store=store)
    data = autointerp.gather_data(progress=job.progress)
    autointerp.estimate(data).dollars
    results = autointerp.run(data=data, progress=job.progress)

The set-up is that of ARENA 1.3.3: an explainer sees some of the strongest examples with marks, a
judge gets the explanation and is to find the other strong examples among random ones, unmarked.

- `view`, `request`, `service`: what a link carries, what a run is made from, and who is asked
- `gather`, `collect`, `examples`: where latents fire, which places are kept, and who sees which
- `controls`, `negatives`: what scores are compared with, and texts that make them harder
- `roles`: who explains, judges and scores; `chat` and `prompts` by a chat model, `lexical` and
  `rules` by words, `patch_scoping` by the model itself
- `parsing`, `json_text`, `markdown`: from an answer to what it says
- `fuzzing`, `generation`, `simulation`, `detection_statistics`: further scores, and figures
- `output_choice`, `steered`: the output metric, and the steered texts that it is judged on
- `text_judge`: ratings of steered texts, for the page of steering
- `windows`, `prepare`, `explain`, `run`: the work of the page's jobs, under a lease
- `record`, `tables`, `figure`: a run as it is stored and shown
- `arena`: ARENA's class
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:
    from core.autointerp.arena import AutoInterp
    from core.autointerp.config import AutoInterpConfig
    from core.autointerp.examples import Example
    from core.autointerp.lexical import LexicalExplainer, LexicalJudge
    from core.autointerp.prompts import ExplainerOptions

__all__ = [
    "AutoInterp",
    "AutoInterpConfig",
    "Example",
    "ExplainerOptions",
    "LexicalExplainer",
    "LexicalJudge",
]
__getattr__ = lazily(
    __name__,
    {
        "AutoInterp": "arena",
        "AutoInterpConfig": "config",
        "Example": "examples",
        "ExplainerOptions": "prompts",
        "LexicalExplainer": "lexical",
        "LexicalJudge": "lexical",
    },
)
