"""What of the latent page its link carries."""

import re
from dataclasses import dataclass

from core.link import (
    Link,
    LinkField,
    list_of,
    one_of,
    read_flag,
    real,
    short_text,
    whole,
    write_flag,
    write_list,
)
from core.view.latent.corpora import parse_corpus

TABS = {
    "dashboard": "Dashboard",
    "prompt": "Prompt",
    "lens": "Logit lens",
    "enrichment": "Token enrichment",
    "sources": "Attribution",
    "browse": "Browse",
    "lists": "Lists",
}
"""Parts of the page; `sources` is for SAEs that read attention heads."""

ORDERS = {
    "latent": "Number",
    "frequent": "Most often active first",
    "rare": "Rarest first",
    "strong": "Largest activation first",
    "skewed": "Most skewed activations first",
    "lens": "Most skewed logits first",
}
"""Ways to sort all latents."""

KINDS = {"all": "All", "alive": "Active at least once", "dead": "Never active"}
"""Which latents are listed."""

AROUND = (10, 25, 50, 100)
"""Tokens shown on either side of an example."""

DEFAULT_TOKENS = 200_000
"""Tokens of a text that are read unless told otherwise."""
MOST_TOKENS = 50_000_000
MOST_LIVE_CHARACTERS = 2000


@dataclass(frozen=True)
class LatentPageView:
    """Settings of the latent page."""

    tab: str = "dashboard"
    """One of `TABS`."""
    corpus: str = ""
    """Text that is read, as `core.view.latent.corpora` writes it; empty for what was read last."""
    tokens: int = DEFAULT_TOKENS
    """How much of it, in tokens."""
    include_bos: bool = False
    """Whether the beginning-of-text token counts."""
    around: int = AROUND[0]
    """Tokens shown on either side of an example."""
    text: str = ""
    """Text in the live box; empty for the one proposed."""
    order: str = "latent"
    """How all latents are sorted."""
    kind: str = "all"
    """Which of them are listed."""
    density: tuple[float, ...] = ()
    """Lowest and highest share of tokens of those listed, as powers of ten; empty for any."""
    words: str = ""
    """Words that the descriptions of those listed hold."""
    chosen_list: str = ""
    """Name of the list that is shown."""


def _corpus(text: str) -> str:
    return parse_corpus(text).text


def _around(text: str) -> int:
    if not (re.fullmatch(r"\d{1,4}", text, re.ASCII) and int(text) in AROUND):
        raise ValueError(f"{text[:40]!r} is none of {', '.join(map(str, AROUND))}.")
    return int(text)


def _density(text: str) -> tuple[float, ...]:
    values: tuple[float, ...] = list_of(real(-12, 0), 2)(text)
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError(f"{text[:40]!r} is not a lowest and a highest power of ten.")
    return values


LINK = Link(
    LatentPageView(),
    (
        LinkField("tab", "tab", one_of(tuple(TABS))),
        LinkField("corpus", "corpus", _corpus),
        LinkField("tokens", "tokens", whole(100, MOST_TOKENS)),
        LinkField("include_bos", "bos", read_flag, write_flag),
        LinkField("around", "around", _around),
        LinkField("text", "live", short_text(MOST_LIVE_CHARACTERS)),
        LinkField("order", "order", one_of(tuple(ORDERS))),
        LinkField("kind", "kind", one_of(tuple(KINDS))),
        LinkField("density", "density", _density, write_list),
        LinkField("words", "words", short_text(200)),
        LinkField("chosen_list", "list", short_text(80)),
    ),
)
"""How a view is written to the link and read from it."""
