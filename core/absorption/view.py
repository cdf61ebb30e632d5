"""What of the absorption section a link carries."""

from dataclasses import dataclass

from core.link import (
    Link,
    LinkField,
    one_of,
    read_flag,
    real,
    short_text,
    whole,
    write_flag,
    write_number,
)

SOURCES = {
    "text": "Sets of tokens, in the text",
    "vocabulary": "Sets of tokens, each alone",
    "latent": "A latent of a narrower SAE",
    "lists": "Two lists of texts",
    "spelling": "Spelling prompts",
}
"""Where concepts come from."""


@dataclass(frozen=True)
class AbsorptionView:
    """Settings of the section."""

    source: str = "text"
    """One of `SOURCES`."""
    mine: str = ""
    """Name of the user's sets, as `core.enrichment.user_sets.store_lists` gives it."""
    lists: str = ""
    """Name of the two lists of texts, likewise."""
    concept: str = ""
    """The concept that is looked at; empty for the one with most absorption."""
    share: float = 0.4
    """Least share of the projection that absorbing latents carry."""
    cosine: float = 0.025
    """Least cosine of the absorbing latent with the probe."""
    parent: str = ""
    """Label of the narrower SAE; empty for the next narrower one."""
    parent_latent: int = 0
    """Its latent."""
    widths: bool = False
    """Whether all widths of the family are compared."""
    exceptions: bool = False
    """Whether the exceptions of the selected latent are shown."""


LINK = Link(
    AbsorptionView(),
    (
        LinkField("source", "concepts", one_of(tuple(SOURCES))),
        LinkField("mine", "sets", short_text(64)),
        LinkField("lists", "lists", short_text(64)),
        LinkField("concept", "concept", short_text(200)),
        LinkField("share", "share", real(0.01, 1.0), write_number),
        LinkField("cosine", "near", real(-1.0, 1.0), write_number),
        LinkField("parent", "parent", short_text(300)),
        LinkField("parent_latent", "parent_latent", whole(0, 2**31 - 1)),
        LinkField("widths", "widths", read_flag, write_flag),
        LinkField("exceptions", "exceptions", read_flag, write_flag),
    ),
)
"""How a view is written to the link and read from it."""
