"""What can be said of every latent of an indexed SAE: a description, and its logits' skewness."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from core.activations import open_index
from core.activations.text_index import OpenIndex
from core.descriptions.offline import DESCRIBER_VERSION, describe_latents
from core.descriptions.saved import load_user_descriptions
from core.descriptions.table import OFFLINE, Descriptions
from core.engine import Engine
from core.jobs.progress import Progress
from core.lease import SaeName
from core.logit_statistics import logit_moments
from core.saes.writes import WRITES_VERSION
from core.splitting.tokens import all_directions, top_token_ids
from core.store import ARRAYS, JSON, Key, Store
from core.tokens import whole_characters

# As for the map of feature splitting, so that both pages say the same of a latent.
_N_TOP = 12
_BEFORE = _AFTER = 8
_N_TOKENS = 10
_VERSION = 1


@dataclass(frozen=True, eq=False)
class AboutAll:
    """All latents of one SAE."""

    offline: Descriptions
    """What the offline describer says of each."""
    logit_skew: Float[np.ndarray, " d_sae"]
    """Skewness of each latent's effects on the vocabulary; NaN where it has none."""


def about_all(
    engine: Engine,
    store: Store,
    model: str,
    sae: SaeName,
    index: OpenIndex,
    progress: Progress,
) -> AboutAll:
    """Descriptions and skewness of every latent, from the store or made now.

    Raises ValueError when the index has left the store, or for a site that does not write to the
    residual stream.
    """
    kept = stored(store, index)
    if kept is not None:
        return kept
    with engine.use(model, [sae]) as (loaded, (found,)):
        directions, W_U = all_directions(loaded, found), loaded.W_U.detach().clone()
    moments = logit_moments(directions, W_U, progress=progress)
    tokens = top_token_ids(directions, W_U, _N_TOKENS, store=store, progress=progress)
    whole = open_index(store, index.key)
    if whole is None:
        raise ValueError("The index was removed from the disk meanwhile; try again.")
    windows, vocabulary = whole_characters(
        index.token_set.windows(whole.top_places[:, :_N_TOP], _BEFORE, _AFTER), index.vocabulary
    )
    texts = describe_latents(
        windows,
        whole.top_values[:, :_N_TOP],
        vocabulary,
        n_before=_BEFORE,
        boosted=tokens.boosted,
        special_ids=index.special_ids,
        progress=progress,
    ).texts
    key = _key(index)
    store.put(key, {"logit_skew": moments.skewness}, ARRAYS)
    store.put(key, list(texts), JSON)
    return AboutAll(Descriptions.from_texts(texts, source=OFFLINE), moments.skewness)


def stored(store: Store, index: OpenIndex) -> AboutAll | None:
    """What was made before."""
    key = _key(index)
    arrays, texts = store.get(key, ARRAYS), store.get(key, JSON)
    if arrays is None or texts is None:
        return None
    return AboutAll(Descriptions.from_texts(texts, source=OFFLINE), arrays["logit_skew"])


def best_texts(
    store: Store,
    index: OpenIndex,
    *,
    published: Descriptions | None = None,
    offline: Descriptions | None = None,
) -> Descriptions:
    """One description of each latent: the user's, else the published, else the offline one."""
    d_sae = index.d_sae
    chain = [load_user_descriptions(store, index.sae_fingerprint, d_sae), published, offline]
    known = [it for it in chain if it is not None and it.d_sae == d_sae]
    return Descriptions.none(d_sae).merge(*known)


def _key(index: OpenIndex) -> Key:
    parameters = {
        "index": index.key.digest,
        "describer": DESCRIBER_VERSION,
        "writes": WRITES_VERSION,
        "n_top": _N_TOP,
    }
    return Key("latent-texts", _VERSION, parameters)
