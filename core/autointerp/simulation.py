"""Simulation: predict the activation at every token, and correlate.

After Bills et al. 2023, "Language models can explain neurons in language models": a model that
knows only the explanation gives each token a number from 0 to 10. The prediction is the expected
value under the probabilities that the service reports for that number, so the endpoint must report
log-probabilities. The score is the correlation with the true activations over all tokens of the
scoring examples: 0 is chance, 1 is perfect.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from core.autointerp.chat import THINKING_TOKENS, ask_and_read
from core.autointerp.examples import Example
from core.autointerp.parsing import UnreadableAnswer
from core.autointerp.prompts import LINES_AGAIN, simulation_prompts
from core.autointerp.roles import Explained, FailedAnswer, Material, NoScore, Scored
from core.llm import ChatAnswer, ChatRequest, ChatSession

_HIGHEST = 10
_ALTERNATIVES = 20
_LINE = re.compile(r"^[ \t]*([0-9]{1,6})[ \t:.)]+([0-9]{1,6})[ \t]*$", re.MULTILINE)
_TOKENS_A_LINE = 6
_NO_LOGPROBS = (
    "The service reports no log-probabilities, which simulation needs; use another model."
)


class Simulation:
    """Correlation of simulated with true activations."""

    name = "simulation"

    def __init__(
        self, session: ChatSession, *, n_examples: int = 6, thinking_tokens: int = THINKING_TOKENS
    ) -> None:
        """`n_examples` of the scoring examples are simulated, half of them active: a question each,
        answered after room for thoughts.

        Raises ValueError for less than one.
        """
        if n_examples < 1:
            raise ValueError(f"n_examples is {n_examples}; simulate at least one.")
        self._session, self._n, self._room = session, n_examples, thinking_tokens

    def request(self, explanation: str, example: Example) -> ChatRequest:
        """One question: an answer of a line for each token, with log-probabilities."""
        return ChatRequest(
            simulation_prompts(explanation, example.cells),
            _TOKENS_A_LINE * len(example.toks) + 10 + self._room,
            temperature=0.0,
            top_logprobs=_ALTERNATIVES,
        )

    def chosen(self, scoring: Sequence[Example]) -> list[Example]:
        """Active and other examples in turn."""
        active = [example for example in scoring if example.is_active]
        others = [example for example in scoring if not example.is_active]
        half = self._n - self._n // 2
        return [*active[:half], *others[: self._n - len(active[:half])]]

    def varies(self, scoring: Sequence[Example]) -> bool:
        """Whether the activations of the chosen examples differ, as a correlation needs."""
        return len({act for example in self.chosen(scoring) for act in example.acts}) > 1

    async def score(self, explained: Explained, material: Material) -> Scored:
        """The correlation; None where the prediction never varies.

        Raises NoScore where the truth does not: nothing is asked then.
        """
        examples = self.chosen(material.scoring)
        if not examples:
            raise NoScore("No score: there is nothing to simulate.")
        true = [act for example in examples for act in example.acts]
        if not self.varies(material.scoring):
            raise NoScore("No score: the true activations are all the same.")
        predicted: list[float] = []
        raw: list[str] = []
        unreadable = 0
        rows = []
        for example in examples:
            n, request = len(example.toks), self.request(explained.text, example)
            try:
                asked = await ask_and_read(
                    self._session,
                    request,
                    partial(_read, n=n),
                    LINES_AGAIN.format(n=n),
                )
            except FailedAnswer as error:
                raw += error.raw
                unreadable += error.unreadable
                messages = error.messages or request.messages
                raise FailedAnswer(
                    str(error), messages=messages, raw=raw, unreadable=unreadable
                ) from None
            raw += asked.raw
            unreadable += asked.unreadable
            predicted += asked.value
            rows.append(
                {
                    "text": example.to_str(mark_toks=True),
                    "source": example.source,
                    "truth": max(example.acts),
                    "predicted": max(asked.value),
                }
            )
        score = correlation(predicted, true)
        why = "" if score is not None else "No score: the simulated activations are all the same."
        numbers = {"correlation": score, "tokens": float(len(true))}
        messages = self.request(explained.text, examples[0]).messages
        return Scored(score, 0.0, numbers, rows, messages, tuple(raw), unreadable, why)


def _read(answer: ChatAnswer, n: int) -> list[float]:
    if not answer.logprobs:
        # Another answer of the same service would have none either: it is not paid for.
        raise FailedAnswer(_NO_LOGPROBS, messages=[], raw=[answer.raw])
    return simulated_activations(answer, n)


def simulated_activations(answer: ChatAnswer, n: int) -> list[float]:
    """The expected number from 0 to 10 for each of `n` tokens.

    Raises:
        UnreadableAnswer: no log-probabilities of the answer, not one line for each token, or a
            value beyond 10.
    """
    if not answer.logprobs or len(answer.tokens) != len(answer.logprobs):
        raise UnreadableAnswer(_NO_LOGPROBS)
    text = "".join(answer.tokens)
    starts = np.cumsum([0, *(len(token) for token in answer.tokens)])
    values: dict[int, float] = {}
    for match in _LINE.finditer(text):
        token = int(np.searchsorted(starts, match.start(2), side="right")) - 1
        number, said = int(match.group(1)), int(match.group(2))
        if number in values or said > _HIGHEST:
            raise UnreadableAnswer(
                f"The answer gives token {number} twice or the value {said}; 0 to 10 was asked for."
            )
        # A value that is several tokens ("10" as "1", "0") has no probability of its own.
        alone = answer.tokens[token].strip() == match.group(2)
        values[number] = _expected(answer.logprobs[token], said) if alone else float(said)
    if values.keys() != set(range(1, n + 1)):
        raise UnreadableAnswer(
            f"The answer has {len(values)} lines of a number and a value for {n} tokens."
        )
    return [values[number] for number in range(1, n + 1)]


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _expected(alternatives: Mapping[str, float], said: int) -> float:
    """Mean of the whole numbers from 0 to 10 among the alternatives, weighted by probability."""
    total = weight = 0.0
    for text, log_probability in alternatives.items():
        core = text.strip()
        if core.isascii() and core.isdigit() and int(core) <= _HIGHEST:
            p = math.exp(log_probability)
            total, weight = total + p * int(core), weight + p
    return total / weight if weight > 0 else float(said)
