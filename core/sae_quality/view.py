"""What of the page about a whole SAE its link carries."""

from dataclasses import dataclass

from core.link import Link, LinkField, one_of, whole
from core.view.corpora import parse_corpus

TABS = {
    "quality": "Quality",
    "compare": "Family and release",
    "absorption": "Absorption",
    "stitching": "Stitching",
    "meta": "Decompositions",
}
"""Parts of the page."""
SIZES = (20_000, 50_000, 100_000, 200_000, 500_000)
"""Tokens that can be read."""
DEFAULT_TOKENS = 50_000
MOST_TOKENS = 5_000_000
AMONG = {"family": "Widths of this site", "release": "This release"}
"""Which SAEs are compared."""


def _corpus(text: str) -> str:
    return parse_corpus(text).text


@dataclass(frozen=True)
class SaePageView:
    """Settings of the page, the selection aside."""

    tab: str = "quality"
    """One of `TABS`."""
    corpus: str = "docs"
    """Text that is read, as `core.view.corpora` writes it."""
    tokens: int = DEFAULT_TOKENS
    """How much of it."""
    among: str = "family"
    """One of `AMONG`."""
    figure: str = "explained_variance"
    """One of `core.sae_quality.figures.COMPARED`: what is compared."""


_FIGURES = (
    "explained_variance",
    "l0",
    "loss_recovered_mean",
    "loss_recovered_zero",
    "kl",
    "dead_fraction",
    "dense_fraction",
    "neighbour_cosine_median",
    "encoder_cosine_median",
)

LINK = Link(
    SaePageView(),
    (
        LinkField("tab", "tab", one_of(tuple(TABS))),
        LinkField("corpus", "corpus", _corpus),
        LinkField("tokens", "tokens", whole(1, MOST_TOKENS)),
        LinkField("among", "among", one_of(tuple(AMONG))),
        LinkField("figure", "figure", one_of(_FIGURES)),
    ),
)
