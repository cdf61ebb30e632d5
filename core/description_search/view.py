"""What of a search of all descriptions a link carries."""

from dataclasses import dataclass

from core.link import Link, LinkField, one_of, short_text

WAYS = {"words": "Words", "pattern": "Pattern", "meaning": "Meaning"}
"""Ways to search."""
MOST_CHARACTERS = 300
"""Of what is searched for."""


@dataclass(frozen=True)
class FindView:
    """A search."""

    text: str = ""
    """What is searched for; empty for no search."""
    by: str = "words"
    """One of `WAYS`."""


LINK = Link(
    FindView(),
    (
        LinkField("text", "find", short_text(MOST_CHARACTERS)),
        LinkField("by", "find_by", one_of(tuple(WAYS))),
    ),
)
"""How a search is written to the link and read from it."""
