"""What each section shows, as blocks."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pandas as pd

from core.dossier.belongs import Belongs
from core.dossier.blocks import Bars, Block, Grid, Prose, Texts, grid, shown
from core.dossier.hides import Hides
from core.dossier.reads import Reads
from core.dossier.says import Said, Says
from core.dossier.works import Works
from core.dossier.writes import Writes
from core.view.markup import visible_token

_N_TOP = 8
_PER_BAND = 2
SOURCES = {
    "offline": "words of its examples",
    "model": "the model itself",
    "yours": "you",
    "neuronpedia": "Neuronpedia",
}
"""Who says something of a latent."""


def _reads(section: Reads) -> tuple[Block, ...]:
    if not section.count:
        return (Prose(f"It never fires in {section.n_tokens:,} tokens of {section.text}."),)
    edges = section.edges
    labels = [f"{low:.3g}–{high:.3g}" for low, high in pairwise(edges)]
    blocks: list[Block] = [
        Prose(
            f"It fires at {section.count:,} of {section.n_tokens:,} tokens of {section.text}, with "
            f"a mean of {section.mean:.3g} and at most {section.peak:.3g}."
        ),
        Bars("Positions by activation", tuple(map(float, section.histogram)), tuple(labels)),
        Texts("Strongest examples", section.top[:_N_TOP], section.peak),
        *(
            Texts(
                f"{band.low:.3g} to {band.high:.3g}: {band.count:,} positions",
                band.rows[:_PER_BAND],
                section.peak,
            )
            for band in section.bands
        ),
        *(
            Texts(
                f"Kind of context {number}: {', '.join(cluster.words) or 'no word in common'} "
                f"({cluster.n} examples)",
                cluster.rows[:_PER_BAND],
                section.peak,
            )
            for number, cluster in enumerate(section.clusters, start=1)
            if len(section.clusters) > 1
        ),
        _tokens("Tokens of the strongest examples", section.tokens, ["examples"]),
        _tokens(
            "Tokens of its weak activations",
            section.weak_tokens,
            ["examples", "also strong"],
            note="From the lower half of its range: what strong examples hide.",
        ),
        _positions(section),
    ]
    return tuple(blocks)


def _positions(section: Reads) -> Bars:
    fires, everything = section.positions, section.positions_all
    last = len(fires) - 1  # the last counts all that come later
    labels = [str(n + 1) for n in range(last)]
    n, whole = max(1, int(fires.sum())), max(1, int(everything.sum()))
    return Bars(
        "Firings by position in the text",
        tuple(float(it) / n for it in fires[:last]),
        tuple(labels),
        tuple(float(it) / whole for it in everything[:last]),
        f"Bars: share of its firings at the first {last} tokens; marks: share of all positions, "
        "which chance would give.",
    )


def _writes(section: Writes) -> tuple[Block, ...]:
    effects = section.effects
    logits = pd.DataFrame(
        {
            "boosted": [visible_token(it.token) for it in effects.boosted],
            "by": [it.effect for it in effects.boosted],
            "suppressed": [visible_token(it.token) for it in effects.suppressed],
            "by ": [it.effect for it in effects.suppressed],
        }
    )
    edges = effects.edges
    steered = section.steered.assign(text=section.steered["text"].map(visible_line))
    blocks: list[Block] = [
        grid("Logit lens", logits, list(logits), note="Change of the logit a unit of activation."),
        Bars(
            "Tokens of the vocabulary by effect",
            tuple(map(float, effects.counts)),
            tuple(f"{low:.3g}" for low in edges[:-1]),
        ),
        grid(
            "Kinds of tokens that it pushes",
            section.sets,
            ["set", "group", "size", "score", "q", "beyond"],
            note="beyond: share of random directions whose score is as far from 0.",
            shares=["beyond"],
        ),
        _tokens("Tokens behind its peaks", section.next_tokens, ["examples"]),
        grid(
            "Steered to an equal change of the predictions",
            steered,
            ["kind", "kl", "gain", "gain_low", "gain_high", "text"],
            wraps=True,
            note=section.steer_problem
            or "gain: in the probability of the tokens that the latent pushes, on held-out text.",
        ),
        grid(
            "Removed at its strongest examples",
            section.ablation,
            ["kl", "random"],
            note="Change of the prediction at the peak, in nats; random: of directions as long.",
        ),
    ]
    return tuple(blocks)


def _says(section: Says) -> tuple[Block, ...]:
    table = pd.DataFrame([_said(it) for it in section.said])
    blocks: list[Block] = [
        grid(
            "Descriptions",
            table,
            list(table),
            note="Judged by matching words, which is deaf to paraphrase: a low score of a text in "
            "other words says little.",
            wraps=True,
        )
    ]
    own = section.spoken
    if own is not None:
        blocks.append(Prose(f"{own.speaker}: {own.against_null.sentence} {own.transfer}"))
        if own.word:
            blocks.append(
                Prose(
                    f"Its own definition of “{own.word}”, on which the latent fires: "
                    f"“{own.definition}” (word overlap {own.reading:.2f})."
                )
            )
    missing = tuple((SOURCES.get(name, name), why) for name, why in section.not_said.items())
    if missing:
        blocks.append(Grid("Not asked", ("who", "why"), missing, wraps=True))
    if len(section.overlap):
        blocks.append(grid("Agreement", section.overlap, list(section.overlap)))
    return tuple(blocks)


def _said(it: Said) -> dict[str, Any]:
    def told(measure: Any) -> str:
        if not measure.known:
            return "–"
        low, high = (shown(end, is_share=True) for end in (measure.low, measure.high))
        return f"{shown(measure.value, is_share=True)} ({low}–{high}), n = {measure.n}"

    return {
        "who": SOURCES.get(it.source, it.source),
        "text": it.text,
        "detection": told(it.detection),
        "fuzzing": told(it.fuzzing),
        "neighbours": told(it.neighbours),
        "held-out precision": told(it.precision),
        "held-out recall": told(it.recall),
        "names of its tokens": f"{it.output.value:.0%}, others {it.output.chance('latents'):.0%}",
    }


def _belongs(section: Belongs) -> tuple[Block, ...]:
    blocks: list[Block] = [
        grid("Nearest latents of the same SAE", section.nearest, list(section.nearest)),
        grid(
            "Fires with",
            section.partners,
            list(section.partners),
            note="share: of its firings; frequency: of all positions, which chance would give.",
            shares=["share", "frequency"],
        ),
    ]
    if section.widths:
        blocks.append(
            grid(
                "Parents and children",
                section.relatives,
                list(section.relatives),
                note=f"By cosine, in widths {', '.join(f'{it:,}' for it in section.widths)}.",
            )
        )
    else:
        blocks.append(Prose("There are no SAEs of other widths at this site to look for kin in."))
    return tuple(blocks)


def _hides(section: Hides) -> tuple[Block, ...]:
    fits = "fits it" if section.fits else "does not fit it well enough to speak of exceptions"
    return (
        Prose(
            f"The kind of tokens that its firing fits best is “{section.concept}” (F1 "
            f"{section.fit:.2f}, by chance {section.chance_fit:.2f}; next “{section.runner_up}”), "
            f"which {fits}. A probe finds that kind with F1 {section.probe_f1:.2f}."
        ),
        grid(
            "Tokens of that kind at which it seldom fires",
            section.tokens.assign(token=section.tokens["token"].map(visible_token)),
            list(section.tokens),
            note="fires: share of the positions; full: share that one other latent carries alone.",
            shares=["fires", "full"],
        ),
        grid("Latents that fire instead", section.absorbers, list(section.absorbers)),
    )


def _works(section: Works) -> tuple[Block, ...]:
    blocks: list[Block] = [
        _tokens(
            "Tokens that feed it",
            section.tokens,
            ["back", "share", "prompts"],
            note=f"Mean over {section.prompts} strongest examples; back: tokens before the peak.",
        )
    ]
    if section.before:
        feeds = grid(
            f"Latents of {section.before} that feed it", section.feeds, list(section.feeds)
        )
        blocks += [feeds, Prose(f"Checked by intervention. {section.into}")]
    if len(section.heads):
        blocks.append(grid("Heads that feed it", section.heads, list(section.heads)))
    if section.after:
        fed = grid(f"Latents of {section.after} that it feeds", section.fed, list(section.fed))
        blocks += [fed, Prose(f"Checked by intervention. {section.out}")]
    columns = ["effect", "prompts"]
    blocks.append(_tokens("Likeliest next tokens at its peaks", section.next_tokens, columns))
    if not section.before and not section.after:
        blocks.append(Prose("There is no other SAE of this release to trace it through."))
    return tuple(blocks)


def _tokens(title: str, table: pd.DataFrame, columns: list[str], *, note: str = "") -> Grid:
    visible = table.assign(token=table["token"].map(visible_token)).head(10)
    return grid(title, visible, ["token", *columns], note=note, shares=["share"])


def visible_line(text: Any) -> str:
    """A text on one line."""
    return str(text).replace("\n", "↵")


BLOCKS: dict[str, Callable[[Any], tuple[Block, ...]]] = {
    "reads": _reads,
    "writes": _writes,
    "says": _says,
    "belongs": _belongs,
    "hides": _hides,
    "works": _works,
}
"""By part."""
