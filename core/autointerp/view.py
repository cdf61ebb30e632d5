"""Everything that the page of autointerp shows, as its link carries it.

Neither the address of a service nor a key is ever in it: a link that could send a reader's key to
another service would be a trap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    write_number,
    write_ranges,
)
from core.view.corpora import SAMPLE_TOKENS, parse_corpus

CHOICES = ("random", "this", "list")
"""Latents drawn at random among those that fire, the selected one, or a list."""
EXPLAINERS = ("words", "chat", "scope")
"""Words of the strongest examples; a chat model; the model itself by patch scoping."""
JUDGES = ("words", "chat")
"""Matching words, or a chat model."""
SWITCHES = (
    "boosted",
    "strengths",
    "kinds",
    "thoughts",
    "quantiles",
    "same-token",
    "neighbours",
    "changed",
)
"""What the explainer may be told beyond ARENA's prompt."""
SCORES = ("fuzzing", "neighbours", "generation", "revision", "simulation", "output")
"""Scores beyond detection."""
MOST_LATENTS = 1000
"""Latents of one run."""
_ID_CHARACTERS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class AutointerpView:
    """The choices of the page."""

    choose: str = "random"
    """One of `CHOICES`."""
    latents: tuple[int, ...] = ()
    """Latents of the list."""
    n_random: int = 20
    """How many are drawn."""
    draw: int = 0
    """Seed of the drawing."""
    explainer: str = "words"
    """One of `EXPLAINERS`."""
    judge: str = "words"
    """One of `JUDGES`."""
    chat_model: str = ""
    """Name of the chat model; empty for the default."""
    switches: tuple[str, ...] = ()
    """Of `SWITCHES`, those that are on."""
    scores: tuple[str, ...] = ()
    """Of `SCORES`, those that are wanted."""
    controls: bool = True
    """Whether neurons, random directions and random weights are run as well."""
    corpus: str = "docs"
    """Text to look for examples in, as `core.view.corpora` writes it."""
    total_tokens: int = 500_000
    """Tokens of that text; of links without it, which name runs that were paid for."""
    buffer: int = 10
    """Tokens on either side of an example's middle."""
    no_overlap: bool = False
    """Whether the strongest examples must lie apart."""
    act_threshold_frac: float = 0.1
    """Share of the largest activation above which a token is active."""
    n_top_ex_for_generation: int = 10
    """Strongest examples for the explainer."""
    n_top_ex_for_scoring: int = 4
    """Other strong examples, for scoring."""
    n_random_ex_for_scoring: int = 8
    """Random examples, for scoring."""
    max_tokens_in_explanation: int = 25
    """Tokens of an explanation."""
    thinking_tokens: int = 4000
    """Room for a chat model's thoughts, beside every answer."""
    use_examples_in_explanation_prompt: bool = True
    """Whether the prompt quotes three explanations."""
    seed: int = 0
    """Of random examples and of controls."""
    run: str = ""
    """Name of the run that is shown; empty for none."""
    other: str = ""
    """Name of the run that it is compared with; empty for none."""


DEFAULT = AutointerpView()
FIRST = replace(DEFAULT, total_tokens=SAMPLE_TOKENS)
"""What a reader begins with who comes without a link: as much text as other pages read."""


def read_latents(text: str) -> tuple[int, ...]:
    """Latents of a list such as "3, 7, 10-14", each once, in the order given.

    Raises ValueError, saying what is wrong, also for more than `MOST_LATENTS`.
    """
    found: list[int] = []
    for part in text.replace("\u2013", "-").replace(";", ",").replace(" ", ",").split(","):
        if not part:
            continue
        first, dash, last = part.partition("-")
        if not all(map(_is_latent, (first, last or "0"))):
            raise ValueError(f"{part[:40]!r} is neither a latent nor a range such as 10-14.")
        low, high = int(first), int(last) if dash and last else int(first)
        if (dash and not last) or high < low:
            raise ValueError(f"{part[:40]!r} is no range; write the lower number first: 10-14.")
        if len(found) + high - low + 1 > MOST_LATENTS:
            raise ValueError(f"it names more than {MOST_LATENTS:,} latents; run them in parts.")
        found += range(low, high + 1)
    return tuple(dict.fromkeys(found))


def _is_latent(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


write_latents = write_ranges
"""The list as short as it can be: "3,7,10-14"."""


def _run_id(text: str) -> str:
    if len(text) not in (0, 16) or set(text) - _ID_CHARACTERS:
        raise ValueError(f"{text[:40]!r} is not the name of a run.")
    return text


def _some_of(names: Sequence[str]) -> Any:
    return list_of(one_of(names), len(names))


_FLAGS = {"no_overlap": "apart", "use_examples_in_explanation_prompt": "samples"}
_NUMBERS = {
    "total_tokens": ("tokens", 1_000, 10_000_000),
    "buffer": ("buffer", 1, 60),
    "n_top_ex_for_generation": ("shown", 1, 100),
    "n_top_ex_for_scoring": ("top", 1, 100),
    "n_random_ex_for_scoring": ("random", 1, 100),
    "max_tokens_in_explanation": ("words", 5, 500),
    "thinking_tokens": ("think", 0, 100_000),
    "seed": ("seed", 0, 2**31 - 1),
    "n_random": ("n", 1, MOST_LATENTS),
    "draw": ("draw", 0, 2**31 - 1),
}
LIMITS = {name: (low, high) for name, (_, low, high) in _NUMBERS.items()}
"""Least and most of each whole number."""

LINK: Link[AutointerpView] = Link(
    DEFAULT,
    (
        LinkField("choose", "choose", one_of(CHOICES)),
        LinkField("latents", "latents", read_latents, write_latents),
        LinkField("explainer", "explainer", one_of(EXPLAINERS)),
        LinkField("judge", "judge", one_of(JUDGES)),
        LinkField("chat_model", "chat", short_text(120)),
        LinkField("switches", "with", _some_of(SWITCHES), write_list),
        LinkField("scores", "scores", _some_of(SCORES), write_list),
        LinkField("controls", "controls", read_flag, write_flag),
        LinkField("corpus", "corpus", lambda text: parse_corpus(text).text),
        LinkField("act_threshold_frac", "active", real(0, 0.99), write_number),
        *(LinkField(n, p, read_flag, write_flag) for n, p in _FLAGS.items()),
        *(LinkField(n, p, whole(low, high)) for n, (p, low, high) in _NUMBERS.items()),
        LinkField("run", "run", _run_id),
        LinkField("other", "compare", _run_id),
    ),
)


def parse_view(parameters: Mapping[str, str]) -> tuple[AutointerpView, tuple[str, ...]]:
    """As `LINK.parse`; a link with latents alone means that list."""
    view, problems = LINK.parse(parameters)
    if view.latents and "choose" not in parameters:
        view = replace(view, choose="list")
    return view, problems


__all__ = ["DEFAULT", "LIMITS", "LINK", "AutointerpView", "parse_view"]
