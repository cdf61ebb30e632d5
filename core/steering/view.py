"""What of the page of steering a link carries: what is steered, how, where, how texts are made."""

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
from core.patch_scoping.view import parse_latents, parse_scales
from core.steering.intervention import MODES, PLACES, SOLVABLE, Place

UNITS = {
    "largest": "× largest activation",
    "absolute": "as activations",
    "stream": "× length of the stream",
    "kl": "until KL is (nats)",
}
"""Units of strengths, in words."""
DEFAULT_UNIT = "largest"
DEFAULT_STRENGTHS = {
    "largest": "0.5 1 2 4",
    "absolute": "2 5 10 20",
    "stream": "0.1 0.25 0.5 1",
    "kl": "0.1 0.5 1 2",
}
"""Strengths of each unit unless the reader says otherwise."""
_FACTORS = "0 2 4 8"
DEFAULT_PROMPT = "Return the"
MOST_ROWS = 1500
"""Rows of a task: latents × strengths × (1 + random directions) × samples."""
_LONGEST_PROMPT = 4000
_HIGHEST = 2**31 - 1


@dataclass(frozen=True)
class SteerView:
    """One view of the page, the selection aside."""

    prompt: str = DEFAULT_PROMPT
    """What the model goes on from."""
    chat: bool = True
    """Whether it is put in the model's chat format, where there is one."""
    latents: str = ""
    """Latents as the reader wrote them; empty for the selected one."""
    together: bool = False
    """Whether several latents are steered at once rather than each by itself."""
    mode: str = "add"
    """One of `MODES`."""
    unit: str = DEFAULT_UNIT
    """One of `UNITS`."""
    strengths: str = ""
    """Strengths as the reader wrote them; empty for those of the unit."""
    place: str = "all"
    """One of `PLACES`."""
    positions: str = ""
    """Numbers of tokens of the prompt, from 0, for the place `tokens`."""
    gate: int | None = None
    """Latent that has to be active, for the place `where`."""
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Share of probability that tokens are drawn from."""
    penalty: float = 0.0
    """Subtracted from the logit of a token for each time it was used."""
    samples: int = 1
    """Texts of each row."""
    seed: int = 0
    """Of the drawn tokens and of the random directions."""
    new_tokens: int = 30
    """Longest text, in tokens."""
    randoms: int = 2
    """Random directions beside each strength."""
    shown: int = 0
    """Which steered row's texts stand at the top, from 1; 0 for the page's choice."""
    judge: bool = False
    """Whether the section of the judge is open."""
    concept: str = ""
    """What the texts should be about, for the judge."""


def strengths_of(view: SteerView) -> tuple[float, ...]:
    """The strengths that are tried. Raises ValueError for text that holds none."""
    if view.mode == "ablate":
        return (0.0,)
    return parse_scales(view.strengths or default_strengths(view))


def default_strengths(view: SteerView) -> str:
    """What is tried where the reader gave no strengths."""
    return _FACTORS if view.mode == "scale" else DEFAULT_STRENGTHS[unit_of(view)]


def unit_of(view: SteerView) -> str:
    """The unit that is used: factors, and removing a latent, need none."""
    return "absolute" if view.mode in ("scale", "ablate") else view.unit


def fits(unit: str, mode: str) -> bool:
    """Whether strengths of a mode can be given in a unit."""
    if unit == "kl":
        return mode in SOLVABLE
    return unit != "stream" or mode not in ("scale", "ablate")


def check_unit(view: SteerView) -> None:
    """Raise ValueError, with the remedy, for a unit that the mode has no strength in."""
    if fits(view.unit, view.mode):
        return
    what = MODES[view.mode]
    modes = ", ".join(f"“{MODES[it]}”" for it in SOLVABLE)
    if view.unit == "kl":
        raise ValueError(
            f"“{what}” has no strength that grows with the KL divergence; choose {modes}, or give "
            "strengths in another unit."
        )
    raise ValueError(
        f"“{what}” has no strength in lengths of the stream; choose another mode or unit."
    )


def groups_of(view: SteerView, *, selected: int, width: int) -> tuple[tuple[int, ...], ...]:
    """Latents that are steered at once, group by group. Raises ValueError as `parse_latents`."""
    latents = parse_latents(view.latents or str(selected), width=width, seed=view.seed)
    return (latents,) if view.together else tuple((it,) for it in latents)


def place_of(view: SteerView, *, width: int) -> Place:
    """Where it is steered. Raises ValueError for places that do not exist."""
    if view.place == "tokens":
        return Place(
            "tokens", parse_latents(view.positions, width=100_000) if view.positions else ()
        )
    if view.place == "where":
        if view.gate is not None and view.gate >= width:
            raise ValueError(
                f"There is no latent {view.gate}; this SAE has {width}, so choose 0 to {width - 1}."
            )
        return Place("where", latent=view.gate)
    return Place(view.place)


def _read_strengths(text: str) -> str:
    parse_scales(text)
    return " ".join(text.split())


LINK = Link(
    SteerView(),
    [
        LinkField("prompt", "prompt", short_text(_LONGEST_PROMPT)),
        LinkField("chat", "chat", read_flag, write_flag),
        LinkField("latents", "latents", short_text(2000)),
        LinkField("together", "together", read_flag, write_flag),
        LinkField("mode", "mode", one_of(tuple(MODES))),
        LinkField("unit", "unit", one_of(tuple(UNITS))),
        LinkField("strengths", "strengths", _read_strengths),
        LinkField("place", "place", one_of(tuple(PLACES))),
        LinkField("positions", "positions", short_text(400)),
        LinkField("gate", "gate", whole(0, _HIGHEST)),
        LinkField("temperature", "temperature", real(0, 10), write_number),
        LinkField("top_p", "top_p", real(0.01, 1), write_number),
        LinkField("penalty", "penalty", real(-10, 10), write_number),
        LinkField("samples", "samples", whole(1, 20)),
        LinkField("seed", "seed", whole(0, _HIGHEST)),
        LinkField("new_tokens", "tokens", whole(1, 500)),
        LinkField("randoms", "randoms", whole(1, 8)),
        LinkField("shown", "shown", whole(0, MOST_ROWS)),
        LinkField("judge", "judge", read_flag, write_flag),
        LinkField("concept", "concept", short_text(300)),
    ],
)
"""How a view is written into a link."""
