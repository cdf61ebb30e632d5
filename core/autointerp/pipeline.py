"""The whole run: examples, explanations, predictions, scores."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sae_lens import SAE

from core.autointerp.chat_roles import ChatExplainer, ChatJudge
from core.autointerp.config import AutoInterpConfig
from core.autointerp.example import Example
from core.autointerp.gather import TokenSource, gather_windows
from core.autointerp.numbers import detection_numbers
from core.autointerp.parsing import parse_explanation, parse_predictions
from core.autointerp.prompts import ExplainerOptions, generation_prompts, scoring_prompts
from core.autointerp.roles import Evidence, Explained, Explainer, FailedAnswer, Judge
from core.autointerp.split import ExamplesByLatent, split_windows
from core.corpus.token_set import TokenSet
from core.jobs.progress import Progress
from core.llm import (
    PRICES,
    Budget,
    BudgetSpent,
    ChatEndpoint,
    ChatError,
    ChatSession,
    Estimate,
    Messages,
    Price,
    estimate_requests,
    run_each,
)
from core.llm.endpoint import DEFAULT_MODEL
from core.store import Store

log = logging.getLogger(__name__)


class AutoInterp:
    """Explains latents and, with `cfg.scoring`, tests the explanations by detection.

    The model is touched by `gather_data` alone. Questions go to a chat service unless `explainer`
    and `judge` are given.
    """

    def __init__(
        self,
        cfg: AutoInterpConfig,
        model: Any,
        sae: SAE,
        act_store: TokenSource | TokenSet,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        chat_model: str = DEFAULT_MODEL,
        endpoint: ChatEndpoint | None = None,
        store: Store | None = None,
        budget: Budget | None = None,
        prices: Mapping[str, Price] = PRICES,
        options: ExplainerOptions | None = None,
        explainer: Explainer | None = None,
        judge: Judge | None = None,
    ) -> None:
        """
        Args:
            cfg: latents and numbers of examples.
            model: either model class.
            sae: any SAE that reads a site of it.
            act_store: rows of tokens: sae_lens' `ActivationsStore`, or a token set.
            api_key: None for OPENAI_API_KEY.
            base_url: of the service; None for OPENAI_BASE_URL, else OpenAI's own.
            chat_model: the service's name of the model.
            endpoint: instead of the three before.
            store: keeps answers, so that none is paid for twice.
            budget: where questions stop.
            prices: dollars per million tokens, by model.
            options: what the chat model is told besides the marked texts.
            explainer: instead of a chat model; one that asks should use a session of its own.
            judge: instead of a chat model.
        """
        self.cfg, self.model, self.sae, self.act_store = cfg, model, sae, act_store
        self.endpoint = endpoint or ChatEndpoint(chat_model, base_url, api_key)
        self.session = ChatSession(self.endpoint, store=store, budget=budget, prices=prices)
        """Asks the service; `session.spending` says what it took so far."""
        self.explainer: Explainer = explainer or ChatExplainer(self.session, cfg, options=options)
        self.judge: Judge = judge or ChatJudge(self.session)
        self.results: dict[int, dict[str, Any]] = {}
        """What is done, also of a run that was cancelled."""

    def gather_data(
        self, *, progress: Progress | None = None
    ) -> tuple[ExamplesByLatent, ExamplesByLatent]:
        """(generation, scoring) examples of each latent. Raises as `gather_windows`."""
        gathered = gather_windows(self.model, self.sae, self.act_store, self.cfg, progress=progress)
        return split_windows(gathered, self.cfg, self.model)

    def estimate(
        self,
        data: tuple[Mapping[int, Sequence[Example]], Mapping[int, Sequence[Example]]],
        *,
        negatives: Mapping[int, Sequence[Example]] | None = None,
        boosted: Mapping[int, Sequence[str]] | None = None,
    ) -> Estimate:
        """What a `run` with the same arguments asks of the service, if nothing is stored."""
        generation, scoring = data
        without, pushed = negatives or {}, boosted or {}
        requests = []
        for latent in self.cfg.latents:
            if not generation[latent]:
                continue
            if isinstance(self.explainer, ChatExplainer):
                evidence = Evidence(
                    latent, generation[latent], without.get(latent, ()), pushed.get(latent, ())
                )
                requests.append(self.explainer.request(evidence))
            if self.cfg.scoring and scoring[latent] and isinstance(self.judge, ChatJudge):
                longest = "word " * self.cfg.max_tokens_in_explanation
                requests.append(self.judge.request(longest, scoring[latent]))
        return estimate_requests(requests, self.session.spending.price)

    def run(
        self,
        debug: bool = False,
        *,
        data: tuple[Mapping[int, Sequence[Example]], Mapping[int, Sequence[Example]]] | None = None,
        explanations: Mapping[int, str] | None = None,
        negatives: Mapping[int, Sequence[Example]] | None = None,
        boosted: Mapping[int, Sequence[str]] | None = None,
        on_result: Callable[[int, dict[str, Any]], None] | None = None,
        progress: Progress | None = None,
    ) -> dict[int, dict[str, Any]]:
        """Explain and score every latent; each ends `scored`, `explained`, `failed` or `stopped`.

        Args:
            debug: log the first latent's conversations.
            data: what `gather_data` gave; else it is gathered now.
            explanations: for some latents, texts to score instead of asking for one.
            negatives: for some latents, texts without it that the explainer is shown.
            boosted: for some latents, tokens it makes likelier, that the explainer is told.
            on_result: called with each latent's result as it comes.
            progress: tokens, then latents; cancelling keeps `results` and stored answers.

        Returns:
            For each latent `explanation`, `status`, `error` ("" unless failed or stopped) and
            `explanation messages`, `explanation raw`; with `cfg.scoring` also `predictions`
            (numbers from 1), `correct seqs`, `score` (accuracy), `numbers` (those of
            `DetectionNumbers`, None for NaN), `prediction messages` and `prediction raw`. What
            there is not is None.

        Raises:
            ValueError: as `gather_data`.
            JobCancelled: through `progress`.
        """
        generation, scoring = data or self.gather_data(progress=progress)
        self.results = {}
        given, without, pushed = explanations or {}, negatives or {}, boosted or {}

        async def work(latent: int) -> dict[str, Any]:
            evidence = Evidence(
                latent, generation[latent], without.get(latent, ()), pushed.get(latent, ())
            )
            return await self._latent(evidence, scoring[latent], given.get(latent))

        def keep(latent: int, result: dict[str, Any]) -> None:
            self.results[latent] = result
            if debug and latent == self.cfg.latents[0]:
                log.info("Latent %d: %s", latent, result)
            if on_result is not None:
                on_result(latent, result)

        return run_each(
            self.cfg.latents, work, session=self.session, on_result=keep, progress=progress
        )

    async def _latent(
        self,
        evidence: Evidence,
        scoring: Sequence[Example],
        given: str | None,
    ) -> dict[str, Any]:
        result: dict[str, Any] = {"explanation": given, "status": "explained", "error": ""}
        result |= {"explanation messages": None, "explanation raw": None}
        stage = "explanation"
        if self.cfg.scoring:
            result |= {"predictions": None, "correct seqs": None, "score": None, "numbers": None}
            result |= {"prediction messages": None, "prediction raw": None}
            result["correct seqs"] = [n for n, ex in enumerate(scoring, 1) if ex.is_active]
        try:
            if not evidence.examples:
                raise FailedAnswer("The latent never fired on this text.", messages=[], raw=[])
            if given is None:
                explained = await self.explainer.explain(evidence)
                result["explanation"] = explained.text
                result["explanation messages"] = explained.messages
                result["explanation raw"] = list(explained.raw)
            else:
                explained = Explained(given)
            if not self.cfg.scoring:
                return result
            stage = "prediction"
            if not scoring:
                raise FailedAnswer("There is nothing to score with.", messages=[], raw=[])
            judged = await self.judge.judge(explained, scoring)
            result |= self._scores(judged.predictions, scoring)
            result["prediction messages"] = judged.messages
            result["prediction raw"] = list(judged.raw)
            result["status"] = "scored"
        except BudgetSpent as error:
            result |= {"status": "stopped", "error": str(error)}
        except FailedAnswer as error:
            result |= {"status": "failed", "error": str(error)}
            result[f"{stage} messages"] = error.messages
            result[f"{stage} raw"] = list(error.raw)
        except ChatError as error:
            result |= {"status": "failed", "error": str(error)}
        return result

    def _scores(self, predictions: list[int], scoring: Sequence[Example]) -> dict[str, Any]:
        active = [example.is_active for example in scoring]
        predicted = [number in predictions for number in range(1, len(scoring) + 1)]
        numbers = asdict(detection_numbers(active, predicted, seed=self.cfg.seed))
        return {
            "predictions": predictions,
            "score": self.score_predictions(predictions, scoring),
            # JSON has no NaN.
            "numbers": {name: None if value != value else value for name, value in numbers.items()},
        }

    def get_generation_prompts(self, generation_examples: Sequence[Example]) -> Messages:
        """What the explainer is asked. Raises ValueError without examples."""
        with_examples = self.cfg.use_examples_in_explanation_prompt
        return generation_prompts(generation_examples, with_examples=with_examples)

    def get_scoring_prompts(
        self, explanation: str, scoring_examples: Sequence[Example]
    ) -> Messages:
        """What the judge is asked. Raises ValueError without examples."""
        return scoring_prompts(explanation, scoring_examples)

    def parse_explanation(self, explanation: str) -> str:
        """What follows "activates on". Raises UnreadableAnswer when nothing does."""
        return parse_explanation(explanation)

    def parse_predictions(self, predictions: str) -> list[int]:
        """Numbers of a list such as `1, 4`; none for `None`. Raises UnreadableAnswer."""
        return parse_predictions(predictions)

    def score_predictions(
        self, predictions: Sequence[int], scoring_examples: Sequence[Example]
    ) -> float:
        """Share of the examples, numbered from 1, that are told right."""
        active = [example.is_active for example in scoring_examples]
        right = [(n in predictions) == truth for n, truth in enumerate(active, start=1)]
        return sum(right) / len(right)
