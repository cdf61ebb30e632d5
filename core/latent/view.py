"""What of the latent page, and of each of its parts, its link carries."""

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
from core.view.corpora import SAMPLE_TOKENS, parse_corpus

TABS = {
    "dashboard": "Dashboard",
    "prompt": "Prompt",
    "find": "Find",
    "lens": "Logit lens",
    "enrichment": "Token enrichment",
    "sources": "Attribution",
    "browse": "Browse",
    "lists": "Lists",
}
"""Parts of the page; `sources` is for SAEs that read attention heads."""

ORDERS = {
    "latent": "Number, never active last",
    "frequent": "Most often active first",
    "rare": "Rarest first",
    "strong": "Largest activation first",
    "skewed": "Most skewed activations first",
    "lens": "Effects on few tokens first",
    "output": "Highest output score first",
    "input": "Highest input score first",
}
"""Ways to sort all latents."""

KINDS = {
    "all": "All",
    "alive": "Active at least once",
    "dead": "Never active",
    "steer": "Output beyond chance",
}
"""Which latents are listed."""

AROUND = (10, 25, 50, 100)
"""Tokens shown on either side of an example."""

MOST_TOKENS = 50_000_000
MOST_CHARACTERS = 2000
"""Of a text that is typed."""

RANKINGS = {
    "activation": "Activation",
    "quantile": "Strength for this latent",
    "effect": "Effect on the prediction",
}
"""Ways to rank the latents that are active in a prompt."""
MOST_ABLATED = 500
"""Latents of a prompt that are removed one by one."""

FIND_WAYS = {
    "text": "A text you type",
    "tokens": "Tokens",
    "regex": "A pattern",
    "latent": "Where this latent fires",
}
"""What is looked for over all SAEs. All but the first are looked for in a text that was read."""
FIND_RANKINGS = {
    "activation": "Activation",
    "of_peak": "Share of its maximum",
    "specificity": "Specificity",
}
"""Ways to rank what is found."""

LEAST_EFFECT = 1e-3
"""Nats by which a prediction must change for its token to be shaded: a tenth of a percent."""

COLOURS = {"std": "Size of the effects", "density": "How often it is active"}
"""What the colour of the points of the logit lens can stand for."""

MOST_EXAMPLES = 20
"""Strongest examples of a latent that can be taken apart by sources."""


@dataclass(frozen=True)
class LatentPageView:
    """Settings of the latent page."""

    tab: str = "dashboard"
    """One of `TABS`."""
    corpus: str = ""
    """Text that is read, as `core.view.corpora` writes it; empty for what was read last."""
    tokens: int = SAMPLE_TOKENS
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
    band: int = 0
    """Part of the range of activations whose examples are shown, from 1, the strongest; 0 for one
    example of each part."""
    opened: tuple[int, ...] = ()
    """Latent and place of the example whose whole text is shown; empty for none."""


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
        LinkField("text", "live", short_text(MOST_CHARACTERS)),
        LinkField("order", "order", one_of(tuple(ORDERS))),
        LinkField("kind", "kind", one_of(tuple(KINDS))),
        LinkField("density", "density", _density, write_list),
        LinkField("words", "words", short_text(200)),
        LinkField("chosen_list", "list", short_text(80)),
        LinkField("band", "part", whole(0, 100)),
        LinkField("opened", "open", list_of(whole(0, 2**31 - 1), 2), write_list),
    ),
)
"""How a view is written to the link and read from it."""


@dataclass(frozen=True)
class PromptView:
    """Settings of the prompt tab."""

    text: str = ""
    """The text; empty for the one proposed."""
    by: str = "activation"
    """How latents are ranked: one of `RANKINGS`."""
    token: int = 0
    """Number of the token of the text that is looked at, from 1; 0 for the whole text."""
    ablated: int = 50
    """How many latents are removed to find their effect."""


PROMPT_LINK = Link(
    PromptView(),
    (
        LinkField("text", "prompt", short_text(MOST_CHARACTERS)),
        LinkField("by", "rank", one_of(tuple(RANKINGS))),
        LinkField("token", "at", whole(0, 1_000_000)),
        LinkField("ablated", "remove", whole(1, MOST_ABLATED)),
    ),
)


@dataclass(frozen=True)
class FindView:
    """Settings of the search over all SAEs."""

    way: str = "text"
    """What is looked for: one of `FIND_WAYS`."""
    typed: str = ""
    """The text, tokens or pattern; empty for the one proposed."""
    by: str = "specificity"
    """How latents are ranked: one of `FIND_RANKINGS`."""
    ignore_case: bool = False
    """Whether a pattern takes capitals for small letters."""
    silent: bool = False
    """Whether, of tokens and patterns, only places count at which the latent does not fire."""


FIND_LINK = Link(
    FindView(),
    (
        LinkField("way", "find", one_of(tuple(FIND_WAYS))),
        LinkField("typed", "seek", short_text(MOST_CHARACTERS)),
        LinkField("by", "best", one_of(tuple(FIND_RANKINGS))),
        LinkField("ignore_case", "fold", read_flag, write_flag),
        LinkField("silent", "silent", read_flag, write_flag),
    ),
)


@dataclass(frozen=True)
class LensView:
    """Settings of the logit lens tab."""

    colour: str = "std"
    """One of `COLOURS`."""


LENS_LINK = Link(LensView(), (LinkField("colour", "lens", one_of(tuple(COLOURS))),))


@dataclass(frozen=True)
class EnrichmentView:
    """Settings of the token enrichment tab."""

    chosen: str = ""
    """Name of the set that is looked at; empty for the latent's strongest."""
    mine: str = ""
    """Which of the user's files of sets is used, as `core.enrichment.user_sets.store_lists` names
    it; empty for none."""
    weighted: bool = False
    """Whether tokens far from the middle count more in the chosen latent's scores."""
    beyond: bool = True
    """Whether only what few random directions reach is listed and drawn."""


ENRICHMENT_LINK = Link(
    EnrichmentView(),
    (
        LinkField("chosen", "set", short_text(200)),
        LinkField("mine", "sets", short_text(64)),
        LinkField("weighted", "weighted", read_flag, write_flag),
        LinkField("beyond", "beyond", read_flag, write_flag),
    ),
)


@dataclass(frozen=True)
class AttributionView:
    """Settings of the attribution tab."""

    text: str = ""
    """The typed text; empty for the one proposed."""
    example: int = 1
    """Which of the latent's strongest examples is used, from 1, where there are any; 0 for the
    typed text."""
    destination: int = 0
    """Number of the text's token, from 1, at which the latent is taken apart; 0 for where it is
    strongest."""


ATTRIBUTION_LINK = Link(
    AttributionView(),
    (
        LinkField("text", "source", short_text(MOST_CHARACTERS)),
        LinkField("example", "example", whole(0, MOST_EXAMPLES)),
        LinkField("destination", "to", whole(0, 1_000_000)),
    ),
)
