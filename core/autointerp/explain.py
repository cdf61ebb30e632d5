"""Explain and score many latents at once; every latent ends in a result, whatever goes wrong."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from core.autointerp.chat import ChatExplainer, ChatJudge
from core.autointerp.detection_statistics import (
    counts_without_score,
    detection_statistics,
    why_no_score,
    without_nan,
)
from core.autointerp.examples import Example
from core.autointerp.fuzzing import ChatMarksJudge, Fuzzing, fuzzing_items
from core.autointerp.generation import Generation, Reviser
from core.autointerp.negatives import NeighbourPrecision
from core.autointerp.output_choice import OutputChoice
from core.autointerp.roles import (
    Explained,
    Explainer,
    FailedAnswer,
    Judge,
    Material,
    NoPatternFound,
    NoScore,
    Scored,
    Scorer,
)
from core.autointerp.simulation import Simulation
from core.jobs.progress import Progress
from core.llm import BudgetSpent, ChatError, ChatRequest, ChatSession, run_each

T = TypeVar("T")
Result = dict[str, Any]
"""What became of one latent, as JSON; see `AutoInterp.run`."""


@dataclass(frozen=True)
class Roles:
    """Who does what."""

    explainer: Explainer
    """Turns evidence into an explanation."""
    judge: Judge | None = None
    """Scores by detection; None explains only."""
    scorers: Sequence[Scorer] = ()
    """Further scores."""
    reviser: Reviser | None = None
    """Revises explanations by what the `generation` scorer found out; None leaves them."""
    seed: int = 0
    """Of the bootstrap."""


def explain_and_score(
    materials: Mapping[int, Material],
    roles: Roles,
    *,
    session: ChatSession | None = None,
    given: Mapping[int, str] | None = None,
    on_result: Callable[[int, Result], None] | None = None,
    progress: Progress | None = None,
) -> dict[int, Result]:
    """A result for every latent of `materials`, in their order.

    Args:
        materials: by latent.
        roles: who explains and judges.
        session: whose questions are stopped when the run ends early.
        given: explanations to score instead of asking for them.
        on_result: called in this thread with each result as it comes.
        progress: latents done.

    Raises:
        JobCancelled: through `progress`; what is done went to `on_result`.
    """
    texts = given or {}

    async def work(latent: int) -> Result:
        return await _Latent(materials[latent], roles, texts.get(latent)).result()

    return run_each(materials, work, session=session, on_result=on_result, progress=progress)


def score_predictions(predictions: Sequence[int], examples: Sequence[Example]) -> float:
    """Share of the examples, numbered from 1, that are told right."""
    right = [(n in predictions) == ex.is_active for n, ex in enumerate(examples, start=1)]
    return sum(right) / len(right)


class _Latent:
    """One latent on its way."""

    def __init__(self, material: Material, roles: Roles, given: str | None) -> None:
        self._material, self._roles, self._given = material, roles, given
        self._result: Result = {
            "explanation": given,
            "status": "explained",
            "error": "",
            "explanation messages": None,
            "explanation raw": None,
            "unreadable": 0,
        }
        if roles.judge is not None:
            self._result |= dict.fromkeys(
                ("predictions", "correct seqs", "score", "numbers", "prediction messages")
            )
            self._result["prediction raw"] = None
            scoring = material.scoring
            self._result["correct seqs"] = [n for n, e in enumerate(scoring, 1) if e.is_active]
        if roles.scorers:
            self._result["scores"] = {}

    async def result(self) -> Result:
        explained = await self._kept("explanation", self._explain)
        if explained is None or self._roles.judge is None:
            return self._result
        found = await self._kept("prediction", lambda: self._detect(explained))
        if found is None:
            return self._result
        self._result |= found
        await self._further(explained)
        return self._result

    async def _kept(self, stage: str, work: Callable[[], Awaitable[T]]) -> T | None:
        """What `work` gives; a failure is written into the result."""
        try:
            return await work()
        except BudgetSpent as error:
            self._result |= {"status": "stopped", "error": str(error)}
        except FailedAnswer as error:
            status = "no pattern" if isinstance(error, NoPatternFound) else "failed"
            self._result |= {"status": status, "error": str(error)}
            self._result[f"{stage} messages"] = error.messages
            self._result[f"{stage} raw"] = list(error.raw)
            self._result["unreadable"] += error.unreadable
        except ChatError as error:
            self._result |= {"status": "failed", "error": str(error)}
        return None

    async def _explain(self) -> Explained:
        if not self._material.evidence.examples:
            raise FailedAnswer("The latent never fired on this text.", messages=[], raw=[])
        if self._given is not None:
            return Explained(self._given)
        explained = await self._roles.explainer.explain(self._material.evidence)
        self._result |= {
            "explanation": explained.text,
            "explanation messages": explained.messages,
            "explanation raw": list(explained.raw),
        }
        self._result["unreadable"] += explained.unreadable
        return explained

    async def _detect(self, explained: Explained) -> Result:
        scoring = self._material.scoring
        if not scoring or self._roles.judge is None:
            raise FailedAnswer("There is nothing to score with.", messages=[], raw=[])
        active = [example.is_active for example in scoring]
        why = why_no_score(active)
        if why:
            # Whatever a judge says, it would tell nothing: it is not asked, and not paid.
            return {"status": "unscored", "error": why, "numbers": counts_without_score(active)}
        judged = await self._roles.judge.judge(explained, scoring)
        predicted = [number in judged.predictions for number in range(1, len(scoring) + 1)]
        self._result["unreadable"] += judged.unreadable
        return {
            "status": "scored",
            "error": "",
            "predictions": judged.predictions,
            "score": score_predictions(judged.predictions, scoring),
            "numbers": without_nan(
                asdict(detection_statistics(active, predicted, seed=self._roles.seed))
            ),
            "prediction messages": judged.messages,
            "prediction raw": list(judged.raw),
        }

    async def _further(self, explained: Explained) -> None:
        for scorer in self._roles.scorers:
            found = await self._scored(scorer, explained)
            if scorer.name == "generation" and isinstance(found, Scored) and self._roles.reviser:
                await self._revise(scorer, explained, found, self._roles.reviser)

    async def _scored(self, scorer: Scorer, explained: Explained) -> Scored | None:
        """The score, noted; a failure is noted with it and costs nothing else."""
        scores: Result = self._result["scores"]
        try:
            found = await scorer.score(explained, self._material)
        except BudgetSpent as error:
            scores[scorer.name] = {"status": "stopped", "error": str(error)}
            return None
        except FailedAnswer as error:
            status = "unscored" if isinstance(error, NoScore) else "failed"
            failed = {"messages": error.messages, "raw": list(error.raw)}
            failed |= {"unreadable": error.unreadable}
            scores[scorer.name] = {"status": status, "error": str(error), **failed}
            return None
        except ChatError as error:
            scores[scorer.name] = {"status": "failed", "error": str(error)}
            return None
        scores[scorer.name] = as_json(found)
        return found

    async def _revise(
        self, scorer: Scorer, explained: Explained, generated: Scored, reviser: Reviser
    ) -> None:
        """The explanation after revision, and its scores beside those before."""
        revision: Result = {"status": "unchanged", "error": ""}
        self._result["revision"] = revision
        try:
            revised = await reviser.revise(explained, generated)
            if revised is None:
                return
            revision |= {"explanation": revised.text, "raw": list(revised.raw)}
            revision["messages"] = revised.messages
            found = await self._detect(revised)
            revision |= {"numbers": found["numbers"], "predictions": found.get("predictions")}
            revision["generation"] = as_json(await scorer.score(revised, self._material))
            revision["status"] = "revised"
        except ChatError as error:
            stopped = isinstance(error, BudgetSpent)
            revision |= {"status": "stopped" if stopped else "failed", "error": str(error)}
        except FailedAnswer as error:
            revision |= {"status": "failed", "error": str(error), "raw": list(error.raw)}


def as_json(found: Scored) -> Result:
    """A score as it is stored."""
    return {
        "status": "scored" if found.score is not None else "unscored",
        "error": found.why,
        "score": found.score,
        "chance": found.chance,
        "numbers": dict(found.numbers),
        "rows": [dict(row) for row in found.rows],
        "messages": found.messages,
        "raw": list(found.raw),
        "unreadable": found.unreadable,
    }


def first_requests(
    materials: Mapping[int, Material], roles: Roles, *, explanation_tokens: int
) -> list[ChatRequest]:
    """Every first question of a run: explanations are taken to be as long as they may be.

    Reminders after answers that cannot be read, and revisions, come on top.
    """
    longest = "word " * explanation_tokens
    requests: list[ChatRequest] = []
    for material in materials.values():
        if not material.evidence.examples:
            continue
        if isinstance(roles.explainer, ChatExplainer):
            requests.append(roles.explainer.request(material.evidence))
        if roles.judge is None or not material.scoring:
            continue
        active = [example.is_active for example in material.scoring]
        if isinstance(roles.judge, ChatJudge) and not why_no_score(active):
            requests.append(roles.judge.request(longest, material.scoring))
        for scorer in roles.scorers:
            requests += _of_scorer(scorer, material, roles, longest)
    return requests


def _of_scorer(scorer: object, material: Material, roles: Roles, longest: str) -> list[ChatRequest]:
    if isinstance(scorer, Fuzzing) and isinstance(scorer.judge, ChatMarksJudge):
        items = fuzzing_items(material)
        examples, marks = [item[0] for item in items], [item[1] for item in items]
        return [scorer.judge.request(longest, examples, marks)] if items else []
    if isinstance(scorer, NeighbourPrecision) and isinstance(roles.judge, ChatJudge):
        own = [example for example in material.scoring if example.source == "top"]
        mixed = [*own, *material.neighbours]
        told_apart = not why_no_score([example.is_active for example in mixed])
        asks = own and material.neighbours and told_apart
        return [roles.judge.request(longest, mixed)] if asks else []
    if isinstance(scorer, OutputChoice):
        return scorer.expected(longest)
    if isinstance(scorer, Simulation):
        if not scorer.varies(material.scoring):
            return []
        return [scorer.request(longest, ex) for ex in scorer.chosen(material.scoring)]
    if isinstance(scorer, Generation):
        first = [scorer.request(longest)]
        # A revision asks for an explanation, a detection and new texts.
        again = [*first, *first, *first] if roles.reviser is not None else []
        return first + again
    return []
