"""The one way in which a chat model is asked: once, and once more, stricter and with more room."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from core.autointerp.json_text import NOTHING, whole_json
from core.autointerp.parsing import NoPattern, UnreadableAnswer
from core.autointerp.roles import FailedAnswer, NoPatternFound
from core.llm import ChatAnswer, ChatRequest, ChatSession, Messages

T = TypeVar("T")

MORE_ROOM = 3
"""How many times as many tokens the second answer may have where the first one was cut."""
THINKING_TOKENS = 4000
"""Room for thoughts beside the answer itself: most models need less, and it costs what is used."""


class Reminder(Protocol):
    """Makes the second question of the first one and its answer."""

    def __call__(self, messages: Messages, answer: str, *, cut: bool) -> Messages:
        """`cut`: the answer was too long."""


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
    remind: Reminder,
) -> Asked[T]:
    """What `read` makes of the answer.

    An answer that is none (cut, only thought, filtered, a refusal), or that `read` cannot use
    (UnreadableAnswer), is asked for once more, in words alone: some services take a
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
                messages=remind(request.messages, answer.text, cut=answer.cut),
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
