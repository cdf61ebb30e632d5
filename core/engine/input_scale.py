"""The scale of an SAE's input that no file tells: measured once on a sample of text, and kept."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.hub import Progress

if TYPE_CHECKING:
    from core.corpus.documents import Corpus
    from core.store import Store

VERSION = 1


def docs() -> "Corpus":
    """The text at hand on every machine: the documentation of the installed packages."""
    from core.corpus.docs import docs_sample

    return docs_sample()


def complete(
    sae: Any,
    model: Any,
    *,
    store: "Store | None",
    corpus: "Callable[[], Corpus]" = docs,
    progress: Progress | None = None,
) -> None:
    """Fold the scale into an SAE that needs one; others are left as they are.

    For who holds the model. The factor is kept in the store under the fingerprints of weights and
    model, and the digest of the text. Raises ValueError where there is no text, or no scale in it.
    """
    from core.saes.normalisation import (
        ESTIMATE_TOKENS,
        NormEstimate,
        estimate_norm_factor,
        fold_norm_factor,
        needs_norm_factor,
    )

    if not needs_norm_factor(sae):
        return
    from core.corpus.load import default_packing, load_token_set
    from core.store import JSON, Key
    from core.store.fingerprint import fingerprint_of_model, fingerprint_of_sae

    if progress is not None:
        progress(0, None, "measuring the scale of the activations")
    text = corpus()
    key = Key(
        "input-scale",
        VERSION,
        {
            "model": fingerprint_of_model(model),
            "sae": fingerprint_of_sae(sae),
            "text": text.digest,
            "tokens": ESTIMATE_TOKENS,
        },
    )
    kept: Any = None if store is None else store.get(key, JSON)
    if kept is None:
        # As in training: contexts full of text, each with its BOS, whose norm counts.
        packing = default_packing(model, sae, layout="windows", include_bos=True)
        packing = replace(packing, max_tokens=ESTIMATE_TOKENS)
        tokens = load_token_set(text, copy.deepcopy(model.tokenizer), packing)
        found = estimate_norm_factor(model, sae, tokens)
        kept = [found.factor, found.n_tokens, found.standard_error]
        if store is not None:
            store.keep(key, kept, JSON)
    estimate = NormEstimate(*kept)
    source = (
        f"estimated here on {estimate.n_tokens:,} tokens of {text.name} "
        f"(± {estimate.standard_error:.2g})"
    )
    fold_norm_factor(sae, estimate.factor, source=source)
