"""Explaining and judging by a chat model, with one stricter reminder each."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from core.autointerp.config import AutoInterpConfig
from core.autointerp.example import Example
from core.autointerp.parsing import (
    UnreadableAnswer,
    parse_explanation,
    parse_predictions,
    parse_thoughtful,
)
from core.autointerp.prompts import (
    ExplainerOptions,
    generation_prompts,
    reminder_for_list,
    reminder_for_sentence,
    scoring_prompts,
)
from core.autointerp.roles import Evidence, Explained, FailedAnswer, Judged
from core.llm import ChatRequest, ChatSession, Messages

T = TypeVar("T")


async def ask_and_read(
    session: ChatSession,
    messages: Messages,
    max_tokens: int,
    read: Callable[[str], T],
    remind: Callable[[Messages, str], Messages],
) -> tuple[T, Messages, tuple[str, ...]]:
    """What `read` makes of the answer, the conversation, and all answers as they came.

    An answer that `read` cannot use (UnreadableAnswer), an empty one or a refusal is asked for once
    more, after `remind`.

    Raises:
        FailedAnswer: the second answer is no better.
        ChatError: there is none.
    """
    raw: list[str] = []
    problem = ""
    for asked in (messages, None):
        if asked is None:
            messages = remind(messages, raw[-1])
        answer = await session.ask(ChatRequest(messages, max_tokens))
        raw.append(answer.text or answer.refusal)
        try:
            if answer.refusal:
                raise UnreadableAnswer(f"The model declined: {answer.refusal!r}.")
            return read(answer.text), messages, tuple(raw)
        except UnreadableAnswer as error:
            problem = str(error)
    raise FailedAnswer(problem, messages=messages, raw=raw)


class ChatExplainer:
    """Asks for one sentence."""

    def __init__(
        self,
        session: ChatSession,
        cfg: AutoInterpConfig,
        *,
        options: ExplainerOptions | None = None,
    ) -> None:
        self._session, self._cfg = session, cfg
        self._options = options or ExplainerOptions()

    def request(self, evidence: Evidence) -> ChatRequest:
        """The first question."""
        messages = generation_prompts(
            evidence.examples,
            with_examples=self._cfg.use_examples_in_explanation_prompt,
            options=self._options,
            negatives=evidence.negatives,
            boosted=evidence.boosted,
        )
        thoughts = self._options.thought_tokens if self._options.chain_of_thought else 0
        return ChatRequest(messages, self._cfg.max_tokens_in_explanation + thoughts)

    async def explain(self, evidence: Evidence) -> Explained:
        """Raises FailedAnswer, or ChatError."""
        request = self.request(evidence)
        text, messages, raw = await ask_and_read(
            self._session,
            request.messages,
            request.max_tokens,
            parse_thoughtful if self._options.chain_of_thought else parse_explanation,
            reminder_for_sentence,
        )
        return Explained(text, messages, raw)


class ChatJudge:
    """Detection: shows all examples at once and asks which should be active."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session

    def request(self, explanation: str, examples: Sequence[Example]) -> ChatRequest:
        """The first question."""
        # Room for a number and a comma each.
        return ChatRequest(scoring_prompts(explanation, examples), 2 * len(examples) + 5)

    async def judge(self, explained: Explained, examples: Sequence[Example]) -> Judged:
        """Raises FailedAnswer, or ChatError."""
        request, n = self.request(explained.text, examples), len(examples)
        predictions, messages, raw = await ask_and_read(
            self._session,
            request.messages,
            request.max_tokens,
            lambda answer: parse_predictions(answer, n_examples=n),
            lambda asked, answer: reminder_for_list(asked, answer, n),
        )
        return Judged(predictions, messages, raw)
