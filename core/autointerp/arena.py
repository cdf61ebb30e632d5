"""ARENA's `AutoInterp`: examples, explanations, predictions and scores, for notebooks."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import torch
from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.autointerp.chat import ChatExplainer, ChatJudge
from core.autointerp.config import AutoInterpConfig
from core.autointerp.examples import Example, ExamplesByLatent, split_windows
from core.autointerp.explain import (
    Result,
    Roles,
    explain_and_score,
    first_requests,
    score_predictions,
)
from core.autointerp.gather import gather_windows
from core.autointerp.generation import Reviser
from core.autointerp.parsing import parse_explanation, parse_predictions
from core.autointerp.prompts import ExplainerOptions, generation_prompts, scoring_prompts
from core.autointerp.roles import Evidence, Explainer, Judge, Material, Scorer
from core.corpus.bos import bos_id
from core.corpus.token_set import TokenSet
from core.jobs.progress import Progress
from core.lease import PlainLease
from core.llm import (
    PRICES,
    Budget,
    ChatEndpoint,
    ChatSession,
    Estimate,
    Messages,
    Price,
    estimate_requests,
)
from core.llm.endpoint import DEFAULT_MODEL
from core.store import Store

Data: TypeAlias = tuple[Mapping[int, Sequence[Example]], Mapping[int, Sequence[Example]]]
"""(generation, scoring) examples by latent."""

log = logging.getLogger(__name__)


class TokenSource(Protocol):
    """What is read of sae_lens' `ActivationsStore`."""

    store_batch_size_prompts: int
    context_size: int

    def get_batch_tokens(self) -> Int[Tensor, "batch seq"]:
        """The next rows."""


def read_source(source: TokenSource, n_tokens: int, *, bos_id: int | None) -> TokenSet:
    """The next rows of a store, in whole batches: as many as `n_tokens` cover, at least one."""
    n_batches = max(1, n_tokens // source.context_size // source.store_batch_size_prompts)
    batches = [source.get_batch_tokens().detach().cpu() for _ in range(n_batches)]
    return TokenSet.from_rows(torch.cat(batches), bos_id=bos_id)


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
        scorers: Sequence[Scorer] = (),
        reviser: Reviser | None = None,
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
            scorers: further scores, with `cfg.scoring`.
            reviser: revises explanations after the `generation` scorer.
        """
        self.cfg, self.model, self.sae, self.act_store = cfg, model, sae, act_store
        self.endpoint = endpoint or ChatEndpoint(chat_model, base_url, api_key)
        self.session = ChatSession(self.endpoint, store=store, budget=budget, prices=prices)
        """Asks the service; `session.spending` says what it took so far."""
        self.explainer: Explainer = explainer or ChatExplainer(self.session, cfg, options=options)
        self.judge: Judge = judge or ChatJudge(self.session, thinking_tokens=cfg.thinking_tokens)
        self.scorers, self.reviser = tuple(scorers), reviser
        self.results: dict[int, Result] = {}
        """What is done, also of a run that was cancelled."""

    def gather_data(
        self, *, progress: Progress | None = None
    ) -> tuple[ExamplesByLatent, ExamplesByLatent]:
        """(generation, scoring) examples of each latent. Raises as `gather_windows`."""
        token_set = self.act_store
        if not isinstance(token_set, TokenSet):
            bos = bos_id(self.model.tokenizer)
            token_set = read_source(token_set, self.cfg.total_tokens, bos_id=bos)
        lease = PlainLease(self.model, [self.sae], progress=progress)
        [windows] = gather_windows(lease, token_set, self.cfg)
        return split_windows(windows, self.cfg, self.model)

    def estimate(
        self,
        data: Data,
        *,
        negatives: Mapping[int, Sequence[Example]] | None = None,
        boosted: Mapping[int, Sequence[str]] | None = None,
    ) -> Estimate:
        """What a `run` with the same arguments asks of the service, if nothing is stored."""
        roles = Roles(self.explainer, self.judge if self.cfg.scoring else None, self.scorers)
        requests = first_requests(
            self._materials(data, negatives, boosted),
            roles,
            explanation_tokens=self.cfg.max_tokens_in_explanation,
        )
        return estimate_requests(requests, self.session.spending.price)

    def run(
        self,
        debug: bool = False,
        *,
        data: Data | None = None,
        explanations: Mapping[int, str] | None = None,
        negatives: Mapping[int, Sequence[Example]] | None = None,
        boosted: Mapping[int, Sequence[str]] | None = None,
        neighbours: Mapping[int, Sequence[Example]] | None = None,
        on_result: Callable[[int, Result], None] | None = None,
        progress: Progress | None = None,
    ) -> dict[int, Result]:
        """Explain and score every latent.

        Each ends `scored`, `explained` (without `cfg.scoring`), `unscored` (the test set holds
        examples of one kind alone), `no pattern` (the explainer found none), `failed` or `stopped`.

        Args:
            debug: log the first latent's conversations.
            data: what `gather_data` gave; else it is gathered now.
            explanations: for some latents, texts to score instead of asking for one.
            negatives: for some latents, texts without it that the explainer is shown.
            boosted: for some latents, tokens it makes likelier, that the explainer is told.
            neighbours: for some latents, examples of their neighbours, to score with.
            on_result: called with each latent's result as it comes.
            progress: tokens, then latents; cancelling keeps `results` and stored answers.

        Returns:
            For each latent `explanation`, `status`, `error` ("" where all is well), `unreadable`
            (how many answers could not be read), `explanation messages` and `explanation raw`; with
            `cfg.scoring` also `predictions` (numbers from 1), `correct seqs`, `score` (accuracy),
            `numbers` (those of `DetectionStatistics`, None for NaN), `prediction messages` and
            `prediction raw`; with scorers `scores` (by name: `status`, `error`, `score`, `chance`,
            `numbers`, `rows`), with a reviser `revision`. What there is not is None.

        Raises:
            ValueError: as `gather_data`.
            JobCancelled: through `progress`.
        """
        materials = self._materials(data or self.gather_data(progress=progress), negatives, boosted)
        materials = {
            latent: replace(material, neighbours=(neighbours or {}).get(latent, ()))
            for latent, material in materials.items()
        }
        self.results = {}

        def keep(latent: int, result: Result) -> None:
            self.results[latent] = result
            if debug and latent == self.cfg.latents[0]:
                log.info("Latent %d: %s", latent, result)
            if on_result is not None:
                on_result(latent, result)

        roles = Roles(
            self.explainer,
            self.judge if self.cfg.scoring else None,
            self.scorers if self.cfg.scoring else (),
            self.reviser,
            self.cfg.seed,
        )
        return explain_and_score(
            materials,
            roles,
            session=self.session,
            given=explanations,
            on_result=keep,
            progress=progress,
        )

    def _materials(
        self,
        data: Data,
        negatives: Mapping[int, Sequence[Example]] | None,
        boosted: Mapping[int, Sequence[str]] | None,
    ) -> dict[int, Material]:
        generation, scoring = data
        without, pushed = negatives or {}, boosted or {}
        return {
            latent: Material(
                Evidence(
                    latent, generation[latent], without.get(latent, ()), pushed.get(latent, ())
                ),
                scoring[latent],
            )
            for latent in self.cfg.latents
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
        """What follows "activates on". Raises UnreadableAnswer when nothing does, or for NONE."""
        return parse_explanation(explanation)

    def parse_predictions(self, predictions: str) -> list[int]:
        """Numbers of a list such as `1, 4`; none for `None`. Raises UnreadableAnswer."""
        return parse_predictions(predictions)

    def score_predictions(
        self, predictions: Sequence[int], scoring_examples: Sequence[Example]
    ) -> float:
        """Share of the examples, numbered from 1, that are told right."""
        return score_predictions(predictions, scoring_examples)
