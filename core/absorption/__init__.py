"""Feature absorption: where a latent should fire and does not, which other latent does instead?

The two measures of SAEBench (`measure`), for any concept that labels positions, on any site.

- `sites`: positions of a text, or of the vocabulary alone, with what model and SAE have there
- `concepts`, `text_lists`: which positions a concept is true of: sets of tokens, a latent of a
  narrower SAE, or the first of two lists of texts
- `probe`, `sparse_probe`: the concept's direction in the model, and the latents that carry it
- `measure`, `analyse`, `nulls`: full absorption and absorption fraction, with intervals and three
  nulls
- `exceptions`: the same asked from one latent
- `spelling`: prompts that ask for first letters, where the model answers them
- `effects`: whether the model's answer rests on an absorbing latent, by integrated gradients
- `run`, `reading`: all of it under a lease, stored; `tables` and `figures` show it, `view` is its
  link
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:  # they bring torch
    from core.absorption.analyse import AbsorptionConfig, absorption_of
    from core.absorption.concepts import Concept, latent_concept, token_concepts
    from core.absorption.exceptions import exceptions_of
    from core.absorption.result import ConceptResult
    from core.absorption.sites import Sites, text_sites, vocabulary_sites

__all__ = [
    "AbsorptionConfig",
    "Concept",
    "ConceptResult",
    "Sites",
    "absorption_of",
    "exceptions_of",
    "latent_concept",
    "text_sites",
    "token_concepts",
    "vocabulary_sites",
]
__getattr__ = lazily(
    __name__,
    {
        "AbsorptionConfig": "analyse",
        "Concept": "concepts",
        "ConceptResult": "result",
        "Sites": "sites",
        "absorption_of": "analyse",
        "exceptions_of": "exceptions",
        "latent_concept": "concepts",
        "text_sites": "sites",
        "token_concepts": "concepts",
        "vocabulary_sites": "sites",
    },
)
