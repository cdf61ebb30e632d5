"""Asking a chat model: to explain, to judge, and once more, stricter, where that cannot be read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from core.autointerp.config import AutoInterpConfig
from core.autointerp.examples import Example
from core.autointerp.json_text import NOTHING, whole_json
from core.autointerp.parsing import (
    NoPattern,
    UnreadableAnswer,
    parse_explanation,
    parse_predictions,
    parse_thoughtful,
)
from core.autointerp.prompts import (
    LIST_AGAIN,
    SENTENCE_AGAIN,
    ExplainerOptions,
    generation_prompts,
    reminder,
    scoring_prompts,
)
from core.autointerp.roles import Evidence, Explained, FailedAnswer, Judged, NoPatternFound
from core.llm import ChatAnswer, ChatRequest, ChatSession, Messages, json_form

T = TypeVar("T")

MORE_ROOM = 3
"""How many times as many tokens the second answer may have where the first one was cut."""
THINKING_TOKENS = 4000
"""Room for thoughts beside the answer itself: most models need less, and it costs what is used."""


@dataclass(frozen=True)
class Asked(Generic[T]):
    """What was read, and how it came about."""

    value: T
    """What the last answer says."""
    messages: Messages
    """The conversation, without the last answer."""
    raw: tuple[str, ...]
    """Every answer as it came, thoughts included."""

    @property
    def unreadable(self) -> int:
        """Answers that could not be read."""
        return len(self.raw) - 1


async def ask_and_read(
    session: ChatSession,
    request: ChatRequest,
    read: Callable[[ChatAnswer], T],
    demand: str,
) -> Asked[T]:
    """What `read` makes of the answer.

    An answer that is none (cut, only thought, filtered, a refusal), or that `read` cannot use
    (UnreadableAnswer), is asked for once more with `demand`, in words alone: some services take a
    `response_format` and do worse with it.

    Raises:
        NoPatternFound: an answer says that there is nothing to explain.
        FailedAnswer: the second answer is no better.
        ChatError: there is none.
    """
    raw: list[str] = []
    problem = ""
    asked = request
    for attempt in range(2):
        answer = await session.ask(asked)
        raw.append(answer.raw)
        try:
            return Asked(_read(answer, asked.max_tokens, read), asked.messages, tuple(raw))
        except NoPattern as error:
            raise NoPatternFound(str(error), messages=asked.messages, raw=raw) from None
        except UnreadableAnswer as error:
            problem = str(error)
        if attempt == 0:
            room = MORE_ROOM if answer.cut or answer.still_thinking else 1
            asked = replace(
                request,
                messages=reminder(request.messages, answer.text, demand, cut=answer.cut),
                max_tokens=request.max_tokens * room,
                response_format=None,
            )
    raise FailedAnswer(problem, messages=asked.messages, raw=raw, unreadable=len(raw))


def text_of(read: Callable[[str], T]) -> Callable[[ChatAnswer], T]:
    """The same for whole answers."""
    return lambda answer: read(answer.text)


def _read(answer: ChatAnswer, limit: int, read: Callable[[ChatAnswer], Any]) -> Any:
    why = answer.why_unusable(limit)
    # An object that is closed is whole; some models go on with blanks until they are cut.
    whole = answer.problems[:1] == ("cut",) and whole_json(answer.text) is not NOTHING
    if why and not whole:
        raise UnreadableAnswer(why)
    return read(answer)


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
            changed=evidence.changed,
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
            self._session, self.request(evidence), text_of(read), SENTENCE_AGAIN
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
    asked = await ask_and_read(session, request, text_of(read), LIST_AGAIN.format(n=n))
    return Judged(asked.value, asked.messages, asked.raw, asked.unreadable)
