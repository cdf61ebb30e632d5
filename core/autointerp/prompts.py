"""What a chat model is asked, in the set-up of ARENA 1.3.3: explain, then detect.

The explainer sees examples with `<<marks>>` and answers with one sentence of at most 20 words. The
judge sees numbered examples without marks and answers with the numbers of those that should be
active, or "None".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.autointerp.examples import Example
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
_EXPLAIN_FORM = (
    ' Begin your answer with "This neuron activates on". If you cannot say what the texts have in '
    "common, answer with the one word NONE instead."
)
_DETECT = (
    "A unit inside a neural network responds to some word, part of a word, or concept in a text. "
    "You will get a short explanation of what it responds to, and {n} numbered texts. Decide in "
    "which of them the unit should respond at least once. Answer with their numbers, separated "
    'by commas, for example "2, 3, 9", or with the one word "None" if there are none. Write '
    "nothing else: the answer is read by a program."
)
LIST_AGAIN = (
    "That could not be read. Answer again with nothing but numbers from 1 to {n} separated by "
    'commas, each at most once, such as "2, 3, 9", or the one word "None".'
)
"""Demand for a list of numbers up to `n`."""
SENTENCE_AGAIN = (
    "That could not be read. Answer again with one sentence of at most 20 words that begins with "
    '"This neuron activates on", or with the one word NONE if you cannot say.'
)
"""Demand for an explanation."""
_FUZZ = (
    "A unit inside a neural network responds to some word, part of a word, or concept in a text. "
    "You will get a short explanation of what it responds to, and {n} numbered texts in which some "
    "tokens stand between << and >>. Decide in which texts the marked tokens are those that the "
    "unit should respond to. Answer with their numbers, separated by commas, for example "
    '"2, 3, 9", or with the one word "None" if there are none. Write nothing else: the answer is '
    "read by a program."
)
_SIMULATE = (
    "A unit inside a neural network responds to some word, part of a word, or concept in a text. "
    "You will get a short explanation of what it responds to, and the {n} tokens of a text in "
    "order, numbered. Say how strongly the unit responds at each token, from 0 (not at all; most "
    "tokens) to 10 (as strongly as it can). Answer with one line for each token, its number, a "
    'space and its value, such as "1 0", and write nothing else: the answer is read by a program.'
)
_WRITE = (
    "A unit inside a neural network responds to some word, part of a word, or concept in a text. "
    "You will get a short explanation of what it responds to. Write {n} different short texts, of "
    "one or two sentences, in which it should respond, and {n} in which it should not although "
    "they resemble the others. Every text stands on a line of its own that begins with YES or NO "
    'and a colon, such as "YES: ..." or "NO: ...". Write nothing else: the answer is read by a '
    "program."
)
TEXTS_AGAIN = (
    'That could not be read. Answer again with lines that begin with "YES:" or "NO:" and nothing '
    "else, {n} of each."
)
"""Demand for `n` texts of both kinds."""
_CHOOSE = (
    "A unit inside a language model was described in a few words. Below are {n} numbered sets of "
    "short texts. One set was written by the model while this unit was made stronger, the others "
    "while other units were; the texts may be cut or broken. Which set fits the description best? "
    'Answer with its number alone, for example "2". Write nothing else: the answer is read by a '
    "program."
)
CHOICE_AGAIN = (
    "That could not be read. Answer again with one number from 1 to {n} and nothing else."
)
"""Demand for the number of one of `n` sets."""
LINES_AGAIN = (
    "That could not be read. Answer again with {n} lines and nothing else: on each the number of "
    'the token, a space, and a whole number from 0 to 10, such as "1 0".'
)
"""Demand for a line for each of `n` tokens."""
_CUT = (
    "Your answer was too long and was cut. Think as briefly as you can, or not at all, and then "
    "answer. "
)
_REVISE = (
    "This explanation was tried out with new texts. In these, which fit it, the unit did not "
    "respond:\n\n{silent}\n\n{others}Write a better explanation, in one sentence of at most 20 "
    'words that begins with "This neuron activates on".'
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
    'write a last line that begins with "EXPLANATION: This neuron activates on", or is '
    '"EXPLANATION: NONE".'
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
    changed: Sequence[str] = (),
) -> Messages:
    """Ask for an explanation of what `examples` share, and `negatives` lack.

    `boosted` are tokens that the latent makes likelier by the logit lens, `changed` those that
    rise most in running text when it is amplified. Raises ValueError without examples.
    """
    options = options or ExplainerOptions()
    if not examples:
        raise ValueError("There are no examples to explain; the latent never fired on this text.")
    system = _EXPLAIN + _EXPLAIN_EXAMPLES * with_examples + _KINDS * options.demonstrations
    system += _THINK if options.chain_of_thought else _EXPLAIN_FORM
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
    if changed:
        tokens = ", ".join(repr(token) for token in changed)
        user += (
            f"\n\nWhen it is made stronger in other texts, these tokens come more often: {tokens}"
        )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _levels(example: Example, strongest: float) -> str:
    """The marked tokens with their activations on a scale from 1 to 10."""
    pieces = example.pieces
    shown = [
        f"{text.strip() or text!r} {max(1, math.ceil(_LEVELS * act / strongest))}"
        for text, act in zip(pieces.texts, pieces.activations, strict=True)
        if act > example.act_threshold
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


def fuzzing_prompts(explanation: str, marked: Sequence[str]) -> Messages:
    """Ask in which texts the right tokens are marked."""
    texts = numbered(marked)
    user = f"The explanation: the unit responds to {explanation}.\n\nThe texts:\n\n{texts}"
    return [
        {"role": "system", "content": _FUZZ.format(n=len(marked))},
        {"role": "user", "content": user},
    ]


def choice_prompts(explanation: str, sets: Sequence[Sequence[str]]) -> Messages:
    """Ask which set of texts fits an explanation."""
    shown = "\n\n".join(
        f"Set {number}:\n" + "\n".join(f"- {text}" for text in texts)
        for number, texts in enumerate(sets, start=1)
    )
    user = f"The description: the unit responds to {explanation}.\n\n{shown}"
    return [
        {"role": "system", "content": _CHOOSE.format(n=len(sets))},
        {"role": "user", "content": user},
    ]


def simulation_prompts(explanation: str, tokens: Sequence[str]) -> Messages:
    """Ask for a number from 0 to 10 at each token."""
    lines = numbered([repr(token) for token in tokens])
    user = f"The explanation: the unit responds to {explanation}.\n\nThe tokens:\n\n{lines}"
    return [
        {"role": "system", "content": _SIMULATE.format(n=len(tokens))},
        {"role": "user", "content": user},
    ]


def writing_prompts(explanation: str, n: int) -> Messages:
    """Ask for `n` texts that fit an explanation, and `n` that nearly do."""
    user = f"The explanation: the unit responds to {explanation}."
    return [
        {"role": "system", "content": _WRITE.format(n=n)},
        {"role": "user", "content": user},
    ]


def revision_prompts(
    asked: Messages, explanation: str, silent: Sequence[str], responding: Sequence[str]
) -> Messages:
    """Ask for a better explanation, after the question that led to the first one.

    `silent` are texts that fit it and in which the latent does not fire, `responding` (with marks)
    texts that should not fit it and in which it does.
    """
    others = ""
    if responding:
        texts = numbered(responding)
        others = f"In these, which should not fit it, it did respond:\n\n{texts}\n\n"
    said = {"role": "assistant", "content": f"This neuron activates on {explanation}"}
    demand = _REVISE.format(silent=numbered(silent) or "(none)", others=others)
    return [*asked, said, {"role": "user", "content": demand}]


def reminder(messages: Messages, answer: str, demand: str, *, cut: bool) -> Messages:
    """The same conversation with a stricter demand; `cut`: the answer was too long."""
    # Some services refuse a turn without text; half an answer would only be gone on with.
    said = [{"role": "assistant", "content": answer}] if answer.strip() and not cut else []
    return [*messages, *said, {"role": "user", "content": _CUT * cut + demand}]
