"""Which kinds of tokens does each latent push up or down? Enrichment of token sets in its logits.

    sets = builtin_sets(core.tokens.vocabulary_texts(model))
    found = enrich(residual_directions(model, sae, range(sae.cfg.d_sae)), model.W_U, sets)

As gene set enrichment analysis (Subramanian et al., 2005) with tokens for genes: tokens are sorted
by a latent's logit, and a running sum goes up at the tokens of a set and down at the others.
"""

from core.enrichment.builtin import builtin_sets
from core.enrichment.null import log_p_value, permutation_p_values
from core.enrichment.run import Enrichment, RunningSum, enrich, one_latent, running_sum
from core.enrichment.score import enrichment_scores
from core.enrichment.token_sets import TokenSets
from core.enrichment.user_sets import WordList, match_words, read_word_lists

__all__ = [
    "Enrichment",
    "RunningSum",
    "TokenSets",
    "WordList",
    "builtin_sets",
    "enrich",
    "enrichment_scores",
    "log_p_value",
    "match_words",
    "one_latent",
    "permutation_p_values",
    "read_word_lists",
    "running_sum",
]
