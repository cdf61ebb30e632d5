"""Explaining and judging by a chat model, with one stricter reminder each."""

from collections.abc import Sequence
from functools import partial

from core.autointerp.asking import THINKING_TOKENS, ask_and_read, text_of
from core.autointerp.config import AutoInterpConfig
from core.autointerp.example import Example
from core.autointerp.parsing import parse_explanation, parse_predictions, parse_thoughtful
from core.autointerp.prompts import (
    ExplainerOptions,
    generation_prompts,
    reminder_for_list,
    reminder_for_sentence,
    scoring_prompts,
)
from core.autointerp.roles import Evidence, Explained, Judged
from core.llm import ChatRequest, ChatSession, Messages, json_form

EXPLANATION_FORM = json_form(
    "explanation",
    {
        "explanation": {
            "type": ["string", "null"],
            "description": 'One sentence that begins with "This neuron activates on"; null instead '
            "of NONE.",
        }
    },
)
"""The form of an explanation, where the service can enforce one."""
NUMBERS_FORM = json_form(
    "numbers",
    {
        "numbers": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Numbers of texts, each at most once; an empty list instead of None.",
        }
    },
)
"""The form of a judge's answer, likewise."""


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
        aloud = self._options.chain_of_thought
        room = self._cfg.thinking_tokens + self._options.thought_tokens * aloud
        return ChatRequest(
            messages,
            self._cfg.max_tokens_in_explanation + room,
            response_format=None if aloud else EXPLANATION_FORM,
        )

    async def explain(self, evidence: Evidence) -> Explained:
        """Raises FailedAnswer (NoPatternFound for NONE), or ChatError."""
        read = parse_thoughtful if self._options.chain_of_thought else parse_explanation
        asked = await ask_and_read(
            self._session, self.request(evidence), text_of(read), reminder_for_sentence
        )
        return Explained(asked.value, asked.messages, asked.raw, unreadable=asked.unreadable)


class ChatJudge:
    """Detection: shows all examples at once and asks which should be active."""

    def __init__(self, session: ChatSession, *, thinking_tokens: int = THINKING_TOKENS) -> None:
        """`thinking_tokens`: room for thoughts before the answer."""
        self._session, self._room = session, thinking_tokens

    def request(self, explanation: str, examples: Sequence[Example]) -> ChatRequest:
        """The first question."""
        return list_request(scoring_prompts(explanation, examples), len(examples), self._room)

    async def judge(self, explained: Explained, examples: Sequence[Example]) -> Judged:
        """Raises FailedAnswer, or ChatError."""
        request = self.request(explained.text, examples)
        return await ask_for_list(self._session, request, len(examples))


def list_request(messages: Messages, n: int, room: int) -> ChatRequest:
    """A question whose answer is a list of numbers up to `n`, after `room` tokens of thoughts."""
    # A number and a comma each, and what JSON adds.
    return ChatRequest(messages, 2 * n + 5 + room, response_format=NUMBERS_FORM)


async def ask_for_list(session: ChatSession, request: ChatRequest, n: int) -> Judged:
    """The numbers, from 1 to `n`, that the model names. Raises FailedAnswer, or ChatError."""
    read = partial(parse_predictions, n_examples=n)
    asked = await ask_and_read(session, request, text_of(read), partial(reminder_for_list, n=n))
    return Judged(asked.value, asked.messages, asked.raw, asked.unreadable)
