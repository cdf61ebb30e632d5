"""What of the decompositions a link carries."""

from dataclasses import dataclass, replace

from core.link import Link, LinkField, one_of, read_real, real, short_text, whole, write_number
from core.meta_sae.config import PRESETS, MetaConfig

PRESET_TITLES = {
    "saebench": "SAEBench's meta_structure",
    "paper": "Meta-SAE of the paper",
}
"""Settings that others published."""
MAPS = {"chosen": "The chosen meta-latent", "largest": "The largest ones"}
"""What the map is coloured by."""
MOST_CHANGES = 12


def read_changes(text: str) -> tuple[tuple[int, int, float], ...]:
    """`12:0,40>55:1` as (meta-latent, meta-latent that takes its place, factor).

    Raises ValueError for anything else.
    """
    found = []
    for part in [it for it in text.split(",") if it.strip()]:
        which, _, factor = part.partition(":")
        before, _, after = which.partition(">")
        try:
            pair = int(before), int(after or before)
        except ValueError:
            raise ValueError(f"{part[:40]!r} is no change such as 12:0 or 40>55:1.") from None
        found.append((*pair, read_real(factor or "1", -1000.0, 1000.0)))
    if len(found) > MOST_CHANGES:
        raise ValueError(f"it holds {len(found)} changes; at most {MOST_CHANGES} can be used.")
    if len({it[0] for it in found}) < len(found) or any(min(it[:2]) < 0 for it in found):
        raise ValueError("a meta-latent can be changed once, and numbers begin with 0.")
    return tuple(found)


def write_changes(changes: tuple[tuple[int, int, float], ...]) -> str:
    """The text that `read_changes` reads."""
    return ",".join(
        f"{a}{'' if a == b else f'>{b}'}:{write_number(factor)}" for a, b, factor in changes
    )


@dataclass(frozen=True)
class MetaView:
    """Settings of the section."""

    preset: str = "saebench"
    """One of `core.meta_sae.config.PRESETS`."""
    k: int = 4
    """Meta-latents a latent, on average."""
    share: float = 0.0
    """Meta-latents as a share of the latents; 0 for the preset's."""
    steps: int = 0
    """Batches; 0 for the preset's."""
    seed: int = 42
    """Of the first meta-SAE."""
    narrower: str = ""
    """Label of the narrower SAE; empty for the widest that is narrower."""
    meta: int = -1
    """The meta-latent that is looked at; -1 for the strongest of the selected latent."""
    coloured: str = "chosen"
    """One of `MAPS`."""
    changes: tuple[tuple[int, int, float], ...] = ()
    """What is changed in the selected latent's row: (meta-latent, the one in its place, factor)."""
    prompt: str = ""
    """Text whose next token is asked for; empty for no edit yet."""

    @property
    def config(self) -> MetaConfig:
        """Settings of the training. Raises ValueError for such that cannot be used."""
        preset = PRESETS[self.preset]
        return replace(
            preset,
            k=self.k,
            share=self.share or preset.share,
            steps=self.steps or preset.steps,
            seed=self.seed,
        )


LINK = Link(
    MetaView(),
    (
        LinkField("preset", "as", one_of(tuple(PRESETS))),
        LinkField("k", "k", whole(1, 64)),
        LinkField("share", "share_of", real(0.0, 4.0), write_number),
        LinkField("steps", "steps", whole(0, 100_000)),
        LinkField("seed", "meta_seed", whole(0, 2**31 - 2)),
        LinkField("narrower", "over", short_text(300)),
        LinkField("meta", "meta", whole(-1, 2**31 - 1)),
        LinkField("coloured", "coloured", one_of(tuple(MAPS))),
        LinkField("changes", "change", read_changes, write_changes),
        LinkField("prompt", "ask", short_text(1000)),
    ),
)
"""How a view is written to the link and read from it."""
