"""Every firing of SAEs on a text, kept: which latents of any SAE fire on these tokens?

Beside the index of examples (`core.activations`), which keeps the best of each latent, lie all
activations above 0, as Parquet files of (row, position, latent, value), sorted in that order: any
tool that reads Parquet reads them, and questions over all SAEs need no model.

    kept = make_firings(lease, store, request)
    masks = [places_of_regex(one.token_set, texts, r"numpy\\.\\w+") for one in kept]
    table = ranked(firing_at(kept, masks), "specificity")
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:  # imported when first used: pages are drawn before torch is there
    from core.firings.kept import Kept, kept_firings
    from core.firings.make import make_firings
    from core.firings.places import places_of_regex, places_of_tokens, tokens_named
    from core.firings.search import conditional_histogram, firing_at, places_of_latent, ranked

__all__ = [
    "Kept",
    "conditional_histogram",
    "firing_at",
    "kept_firings",
    "make_firings",
    "places_of_latent",
    "places_of_regex",
    "places_of_tokens",
    "ranked",
    "tokens_named",
]
__getattr__ = lazily(
    __name__,
    {
        "Kept": "kept",
        "conditional_histogram": "search",
        "firing_at": "search",
        "kept_firings": "kept",
        "make_firings": "make",
        "places_of_latent": "search",
        "places_of_regex": "places",
        "places_of_tokens": "places",
        "ranked": "search",
        "tokens_named": "places",
    },
)
