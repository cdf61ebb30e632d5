"""What the latents of an SAE fire on and write: the tokens that a faithful text should name."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from core.activations.stored_index import open_index
from core.activations.text_index import IndexRequest, make_index
from core.lease import Lease
from core.logit_lens import all_directions, top_tokens
from core.patch_scoping.faithfulness import LatentTokens
from core.store import Store
from core.tokens import TokenTexts
from core.view import corpora

SAMPLE_TOKENS = corpora.SAMPLE_TOKENS
"""Tokens of text that are read: as many as for the dashboards, which share the index."""
N_TOP = 15
"""Strongest positions of each latent."""
N_BOOSTED = 10
"""Tokens that its direction raises most."""


@dataclass(frozen=True, eq=False)
class PeakTokens:
    """Tokens of all latents."""

    active: Int[np.ndarray, "d_sae n_top"]
    """Tokens at each latent's strongest positions, best first; -1 for none."""
    boosted: Int[np.ndarray, "d_sae n_boosted"]
    """Tokens that it raises most."""
    texts: TokenTexts
    """Each token as text."""
    corpus: str
    """Name of the text that was read."""

    def of(self, latent: int) -> LatentTokens:
        """The tokens of one latent, as text."""
        ids = self.active[latent]
        different, counts = np.unique(ids[ids >= 0], return_counts=True)
        n = max(1, int(counts.sum()))
        order = np.argsort(-counts, kind="stable")
        active = {self.texts.text(int(different[i])): int(counts[i]) / n for i in order}
        return LatentTokens(
            active, tuple(self.texts.text(int(token)) for token in self.boosted[latent])
        )

    @property
    def alive(self) -> Int[np.ndarray, " n"]:
        """Latents that fired."""
        return np.flatnonzero(self.active[:, 0] >= 0)


def find_peak_tokens(lease: Lease, store: Store, request: IndexRequest) -> PeakTokens:
    """The peak tokens of all latents of the lease's SAE, from its index on the request's text.

    Raises ValueError for a text that cannot be read, or an SAE that does not fit.
    """
    [opened] = make_index(lease, store, request)
    index = open_index(store, opened.key)
    if index is None:
        raise ValueError("The index was removed from the disk meanwhile; try again.")
    places = index.top_places[:, :N_TOP]
    active = np.where(places >= 0, opened.token_set.tokens.ravel()[places], -1)
    with lease.turn() as (model, (sae,)), torch.no_grad():
        n = min(N_BOOSTED, model.W_U.shape[1])
        boosted, _ = top_tokens(all_directions(model, sae), model.W_U, n)
    return PeakTokens(
        active=active.astype(np.int32),
        boosted=boosted.cpu().numpy().astype(np.int32),
        texts=opened.vocabulary,
        corpus=opened.corpus,
    )
