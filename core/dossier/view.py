"""What the dossier's page keeps in its link. Nothing here needs torch."""

from dataclasses import dataclass

from core.link import Link, LinkField, one_of, short_text, whole
from core.view.corpora import parse_corpus

TABS = {
    "latent": "This latent",
    "test": "Test a hypothesis",
    "compare": "Compare with another",
    "batch": "A list of latents",
}
"""Parts of the page."""
KINDS = {"tokens": "A set of tokens", "explanation": "An explanation"}
"""What a hypothesis can be."""
JUDGES = {"words": "Offline, by its words", "chat": "A chat model"}
"""Who says where an explanation fits."""
DEFAULT_TOKENS = 200_000
MOST_TOKENS = 20_000_000
MOST_HYPOTHESIS = 2000


@dataclass(frozen=True)
class DossierView:
    """Settings of the page."""

    tab: str = "latent"
    """One of `TABS`."""
    corpus: str = ""
    """Text that is read, as `core.view.corpora` writes it; empty for what was read last."""
    tokens: int = DEFAULT_TOKENS
    """How much of it."""
    latents: str = ""
    """Latents of a batch, as the reader wrote them."""
    kind: str = "tokens"
    """One of `KINDS`."""
    hypothesis: str = ""
    """What the reader thinks that the latent fires on."""
    judge: str = "words"
    """One of `JUDGES`."""
    chat_model: str = ""
    """Name of the chat model; empty for the usual one."""
    other_model: str = ""
    """Model of the latent that this one is compared with; empty for the same."""
    other_release: str = ""
    """Release of its SAE; empty for the same SAE."""
    other_sae: str = ""
    """Id of its SAE."""
    other_latent: int = -1
    """That latent; -1 for none yet."""


LINK = Link(
    DossierView(),
    (
        LinkField("tab", "tab", one_of(tuple(TABS))),
        LinkField("corpus", "corpus", lambda text: parse_corpus(text).text),
        LinkField("tokens", "tokens", whole(1000, MOST_TOKENS)),
        LinkField("latents", "latents", short_text(2000)),
        LinkField("kind", "kind", one_of(tuple(KINDS))),
        LinkField("hypothesis", "hypothesis", short_text(MOST_HYPOTHESIS)),
        LinkField("judge", "judge", one_of(tuple(JUDGES))),
        LinkField("chat_model", "chat", short_text(120)),
        LinkField("other_model", "with_model", short_text(300)),
        LinkField("other_release", "with_release", short_text(300)),
        LinkField("other_sae", "with_sae", short_text(300)),
        LinkField("other_latent", "with_latent", whole(-1, 2**31 - 1)),
    ),
)
"""How a view is written to the link and read from it."""
