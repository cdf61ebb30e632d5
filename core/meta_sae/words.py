"""Which words set a meta-latent's latents apart? From the descriptions of the latents."""

import re
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, hypergeom

from core.descriptions.wording import terms_of

_WORD = re.compile(r"[\w+#]+(?:[.'’/-][\w+#]+)*")
_LEAST_Q, _SHARED, _LISTED = 0.05, 2, 4


def telling_words(members: csr_array, texts: Sequence[str]) -> list[str]:
    """Words that the latents of each meta-latent have more often than all latents do.

    Args:
        members: `[n, width]`, above 0 where a latent is of a meta-latent.
        texts: a description of each of the `n` latents; "" where there is none.

    Returns:
        For each meta-latent the surest four as one text, with how many of its latents have each;
        only words of two latents or more, below a false discovery rate of 5 % (hypergeometric test
        over all pairs of words and meta-latents, Benjamini and Hochberg); "" where none is.

    Raises:
        ValueError: not one text for each latent.
    """
    n, width = members.shape
    if len(texts) != n:
        raise ValueError(f"There are {len(texts)} texts for {n} latents; give one for each.")
    columns: dict[str, int] = {}
    places = [
        (row, columns.setdefault(word, len(columns)))
        for row, text in enumerate(texts)
        for word in dict.fromkeys(_words(text))
    ]
    if not places:
        return [""] * width
    row, column = np.array(places).T
    has = csr_array((np.ones(len(row)), (row, column)), shape=(n, len(columns)))
    of = csr_array((np.ones(members.nnz), members.indices, members.indptr), shape=members.shape)
    both = (of.T @ has).tocoo()
    meta, word = both.coords
    count = both.data.astype(np.int64)
    size, overall = (np.asarray(it.sum(0)).ravel().astype(np.int64) for it in (of, has))
    p = hypergeom.sf(count - 1, n, overall[word], size[meta])
    q = false_discovery_control(np.clip(p, 0, 1)) if len(p) else p
    kept = np.flatnonzero((q < _LEAST_Q) & (count >= _SHARED))
    order = kept[np.lexsort((word[kept], p[kept], meta[kept]))]
    names, found = list(columns), [list[str]() for _ in range(width)]
    for place in order:
        if len(found[meta[place]]) < _LISTED:
            found[meta[place]].append(f"{names[word[place]]} ({count[place]})")
    return [", ".join(it) for it in found]


def _words(text: str) -> list[str]:
    terms = terms_of(text)
    if terms is not None:
        return terms
    return [it for it in _WORD.findall(text.lower()) if len(it) > 2 and not it.isdigit()]
