"""What of patch scoping a link carries: who answers, what is asked, and how texts are made."""

import math
from dataclasses import dataclass

from core.link import (
    Link,
    LinkField,
    list_of,
    one_of,
    read_float,
    real,
    short_text,
    whole,
    write_list,
    write_number,
)

OWN = "own"
"""The template that the reader types."""
QUESTIONS = ("definition", "repeat", "few words", "free", OWN)
UNITS = ("typical", "absolute")
CHOICES = ("auto", "likeliest", "surest", "combined", "agreed")
PANELS = ("tuning", "layers", "controls", "compare", "faithful", "transfer", "batch")

DEFAULT_SCALES = "0.5 0.75 1 1.25 1.5 2 3"
MOST_SCALES = 64
MOST_LAYERS = 128
MOST_BATCH = 1000
_LONGEST_PROMPT = 2000
_HIGHEST = 2**31 - 1
_LARGEST_SCALE = 1e6


@dataclass(frozen=True)
class ScopeView:
    """One view of the page, the selection aside."""

    speaker: str = ""
    """Model that explains; empty: the SAE's tuned model where there is one."""
    template: str = "definition"
    """One of `QUESTIONS`."""
    prompt: str = ""
    """The reader's own question, with {X} for the placeholder; used with the template `OWN`."""
    prefill: str = ""
    """The beginning of the answer to it, which may hold {X} too."""
    layers: tuple[int, ...] = ()
    """Layers before which the placeholder is replaced; none: the page's own choice."""
    scales: str = DEFAULT_SCALES
    """Scales as the reader wrote them; see `parse_scales`."""
    unit: str = "typical"
    """Of the scales: multiples of the typical norm, or norms."""
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Share of probability that tokens are drawn from."""
    penalty: float = 0.0
    """Subtracted from the logit of a token for each time it was used."""
    samples: int = 1
    """Texts a scale."""
    seed: int = 0
    """Of the drawn tokens and of the random directions."""
    new_tokens: int = 40
    """Longest text, in tokens."""
    choose: str = "auto"
    """One of `CHOICES`: how the best text is chosen."""
    other: int | None = None
    """Latent to compare with; None: the next one."""
    batch: str = ""
    """Latents of the batch as the reader wrote them; see `parse_latents`."""
    panel: str = "tuning"
    """One of `PANELS`."""


def parse_scales(text: str) -> tuple[float, ...]:
    """Scales from a list ("0.5, 1, 2") or a range ("0 to 50 in 6": ends included), in order.

    Raises:
        ValueError: no numbers, or more than 64 of them.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    if len(words) == 5 and words[1] == "to" and words[3] == "in":
        first, last = _scale(words[0]), _scale(words[2])
        if not (words[4].isascii() and words[4].isdigit() and 2 <= int(words[4]) <= MOST_SCALES):
            raise ValueError(
                f"{words[4][:20]!r} is not a number of scales from 2 to {MOST_SCALES}; write a "
                'range as "0 to 3 in 7".'
            )
        n = int(words[4])
        scales = [round(first + (last - first) * i / (n - 1), 6) + 0.0 for i in range(n)]
    else:
        scales = [_scale(word) for word in words]
    if not 1 <= len(scales) <= MOST_SCALES:
        raise ValueError(
            f'There are {len(scales)} scales; give 1 to {MOST_SCALES}, as "0.5 1 2" or as '
            '"0 to 3 in 7".'
        )
    return tuple(dict.fromkeys(scales))


def parse_latents(text: str, *, width: int, seed: int = 0) -> tuple[int, ...]:
    """Latents from numbers and spans ("3, 10-20") or a draw ("100 random"), each once, in order.

    Raises:
        ValueError: something else, none, more than 1000, or latents that the SAE does not have.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    if len(words) == 2 and words[1] == "random":
        import random

        n = min(_number(words[0], MOST_BATCH), width)
        return tuple(sorted(random.Random(seed).sample(range(width), n)))
    found: dict[int, None] = {}
    for word in words:
        first, dash, last = word.partition("-")
        low = _number(first, width - 1)
        high = _number(last, width - 1) if dash else low
        if high - low >= MOST_BATCH:
            raise ValueError(f"{word[:40]!r} is more than {MOST_BATCH} latents; choose fewer.")
        found.update(dict.fromkeys(range(low, high + 1)))
    if not 1 <= len(found) <= MOST_BATCH:
        raise ValueError(
            f'There are {len(found)} latents; give 1 to {MOST_BATCH}, as "3, 10-20" or as '
            '"100 random".'
        )
    return tuple(found)


def _scale(word: str) -> float:
    value = read_float(word)
    if not (math.isfinite(value) and abs(value) <= _LARGEST_SCALE):
        raise ValueError(
            f'{word[:20]!r} is not a scale; give numbers, as "0.5 1 2" or as "0 to 3 in 7".'
        )
    return value


def _number(word: str, highest: int) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= highest):
        raise ValueError(
            f'{word[:20]!r} is not a number from 0 to {highest}; write latents as "3, 10-20" or '
            'as "100 random".'
        )
    return int(word)


def _read_scales(text: str) -> str:
    parse_scales(text)
    return " ".join(text.split())


LINK = Link(
    ScopeView(),
    [
        LinkField("speaker", "speaker", short_text(300)),
        LinkField("template", "template", one_of(QUESTIONS)),
        LinkField("prompt", "prompt", short_text(_LONGEST_PROMPT)),
        LinkField("prefill", "prefill", short_text(_LONGEST_PROMPT)),
        LinkField("layers", "layers", list_of(whole(0, 999), MOST_LAYERS), write_list),
        LinkField("scales", "scales", _read_scales),
        LinkField("unit", "unit", one_of(UNITS)),
        LinkField("temperature", "temperature", real(0, 10), write_number),
        LinkField("top_p", "top_p", real(0.01, 1), write_number),
        LinkField("penalty", "penalty", real(-10, 10), write_number),
        LinkField("samples", "samples", whole(1, 20)),
        LinkField("seed", "seed", whole(0, _HIGHEST)),
        LinkField("new_tokens", "tokens", whole(1, 500)),
        LinkField("choose", "choose", one_of(CHOICES)),
        LinkField("other", "other", whole(0, _HIGHEST)),
        LinkField("batch", "batch", short_text(8000)),
        LinkField("panel", "panel", one_of(PANELS)),
    ],
)
"""How a view is written into a link."""
