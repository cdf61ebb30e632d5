"""Explain and score many latents at once; every latent ends in a result, whatever goes wrong."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from core.autointerp.example import Example
from core.autointerp.generation import Reviser
from core.autointerp.numbers import (
    counts_alone,
    detection_numbers,
    one_sided,
    without_nan,
)
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
from core.jobs.progress import Progress
from core.llm import BudgetSpent, ChatError, ChatSession, run_each

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
        why = one_sided(active)
        if why:
            # Whatever a judge says, it would tell nothing: it is not asked, and not paid.
            return {"status": "unscored", "error": why, "numbers": counts_alone(active)}
        judged = await self._roles.judge.judge(explained, scoring)
        predicted = [number in judged.predictions for number in range(1, len(scoring) + 1)]
        self._result["unreadable"] += judged.unreadable
        return {
            "status": "scored",
            "error": "",
            "predictions": judged.predictions,
            "score": score_predictions(judged.predictions, scoring),
            "numbers": without_nan(
                asdict(detection_numbers(active, predicted, seed=self._roles.seed))
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
