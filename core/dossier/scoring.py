"""Descriptions scored without a language model: examples, explanations by words, and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.autointerp.examples import Example
from core.autointerp.explain import Roles, explain_and_score
from core.autointerp.fuzzing import Fuzzing
from core.autointerp.lexical import LexicalJudge, PreparedExplainer, lexical_explanations
from core.autointerp.negatives import NeighbourPrecision
from core.autointerp.prepare import prepare
from core.autointerp.request import RunRequest
from core.autointerp.roles import Explained, Material, Scorer
from core.autointerp.rules import marks_fit
from core.autointerp.view import AutointerpView
from core.descriptions.patterns import Pattern
from core.dossier.shared import Units
from core.view.markup import visible_token

SCORE_TOKENS = 100_000
"""Text in which examples to score with are looked for."""
_NEARLY_ALL = 0.9


def materials_of(
    units: Units, numbers: Sequence[int], *, hard: bool = False
) -> Mapping[int, Material]:
    """What units are explained and scored with; `hard` adds the texts of their neighbours."""
    request = units.request
    view = AutointerpView(
        choose="list",
        latents=tuple(numbers),
        scores=("fuzzing", "neighbours") if hard else ("fuzzing",),
        controls=False,
        total_tokens=min(SCORE_TOKENS, request.tokens),
        n_top_ex_for_scoring=10,
        n_random_ex_for_scoring=20,
        seed=request.seed,
    )
    latent = int(numbers[0])
    run = RunRequest(request.model, request.sae_name, request.sae[2], latent, view, request.corpus)
    return prepare(units.lease.with_saes([0]), units.store, run).materials


def explained_by_words(materials: Mapping[int, Material]) -> dict[int, Explained]:
    """Explanations by words, each told from the examples of all the others.

    Where a few words at the peaks leave some out and one neighbour leaves none, it is the neighbour
    that explains.
    """
    examples = {n: it.evidence.examples for n, it in materials.items()}
    found = lexical_explanations(examples)
    return {n: _by_neighbour(it, examples[n]) for n, it in found.items()}


def _by_neighbour(explained: Explained, examples: Sequence[Example]) -> Explained:
    rule = explained.rule
    if not isinstance(rule, Pattern) or rule.kind != "words":
        return explained
    words = _share(rule, examples)
    for kind, token in (("after", rule.after), ("before", rule.before)):
        if not token:
            continue
        other = replace(rule, kind=kind, token=token)
        share = _share(other, examples)
        if share >= _NEARLY_ALL and words < _NEARLY_ALL:
            text = f'text {kind} "{visible_token(token)}"'
            return replace(explained, text=text, rule=replace(other, share=share))
    return explained


def _share(rule: Pattern, examples: Sequence[Example]) -> float:
    """Share of the examples whose peak fits a rule."""
    fits = [marks_fit(rule, it, [i == it.peak for i in range(len(it.toks))]) for it in examples]
    return sum(fits) / max(1, len(fits))


def scored(
    materials: Mapping[int, Material],
    explained: Mapping[int, Explained],
    *,
    given: Mapping[int, str] | None = None,
) -> dict[int, dict[str, Any]]:
    """Results of these explanations, or of those that are given, judged by words."""
    judge = LexicalJudge()
    scorers: list[Scorer] = [Fuzzing(judge), NeighbourPrecision(judge)]
    roles = Roles(PreparedExplainer(explained), judge, scorers)
    return explain_and_score(materials, roles, given=given)


def number_of(result: Mapping[str, Any] | None, name: str) -> float:
    """The balanced accuracy of a result by a scorer; NaN where there is none."""
    numbers = numbers_of(result, name)
    value = numbers.get("balanced_accuracy")
    return float("nan") if value is None else float(value)


def numbers_of(result: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """All figures of a result by a scorer; `numbers` are those of detection."""
    if result is None:
        return {}
    if name == "numbers":
        return result.get("numbers") or {}
    return ((result.get("scores") or {}).get(name) or {}).get("numbers") or {}
