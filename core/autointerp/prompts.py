"""What a chat model is asked, in the set-up of ARENA 1.3.3: explain, then detect.

The explainer sees examples with `<<marks>>` and answers with one sentence of at most 20 words. The
judge sees numbered examples without marks and answers with the numbers of those that should be
active, or "None".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.autointerp.example import Example
from core.llm import Messages

_EXPLAIN = (
    "A unit inside a neural network responds to some word, part of a word, or concept in a text. "
    "You will see short texts in which it responds; the tokens it responds to stand between << "
    "and >>. Say in one sentence what the unit responds to. Be specific, but not so specific that "
    "some of the texts no longer fit. Mention capitals or punctuation if they matter. Use at most "
    "20 words, plain and simple; no formatting, no final full stop, and no long list of words."
)
_EXPLAIN_EXAMPLES = (
    " Three answers to other units: \"This neuron activates on the word 'must' in rules and "
    'instructions", "This neuron activates on names of rivers and other bodies of water", and '
    "\"This neuron activates on the substring 'under' at the start of words such as 'undergo'\"."
)
_EXPLAIN_FORM = ' Begin your answer with "This neuron activates on".'
_DETECT = (
    "A unit inside a neural network responds to some word, part of a word, or concept in a text. "
    "You will get a short explanation of what it responds to, and {n} numbered texts. Decide in "
    "which of them the unit should respond at least once. Answer with their numbers, separated "
    'by commas, for example "2, 3, 9", or with the one word "None" if there are none. Write '
    "nothing else: the answer is read by a program."
)
_REMIND_LIST = (
    "That could not be read. Answer again with nothing but numbers from 1 to {n} separated by "
    'commas, such as "2, 3, 9", or the one word "None".'
)
_REMIND_SENTENCE = (
    "That could not be read. Answer again with one sentence of at most 20 words that begins with "
    '"This neuron activates on".'
)


_KINDS = (
    " Units differ: some respond to one token wherever it stands (\"the word 'however'\"), some to "
    "a part of words (\"the substring 'graph' inside longer words\"), and some to a concept "
    'throughout a passage ("passages about court cases"); many marked tokens with high values in '
    "one text speak for a concept."
)
_THINK = (
    " First work it out: (1) list up to five marked or neighbouring tokens that seem telling, (2) "
    "say what the texts share, (3) say which next tokens the unit seems to make likelier. Then "
    'write a last line that begins with "EXPLANATION: This neuron activates on".'
)
_LEVELS = 10


def numbered(texts: Sequence[str]) -> str:
    """A line for each text, numbered from 1."""
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1))


@dataclass(frozen=True)
class ExplainerOptions:
    """What the explainer is told beyond the marked texts."""

    activations: bool = False
    """Activations of the marked tokens, as whole numbers from 1 to 10 (the strongest of all)."""
    demonstrations: bool = False
    """What token-, substring- and concept-level units look like."""
    chain_of_thought: bool = False
    """Ask for thoughts before the explanation, and allow `thought_tokens` more for them."""
    thought_tokens: int = 400
    """Most tokens of the thoughts."""


def generation_prompts(
    examples: Sequence[Example],
    *,
    with_examples: bool,
    options: ExplainerOptions | None = None,
    negatives: Sequence[Example] = (),
    boosted: Sequence[str] = (),
) -> Messages:
    """Ask for an explanation of what `examples` share, and `negatives` lack.

    `boosted` are tokens that the latent makes likelier. Raises ValueError without examples.
    """
    options = options or ExplainerOptions()
    if not examples:
        raise ValueError("There are no examples to explain; the latent never fired on this text.")
    system = _EXPLAIN + (_EXPLAIN_EXAMPLES if with_examples else _EXPLAIN_FORM)
    system += _KINDS * options.demonstrations + _THINK * options.chain_of_thought
    strongest = max(max(example.acts) for example in examples)
    lines = [
        example.to_str(mark_toks=True) + _levels(example, strongest) * options.activations
        for example in examples
    ]
    user = f"The texts in which the unit responds:\n\n{numbered(lines)}"
    if negatives:
        texts = numbered([example.to_str() for example in negatives])
        user += f"\n\nTexts in which it does not respond at all:\n\n{texts}"
    if boosted:
        tokens = ", ".join(repr(token) for token in boosted)
        user += f"\n\nWhen it responds, these next tokens become likelier: {tokens}"
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _levels(example: Example, strongest: float) -> str:
    """The marked tokens with their activations on a scale from 1 to 10."""
    shown = [
        f"{token.strip()!r} {max(1, math.ceil(_LEVELS * act / strongest))}"
        for token, act, active in zip(
            example.str_toks, example.acts, example.toks_are_active, strict=True
        )
        if active
    ]
    return f"\n   (strengths: {', '.join(shown)})"


def scoring_prompts(explanation: str, examples: Sequence[Example]) -> Messages:
    """Ask which examples fit an explanation; no mark tells. Raises ValueError without examples."""
    if not examples:
        raise ValueError("There are no examples to score with; gather some first.")
    texts = numbered([example.to_str() for example in examples])
    user = f"The explanation: the unit responds to {explanation}.\n\nThe texts:\n\n{texts}"
    return [
        {"role": "system", "content": _DETECT.format(n=len(examples))},
        {"role": "user", "content": user},
    ]


def reminder_for_list(messages: Messages, answer: str, n: int) -> Messages:
    """The same conversation, with what was wrong and a stricter demand for numbers up to `n`."""
    return _reminded(messages, answer, _REMIND_LIST.format(n=n))


def reminder_for_sentence(messages: Messages, answer: str) -> Messages:
    """The same conversation, with a stricter demand for one sentence."""
    return _reminded(messages, answer, _REMIND_SENTENCE)


def _reminded(messages: Messages, answer: str, demand: str) -> Messages:
    # Some services refuse a turn without text.
    said = [{"role": "assistant", "content": answer}] if answer.strip() else []
    return [*messages, *said, {"role": "user", "content": demand}]
