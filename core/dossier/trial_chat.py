"""A hypothesis judged by a chat model: short held-out texts, of which it names some.

The texts are of three kinds, mixed and not told apart: such in which the latent fires, such in
which it does not, and such in which other latents fire that do so about as often. From the first
two follow recall and false alarms, and from how often the latent fires precision; the third is
what chance gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.autointerp.chat import ChatJudge
from core.autointerp.examples import Example
from core.autointerp.roles import Explained
from core.dossier.hypothesis import Hypothesis
from core.dossier.measure import LEVEL, Measure, share
from core.dossier.shared import Shared, Units
from core.dossier.texts import ACTIVE
from core.dossier.trial import Trial, check_fires, held_out_name, now, null_latents
from core.dossier.trial_examples import activations_of, row_around
from core.llm import ChatSession, run_each

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.models import Model

N_TEXTS = 30
"""Texts in which the latent fires, and as many in which it does not."""
N_OTHERS = 20
"""Random latents, with one text each."""
_AROUND = 10
_AT_ONCE = 10
_DRAWS = 4000


@dataclass(frozen=True)
class _Asked:
    """One text."""

    kind: str
    """`active`, `quiet` or `other`."""
    at: int
    """Position of the sample that it is around."""


def try_with_chat(
    shared: Shared, latent: int, hypothesis: Hypothesis, session: ChatSession, *, who: str = ""
) -> Trial:
    """The trial of an explanation that a chat model judges, within the session's budget.

    Raises:
        ValueError: a latent that never fires, here or on the text that was read.
        ChatError: the service refuses, or the budget is spent; what was answered is kept.
    """
    units = shared.own
    check_fires(units, latent)
    acts = activations_of(units.held_out, latent)
    asked, rate = _texts(units, latent, acts, shared.request.seed)
    examples = _examples(shared, asked, acts, float(units.whole.peak[latent]))
    batches = [
        tuple(range(i, min(i + _AT_ONCE, len(asked)))) for i in range(0, len(asked), _AT_ONCE)
    ]
    judge, explained = ChatJudge(session), Explained(hypothesis.text.strip())

    async def ask(batch: tuple[int, ...]) -> list[int]:
        judged = await judge.judge(explained, [examples[i] for i in batch])
        return [batch[number - 1] for number in judged.predictions]

    answers = run_each(
        batches, ask, session=session, progress=shared.lease.progress, unit="questions"
    )
    named = np.isin(np.arange(len(asked)), [i for some in answers.values() for i in some])
    measures, verdict = _measures(asked, named, rate)
    wrong = [i for i, it in enumerate(asked) if named[i] and it.kind == "quiet"]
    missed = [i for i, it in enumerate(asked) if not named[i] and it.kind == "active"]
    missed.sort(key=lambda i: -acts[asked[i].at])
    return Trial(
        when=now(),
        who=who,
        kind=hypothesis.kind,
        hypothesis=hypothesis.text.strip(),
        judge=session.endpoint.model,
        reads_as=f"Judged by {session.endpoint.model} on {len(asked)} texts of "
        f"{2 * _AROUND + 1} tokens, {len(batches)} questions.",
        text=held_out_name(),
        unit="texts",
        n=len(asked),
        verdict=verdict,
        measures=measures,
        silent=tuple(row_around(units, acts, asked[i].at, around=_AROUND) for i in wrong[:8]),
        missed=tuple(row_around(units, acts, asked[i].at, around=_AROUND) for i in missed[:8]),
        peak=float(units.whole.peak[latent]),
    )


def _texts(units: Units, latent: int, acts: np.ndarray, seed: int) -> tuple[list[_Asked], float]:
    """The texts, mixed, and the share of such texts in which the latent fires."""
    rng = np.random.default_rng([seed, latent, 3])
    row = units.held_out.firings.places.astype(np.int64) // units.held_out.firings.context
    bound = ACTIVE * float(units.whole.peak[latent])
    fires = acts > bound
    near = _near(fires, row)
    active = np.flatnonzero(fires)
    if not len(active):
        raise ValueError(
            f"Latent {latent} never fires in the held-out text, so there is nothing to judge by; "
            "try a set of tokens on another latent."
        )
    quiet = np.flatnonzero(~near)
    chosen = [_Asked("active", int(it)) for it in _drawn(rng, active, N_TEXTS)]
    chosen += [_Asked("quiet", int(it)) for it in _drawn(rng, quiet, N_TEXTS)]
    for other in null_latents(units, latent, n=N_OTHERS):
        own = activations_of(units.held_out, other)
        places = np.flatnonzero((own > ACTIVE * float(units.whole.peak[other])) & ~near)
        if len(places):
            chosen.append(_Asked("other", int(rng.choice(places))))
    return [chosen[i] for i in rng.permutation(len(chosen))], float(near.mean())


def _near(fires: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Positions with a firing in the text that would be shown around them."""
    found = fires.copy()
    for step in range(1, _AROUND + 1):
        same = row[step:] == row[:-step]
        found[step:] |= fires[:-step] & same
        found[:-step] |= fires[step:] & same
    return found


def _drawn(rng: np.random.Generator, places: np.ndarray, n: int) -> np.ndarray:
    return places if len(places) <= n else rng.choice(places, n, replace=False)


def _examples(
    shared: Shared, asked: Sequence[_Asked], acts: np.ndarray, peak: float
) -> list[Example]:
    firings = shared.own.held_out.firings
    row = firings.places // firings.context
    found: list[Example] = []

    def cut(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        for it in asked[first:last]:
            inside = np.flatnonzero(row == row[it.at])
            low = max(int(inside[0]), it.at - _AROUND)
            high = min(int(inside[-1]), it.at + _AROUND) + 1
            found.append(
                Example(
                    firings.tokens[low:high].tolist(),
                    acts[low:high].tolist(),
                    ACTIVE * peak,
                    model,
                    source=it.kind,
                )
            )

    shared.lease.in_turns(len(asked), cut, unit="texts", message="Choosing texts", step=len(asked))
    return found


def _measures(
    asked: Sequence[_Asked], named: np.ndarray, rate: float
) -> tuple[tuple[Measure, ...], str]:
    from scipy.stats import fisher_exact

    of = {kind: named[[it.kind == kind for it in asked]] for kind in ("active", "quiet", "other")}
    hits, wrong, others = (int(it.sum()) for it in of.values())
    n, quiet, n_others = (len(it) for it in of.values())
    recall = share(
        "recall", "Of the texts in which the latent fires, those that are named", hits, n, "texts"
    )
    false = share("false", "Of the texts in which it is silent, those named", wrong, quiet, "texts")
    null = share(
        "others",
        "Of the texts in which random latents fire that do so as often, those named",
        *(others, n_others, "random latents"),
    )
    # Beta draws (Jeffreys) of both rates give the interval of what follows from them.
    rng = np.random.default_rng(0)
    drawn = [rng.beta(k + 0.5, m - k + 0.5, _DRAWS) for k, m in ((hits, n), (wrong, quiet))]

    def precision_at(found: np.ndarray, alarms: np.ndarray) -> np.ndarray:
        whole = rate * found + (1 - rate) * alarms
        return np.where(whole > 0, rate * found / np.maximum(whole, 1e-12), np.nan)

    nothing = not (hits or wrong) or not quiet
    value = np.nan if nothing else float(precision_at(np.array(hits / n), np.array(wrong / quiet)))
    low, high = (
        (np.nan, np.nan) if nothing else np.nanquantile(precision_at(*drawn), (0.025, 0.975))
    )
    precision = Measure(
        "precision",
        "Of all texts that would be named, those in which the latent fires (from both shares)",
        value,
        float(low),
        float(high),
        n + quiet,
        "texts judged",
        is_share=True,
    )
    base = Measure(
        "base", "Texts in which the latent fires", rate, n=n + quiet, of="texts", is_share=True
    )
    table = [[hits, n - hits], [others, n_others - others]]
    p = float(fisher_exact(table, alternative="greater").pvalue) if n_others else np.nan
    return (precision, recall, false, null, base), _verdict(precision, recall, p)


def _verdict(precision: Measure, recall: Measure, p: float) -> str:
    if not (precision.known and recall.known):
        return "says nothing"
    if not p <= LEVEL:
        return "like chance"
    right, found = (it.value >= 0.5 and it.low > 0.3 for it in (precision, recall))
    if right and found:
        return "fits"
    if found:
        return "too wide"
    return "too narrow" if right else "beyond chance"
