"""Spelling prompts: where does the model know the first letter of a word, if it can name it?

As in sae-spelling and SAEBench: some words with their first letters, then a word whose letter is to
be named; the SAE is read at that word. It only means something where the model answers, so that is
measured first. Prompts are put together from tokens, so all of them are equally long and the word
stands at the same place, whatever the tokenizer.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from scipy.stats import binomtest

from core.corpus.bos import bos_id
from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.models import Model, context_length
from core.tokens import TokenTexts, vocabulary_texts

EXAMPLES = 10
"""Words with their letters in front of each word, as in SAEBench."""
MOST_WORDS, ASKED = 2000, 200
"""Words that are read, and those of them that the model is asked about first."""
LEAST_ACCURACY = 0.5
"""Share of right answers from which on the model is said to answer."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BATCH = 16
_LEAST_WORDS = 100
_QUESTION = " has the first letter:"


@dataclass(frozen=True)
class Accuracy:
    """How well a model names first letters."""

    right: int
    """Words whose letter it names: of the 26 letters, the right one is likeliest."""
    n: int
    """Words that it was asked about."""
    commonest: float
    """Share of the words that begin with the commonest letter: what naming it always gives."""

    @property
    def share(self) -> float:
        """Share of right answers."""
        return self.right / self.n

    @property
    def answers(self) -> bool:
        """Whether the model answers: half of the words, and more than by naming one letter."""
        low = float(binomtest(self.right, self.n).proportion_ci(0.95, method="wilson").low)
        return self.share >= LEAST_ACCURACY and low > self.commonest

    @property
    def sentence(self) -> str:
        """What was measured."""
        found = binomtest(self.right, self.n).proportion_ci(0.95, method="wilson")
        return (
            f"Asked for the first letter of {self.n} words after {EXAMPLES} examples, the model "
            f"names that of {self.right} ({self.share:.0%}, 95 % {found.low:.0%}–{found.high:.0%};"
            f" always naming the commonest letter: {self.commonest:.0%})."
        )


@dataclass(frozen=True, eq=False)
class Spelling:
    """Prompts about words."""

    tokens: TokenSet
    """A row for each word; what counts is the word that is asked about."""
    letter: Int[np.ndarray, " rows"]
    """First letter of each row's word, from 0."""
    answers: tuple[int, ...]
    """Token of each letter as an answer."""


def spelling_prompts(model: Model, *, seed: int = 0, most: int = MOST_WORDS) -> Spelling:
    """Prompts about words of the vocabulary: tokens of two letters a to z or more, after a space.

    Raises:
        ValueError: a tokenizer without such tokens or without letters as tokens, or a context that
            is too short.
    """
    tokenizer: Any = model.tokenizer
    vocabulary = vocabulary_texts(model)
    words, letters = _words(vocabulary)
    if len(words) < _LEAST_WORDS:
        raise ValueError(
            f"The tokenizer has {len(words)} words of letters a to z as single tokens, and "
            f"{_LEAST_WORDS} are needed for spelling prompts; choose sets of tokens instead."
        )
    answers = tuple(_single(tokenizer, f" {it}") for it in LETTERS)
    question = _ids(tokenizer, _QUESTION)
    line = _ids(tokenizer, "\n")
    n = int(model.cfg.d_vocab)
    front = bos_id(tokenizer, d_vocab=n)
    leading = [] if front is None else [front]
    length = len(leading) + (EXAMPLES + 1) * (len(line) + 1 + len(question)) + EXAMPLES
    if length > context_length(model):
        raise ValueError(
            f"A spelling prompt takes {length} tokens, and the model's context holds "
            f"{context_length(model)}; choose sets of tokens instead."
        )
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.permutation(len(words))[:most])
    rows = []
    for word in asked.tolist():
        shown = rng.choice(np.delete(np.arange(len(words)), word), EXAMPLES, replace=False)
        row = list(leading)
        for it in shown.tolist():
            row += [*line, int(words[it]), *question, answers[int(letters[it])]]
        rows.append([*row, *line, int(words[word]), *question])
    tokens = TokenSet.from_rows(np.array(rows), bos_id=front)
    mask = np.zeros_like(tokens.mask)
    mask[:, length - 1 - len(question)] = True
    return Spelling(replace(tokens, mask=mask), letters[asked], answers)


@torch.no_grad()
def spelling_accuracy(
    model: Model, prompts: Spelling, *, seed: int = 0, most: int = ASKED
) -> Accuracy:
    """How many of the prompts, some of them drawn, the model answers rightly."""
    order = np.sort(np.random.default_rng(seed).permutation(len(prompts.letter))[:most])
    device = next(model.parameters()).device
    answers = torch.tensor(prompts.answers, device=device)
    right = 0
    for start in range(0, len(order), _BATCH):
        some = order[start : start + _BATCH]
        ids = torch.from_numpy(prompts.tokens.tokens[some].astype(np.int64)).to(device)
        said = model(ids, return_type="logits")[:, -1][:, answers].argmax(-1).cpu().numpy()
        right += int((said == prompts.letter[some]).sum())
    commonest = np.bincount(prompts.letter[order]).max() / len(order)
    return Accuracy(right, len(order), float(commonest))


def asked_spelling(lease: Lease, *, seed: int = 0) -> tuple[Spelling, Accuracy]:
    """Prompts that the model answers, and how well.

    Raises ValueError, with what was measured, for a model that does not answer them.
    """
    with lease.turn() as (model, _):
        prompts = spelling_prompts(model, seed=seed)
        lease.progress.update(0, None, message="Asking for first letters")
        accuracy = spelling_accuracy(model, prompts, seed=seed)
    if not accuracy.answers:
        raise ValueError(
            f"{accuracy.sentence} So spelling prompts say nothing of this model; choose sets of "
            "tokens instead."
        )
    return prompts, accuracy


def _words(vocabulary: TokenTexts) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the tokens that are a space and two letters or more, and their first letters."""
    ids, letters = [], []
    for token in range(len(vocabulary)):
        if not vocabulary.known[token] or vocabulary.special[token] or vocabulary.partial[token]:
            continue
        text = vocabulary.plain(token)
        core = text[1:]
        if text[:1] == " " and len(core) > 1 and core.isascii() and core.isalpha():
            ids.append(token)
            letters.append(LETTERS.index(core[0].upper()))
    return np.array(ids, dtype=np.int64), np.array(letters, dtype=np.int64)


def _ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def _single(tokenizer: Any, text: str) -> int:
    found = _ids(tokenizer, text)
    if len(found) != 1:
        raise ValueError(
            f"The tokenizer makes {len(found)} tokens of {text!r}, so letters are no single "
            "answers; choose sets of tokens instead."
        )
    return found[0]
