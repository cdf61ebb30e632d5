"""Says: what different sources say of the latent, and which of it predicts where it fires."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.activations.text_index import IndexRequest
from core.autointerp.negatives import nearest_latents
from core.autointerp.rules import Rule, TextRule, rule_from_text
from core.dossier.measure import Controls, Measure, share
from core.dossier.reads import described
from core.dossier.scoring import (
    explained_by_words,
    materials_of,
    number_of,
    numbers_of,
    scored,
)
from core.dossier.shared import Shared, Units
from core.dossier.spoken import Spoken, spoken
from core.dossier.texts import counts_of
from core.patch_scoping.faithfulness import faithfulness, scores
from core.patch_scoping.null_distribution import mean_overlap
from core.patch_scoping.peak_tokens import PeakTokens, find_peak_tokens
from core.patch_scoping.reading import unigram_f1

VERSION = 7
_N_OTHERS = 2000
_N_NEAR = 10
_SCORES = (("detection", "numbers"), ("fuzzing", "fuzzing"), ("neighbours", "neighbours"))


@dataclass(frozen=True)
class Said:
    """One description of the latent, and how well it does."""

    source: str
    """Who says so: `offline`, `model` (the model itself), `yours`, `neuronpedia`, …"""
    text: str
    """The description."""
    detection: Measure
    """Balanced accuracy of telling texts in which the latent fires; chance is 0.5."""
    fuzzing: Measure
    """The same of telling right marks from wrong ones."""
    neighbours: Measure
    """The same of telling its texts from those of its nearest latents."""
    output: Measure
    """How much it names of the tokens on which the latent fires and that it pushes."""
    best_other: int
    """Of the other latents, the one whose tokens it names most; -1 for none."""
    best_other_score: float
    """How much of that one's."""
    precision: Measure
    """Share of the words of held-out text that the description names, at which it fires."""
    recall: Measure
    """Share of the words of held-out text at which it fires, that the description names."""
    names_something: bool
    """Whether words can judge it: "nothing in common" names nothing, and of a text in other words
    none stands in any example."""
    why: str
    """Why a score is missing, in a sentence."""


@dataclass(frozen=True, eq=False)
class Says:
    """All descriptions of one latent."""

    measures: tuple[Measure, ...]
    """Their agreement."""
    said: tuple[Said, ...]
    """The descriptions, the best first."""
    spoken: Spoken | None
    """What the model itself says, in full."""
    not_said: Mapping[str, str]
    """Sources without a description, and why."""
    overlap: pd.DataFrame
    """Word overlap (F1) of each pair: `one`, `other`, `overlap`."""

    @property
    def best(self) -> Said | None:
        """The description that predicts best where the latent fires; None without one."""
        return self.said[0] if self.said else None


def figures(shared: Shared, units: Units, numbers: Sequence[int]) -> pd.DataFrame:
    """Scores of the offline explanations of some units that fire."""
    materials = materials_of(units, numbers)
    explained = explained_by_words(materials)
    found = scored(materials, explained)
    words, rows = units.words, []
    for number in numbers:
        right = said = active = strong = 0
        if number in explained:
            right, said, active, strong = counts_of(explained[number].rule, units, number, words)
        rows.append(
            {
                "detection": number_of(found.get(number), "numbers"),
                "fuzzing": number_of(found.get(number), "fuzzing"),
                "precision": right / said if said else np.nan,
                "recall": strong / active if active else np.nan,
            }
        )
    return pd.DataFrame(rows)


def says_section(shared: Shared, latent: int) -> Says:
    """The section of a latent. Raises ValueError for one that never fires on the text."""
    request = shared.request
    if not shared.own.whole.peak[latent] > 0:
        raise ValueError(
            f"Latent {latent} never fires on this text, so there is nothing to explain or to "
            "score with; read a longer text."
        )
    texts: dict[str, str] = dict(request.texts)
    missing = {
        source: why
        for source, why in (
            ("yours", "You have not described it."),
            ("neuronpedia", "No published description was read for this SAE."),
            ("chat", "No chat model was asked (Autointerp page)."),
        )
        if not any(name.startswith(source) for name in texts)
    }
    own: Spoken | None = None
    if request.speaker:
        try:
            with shared.lease.turn() as (_, (sae, *_)):
                near = nearest_latents(sae, [latent], min(_N_NEAR, sae.cfg.d_sae - 1))[0]
            own = spoken(shared, _peaks(shared), latent, near.tolist())
            texts = {"model": own.best.text, **texts}
        except ValueError as error:
            missing["model"] = str(error)
    else:
        missing["model"] = (
            "There is no model on this machine that was tuned from this one to answer questions."
        )
    others = materials_of(shared.own, shared.peers.tolist())
    batch = shared.batch if latent in shared.batch else (latent,)
    whole = shared.once(f"examples of {batch}", lambda: materials_of(shared.own, batch, hard=True))
    materials = {latent: whole[latent]}
    explained = explained_by_words({**others, **materials})
    results = {"offline": scored(materials, explained)[latent]}
    rules: dict[str, Rule] = {}
    if latent in explained:
        rules["offline"] = explained[latent].rule
    for source, text in texts.items():
        if text.strip():
            results[source] = scored(materials, {}, given={latent: text})[latent]
            rules[source] = rule_from_text(text)
    peaks = _peaks(shared)
    beside = shared.beside("says", figures, VERSION, latent)
    said = [
        _said(source, result, rules[source], peaks, latent, beside, shared)
        for source, result in results.items()
        if result["explanation"]
    ]
    said.sort(key=lambda it: (not it.names_something, -np.nan_to_num(it.detection.value, nan=-1.0)))
    return Says(
        measures=(_agreement(shared, said),),
        said=tuple(said),
        spoken=own,
        not_said=missing,
        overlap=_overlaps(said),
    )


def _said(
    source: str,
    result: Mapping[str, Any],
    rule: Rule,
    peaks: PeakTokens,
    latent: int,
    beside: Mapping[str, Controls],
    shared: Shared,
) -> Said:
    text = str(result["explanation"])
    measured = {}
    titles = {
        "detection": "Texts told right (balanced accuracy; chance 50 %)",
        "fuzzing": "Marks told right (balanced accuracy; chance 50 %)",
        "neighbours": "Told from its neighbours' texts (balanced accuracy; chance 50 %)",
    }
    for name, place in _SCORES:
        numbers = numbers_of(result, place)
        low, high = numbers.get("balanced_low"), numbers.get("balanced_high")
        measured[name] = Measure(
            name,
            titles[name],
            number_of(result, place),
            float("nan") if low is None else float(low),
            float("nan") if high is None else float(high),
            int(numbers.get("n") or 0),
            "examples",
            is_share=True,
            **beside.get(name, Controls()),
        )
    units = shared.own
    right, named, active, strong = counts_of(rule, units, latent, units.words)
    alive = peaks.alive
    rng = np.random.default_rng([shared.request.seed, latent])
    chosen = alive if len(alive) <= _N_OTHERS else np.sort(rng.choice(alive, _N_OTHERS, False))
    rivals = [int(it) for it in chosen if it != latent]
    faithful = faithfulness(text, peaks.of(latent), [peaks.of(it) for it in rivals])
    elsewhere = [scores(text, peaks.of(it))[0] for it in rivals]
    best = int(np.argmax(elsewhere)) if elsewhere else -1
    # The interval is that of chance: how much of other latents' tokens the text names.
    output = Measure(
        "output",
        "Share of its own and its pushed tokens that are named",
        faithful.score,
        n=len(peaks.of(latent).active) + len(peaks.of(latent).boosted),
        of="tokens",
        latents=tuple(elsewhere),
        is_share=True,
    )
    return Said(
        source=source,
        text=text,
        detection=measured["detection"],
        fuzzing=measured["fuzzing"],
        neighbours=measured["neighbours"],
        output=output,
        best_other=rivals[best] if best >= 0 and elsewhere[best] > 0 else -1,
        best_other_score=elsewhere[best] if best >= 0 else float("nan"),
        precision=share(
            "precision",
            "Held-out words that it names, at which the latent fires",
            right,
            named,
            "words named",
            **beside.get("precision", Controls()),
        ),
        recall=share(
            "recall",
            "Held-out words at which the latent fires strongly, that it names",
            strong,
            active,
            "words at which it reaches half its largest activation",
            **beside.get("recall", Controls()),
        ),
        names_something=(
            bool(numbers_of(result, "numbers").get("n_predicted") or right)
            if isinstance(rule, TextRule)
            else rule.kind not in ("mixed", "none")
        ),
        why=str(result.get("error") or ""),
    )


def _peaks(shared: Shared) -> PeakTokens:
    request = shared.request
    wanted = IndexRequest(request.model, (request.sae,), request.corpus, request.tokens)
    return shared.once("peaks", lambda: find_peak_tokens(shared.lease, shared.store, wanted))


def _agreement(shared: Shared, said: Sequence[Said]) -> Measure:
    """Mean word overlap between descriptions; that with descriptions of random latents beside."""
    texts = [it.text for it in said]
    title = "Word overlap between the descriptions (F1)"
    if len(texts) < 2:
        return Measure("agreement", title, float("nan"), of="pairs")
    foreign = described(shared, shared.own, shared.peers.tolist())["text"]
    chance = [
        float(np.mean([unigram_f1(mine, other) for mine in texts])) for other in foreign if other
    ]
    n = len(texts) * (len(texts) - 1) // 2
    return Measure("agreement", title, mean_overlap(texts), n=n, of="pairs", latents=tuple(chance))


def _overlaps(said: Sequence[Said]) -> pd.DataFrame:
    rows = [
        {"one": a.source, "other": b.source, "overlap": unigram_f1(a.text, b.text)}
        for i, a in enumerate(said)
        for b in said[i + 1 :]
    ]
    return pd.DataFrame(rows, columns=["one", "other", "overlap"])
