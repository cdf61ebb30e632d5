"""What is done to the stream: which latents, in which mode, how strongly and where.

With h what stands at the SAE's site, a the latent's activation there, w what one unit of it writes
(`core.saes.writes`), v = w / ‖w‖ and s the strength:

| mode | what stands there afterwards |
|---|---|
| add | h + s·w |
| set | h + (s - a)·w: the latent is s, everything else and the SAE's error stay |
| least | h + max(0, s - a)·w: the latent is s or more |
| ablate | h - a·w: the latent is 0 |
| scale | h + (s - 1)·(h·v)·v: s times the component along v |
| cap | the component along v is at most s·‖w‖ |
| renormalise | h + s·w, made as long as h was |
"""

import math
from dataclasses import dataclass, field

MODES = {
    "add": "Add to the stream",
    "set": "Set the latent to",
    "least": "At least",
    "ablate": "Remove the latent",
    "scale": "Multiply the component by",
    "cap": "Cap the component at",
    "renormalise": "Add and keep the length",
}
"""What can be done, in words."""
READS_LATENT = ("set", "least", "ablate")
"""Modes that depend on the latent's own activation."""
SOLVABLE = ("add", "set", "least", "renormalise")
"""Modes whose strength can be solved for a change of the predictions."""
PLACES = {
    "all": "Everywhere",
    "after": "After the prompt",
    "tokens": "At chosen tokens",
    "where": "Where another latent fires",
}
"""Where it is done, in words."""


@dataclass(frozen=True)
class Place:
    """Where in the text an intervention is made."""

    kind: str = "all"
    """`all` (a beginning-of-text token is left alone), `after` (from the prompt's last token on,
    which predicts the first new one), `tokens`, or `where`."""
    positions: tuple[int, ...] = ()
    """Positions of the prompt, from 0, BOS included: for `tokens`."""
    latent: int | None = None
    """Latent of the same SAE that has to be active: for `where`."""

    def __post_init__(self) -> None:
        if self.kind not in PLACES:
            raise ValueError(f"The place {self.kind!r} is none of {', '.join(PLACES)}.")
        if self.kind == "tokens" and (not self.positions or min(self.positions) < 0):
            raise ValueError(
                "No token of the prompt is chosen to be steered; choose one, or steer everywhere."
            )
        if self.kind == "where" and self.latent is None:
            raise ValueError(
                "The latent that has to be active for steering is missing; give its number."
            )


@dataclass(frozen=True)
class Intervention:
    """What is done to one row of a batch."""

    latents: tuple[int, ...]
    """Latents of the SAE; none leaves the row as it is."""
    strengths: tuple[float, ...]
    """One a latent, in units of its activation (factors for `scale`; ignored by `ablate`)."""
    mode: str = "add"
    """One of `MODES`. What several latents change is computed from what stood there before."""
    place: Place = field(default_factory=Place)
    """Where."""
    of_stream: bool = False
    """Whether strengths are multiples of the stream's length at each position instead: what is
    written is so many times as long as the stream there."""
    random: int | None = None
    """Seed of random directions that take the place of the latents', as long as those and with the
    same strengths (for set, at least and ablate the change that the latent would get); None for the
    latents themselves."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"The mode {self.mode!r} is none of {', '.join(MODES)}.")
        if len(self.latents) != len(self.strengths):
            raise ValueError(
                f"There are {len(self.latents)} latents and {len(self.strengths)} strengths; give "
                "one strength for each latent."
            )
        if len(set(self.latents)) < len(self.latents):
            raise ValueError("A latent is named twice; name each once.")
        for strength in self.strengths:
            if not math.isfinite(strength):
                raise ValueError(f"The strength is {strength}; give a finite number.")
        if self.of_stream and self.mode in ("scale", "ablate"):
            raise ValueError(
                f"The mode {self.mode} has no strength in lengths of the stream; choose another "
                "unit or mode."
            )

    def times(self, factor: float) -> "Intervention":
        """The same, so many times as strong."""
        return self.with_strengths(tuple(factor * it for it in self.strengths))

    def with_strengths(self, strengths: tuple[float, ...]) -> "Intervention":
        """The same at other strengths."""
        return Intervention(
            self.latents, strengths, self.mode, self.place, self.of_stream, self.random
        )


UNSTEERED = Intervention((), ())
"""Leaves the model as it is."""
