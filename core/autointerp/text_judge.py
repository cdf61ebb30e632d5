"""A chat model judges steered texts as in AxBench: concept, instruction and fluency, 0 to 2 each.

AxBench (Wu et al. 2025, arXiv 2501.17148) asks three questions a text and takes the harmonic mean
of the answers, which is 0 where one of them is. The texts of the unsteered model and of random
directions are judged alike: they are what chance and the prompt alone give.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.autointerp.chat import THINKING_TOKENS, ask_and_read, text_of
from core.autointerp.json_text import objects_in, values_of
from core.autointerp.parsing import UnreadableAnswer
from core.autointerp.roles import FailedAnswer
from core.jobs.progress import Progress
from core.llm import (
    BudgetSpent,
    ChatError,
    ChatRequest,
    ChatSession,
    Estimate,
    Messages,
    Price,
    estimate_requests,
    json_form,
    run_each,
)
from core.llm.answer import shortened
from core.steering.measures import mean_interval

ASPECTS = {
    "concept": (
        "Judge how far the text below is about a concept. 0: the concept is not in it. 1: it is in "
        "it in part, or stuck on. 2: the text is clearly about it. Whether the text makes sense "
        "otherwise does not matter.\n\nThe concept: {concept}"
    ),
    "instruction": (
        "Judge how far the text below goes on from the beginning that was given, or follows it if "
        "it is an instruction. 0: it has nothing to do with it. 1: somewhat. 2: clearly. Whether "
        "it is well written does not matter.\n\nThe beginning: {prompt}"
    ),
    "fluency": (
        "Judge how fluent the text below is; it may be cut at its end. 0: not fluent, for example "
        "because it repeats itself or is no language. 1: somewhat, with errors or odd words. 2: "
        "fluent. What it is about does not matter."
    ),
}
"""What is asked of each text."""
_FORM = (
    '\n\nAnswer with nothing but the number, as in "Rating: 1": the answer is read by a program.'
)
RATING_AGAIN = (
    'That could not be read. Answer again with "Rating: 0", "Rating: 1" or "Rating: 2" and nothing '
    "else."
)
"""Demand for a rating."""
RATING_FORM = json_form("rating", {"rating": {"type": "integer", "enum": [0, 1, 2]}})
"""The form of an answer, where the service can enforce one."""
MOST_CONCEPT = 300
_RATING = re.compile(r"(?:(?:the\s+)?rating\s*(?:is)?\s*[:=]?\s*)?\[{0,2}([012])\]{0,2}\.?", re.I)


@dataclass(frozen=True, eq=False)
class Judged:
    """Ratings of texts."""

    texts: pd.DataFrame
    """`row`, `sample`, `concept`, `instruction`, `fluency` (0 to 2; NaN without an answer that
    could be read), `score` (their harmonic mean)."""
    rows: pd.DataFrame
    """`row`, the means of those over its texts, `score_low` and `score_high` (95 %), and `n`
    (texts with all three)."""
    asked: int
    """Questions that differ."""
    problems: tuple[str, ...]
    """Why some have no answer, in sentences."""
    spending: Mapping[str, Any]
    """What it took (`core.llm.Spending.figures`)."""


def question(aspect: str, *, concept: str, prompt: str, text: str) -> Messages:
    """What is asked of a text. Raises ValueError for a concept that is empty or too long."""
    check_concept(concept)
    asked = ASPECTS[aspect].format(concept=concept.strip(), prompt=prompt.strip())
    return [
        {"role": "system", "content": asked + _FORM},
        {"role": "user", "content": f"The text:\n\n{text.strip() or '(nothing)'}"},
    ]


def check_concept(concept: str) -> None:
    """Raise ValueError for a concept that is empty or too long."""
    if not concept.strip():
        raise ValueError("The concept is empty; say in a few words what the texts should be about.")
    if len(concept) > MOST_CONCEPT:
        raise ValueError(
            f"The concept has {len(concept)} characters; say it in {MOST_CONCEPT} or fewer."
        )


def parse_rating(answer: str) -> int:
    """The number of "Rating: 1", "1", "[[1]]" or `{"rating": 1}`.

    Raises UnreadableAnswer for anything else, such as 3, 1.5, two numbers or a sentence.
    """
    found = [it for one in objects_in(answer) for it in values_of(one, "rating")]
    if len(found) == 1 and not isinstance(found[0], bool) and found[0] in (0, 1, 2, "0", "1", "2"):
        return int(found[0])
    plain = answer.replace("*", "").replace("`", "").strip().strip("\"'")
    whole = None if found else _RATING.fullmatch(plain)
    if whole is None:
        raise UnreadableAnswer(f"The answer {shortened(answer)} is no rating from 0 to 2.")
    return int(whole[1])


def harmonic_mean(ratings: Sequence[float]) -> float:
    """The harmonic mean; 0 where one of them is 0, NaN where one is missing."""
    if any(it != it for it in ratings):
        return float("nan")
    return 0.0 if 0 in ratings else len(ratings) / sum(1 / it for it in ratings)


def request_of(
    aspect: str, text: str, *, concept: str, prompt: str, room: int = THINKING_TOKENS
) -> ChatRequest:
    """The first question of an aspect of a text, with `room` for thoughts before the answer."""
    messages = question(aspect, concept=concept, prompt=prompt, text=text)
    return ChatRequest(messages, 10 + room, response_format=RATING_FORM)


def estimate(
    texts: Sequence[str],
    price: Price | None,
    *,
    concept: str,
    prompt: str,
    room: int = THINKING_TOKENS,
) -> Estimate:
    """What judging texts asks at most, if nothing is stored and every answer can be read."""
    requests = [
        request_of(aspect, text, concept=concept, prompt=prompt, room=room)
        for text in dict.fromkeys(texts)
        for aspect in ASPECTS
    ]
    return estimate_requests(requests, price)


def judge_texts(
    session: ChatSession,
    texts: pd.DataFrame,
    *,
    concept: str,
    prompt: str,
    room: int = THINKING_TOKENS,
    progress: Progress | None = None,
) -> Judged:
    """Ratings of `texts` (`row`, `sample`, `text`); of equal texts one is asked about.

    What the budget no longer covers, and what cannot be read, has no rating; answers that came are
    kept by the session's store, so a second attempt asks for the rest alone.

    Raises:
        ValueError: an empty concept, or no text.
        JobCancelled: through `progress`.
    """
    check_concept(concept)
    if texts.empty:
        raise ValueError("There are no texts to judge; write some first.")
    pairs = [(aspect, text) for text in dict.fromkeys(texts["text"]) for aspect in ASPECTS]
    problems: dict[str, int] = {}

    async def rate(pair: tuple[str, str]) -> float:
        request = request_of(*pair, concept=concept, prompt=prompt, room=room)
        try:
            asked = await ask_and_read(session, request, text_of(parse_rating), RATING_AGAIN)
        except (BudgetSpent, FailedAnswer, ChatError) as error:
            problems[str(error)] = problems.get(str(error), 0) + 1
            return float("nan")
        return float(asked.value)

    found = run_each(
        pairs,
        rate,
        session=session,
        progress=progress,
        unit="questions",
        message="Asking the judge",
    )
    rated = texts[["row", "sample"]].reset_index(drop=True)
    for aspect in ASPECTS:
        rated[aspect] = [found[aspect, text] for text in texts["text"]]
    rated["score"] = [harmonic_mean(it) for it in rated[list(ASPECTS)].to_numpy()]
    told = tuple(
        f"{error} ({n} question{'s' if n > 1 else ''})" for error, n in list(problems.items())[:5]
    )
    return Judged(rated, _by_row(rated), len(pairs), told, session.spending.figures())


def _by_row(rated: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row, group in rated.groupby("row", sort=True):
        score, low, high = mean_interval(group["score"].to_numpy())
        rows.append(
            {
                "row": row,
                **{aspect: float(group[aspect].mean()) for aspect in ASPECTS},
                "score": score,
                "score_low": low,
                "score_high": high,
                "n": int(group["score"].notna().sum()),
            }
        )
    return pd.DataFrame(rows)
