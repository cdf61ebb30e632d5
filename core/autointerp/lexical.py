"""Explaining and judging without a language model: the words of the peaks, matched literally.

The explainer is the offline describer (`core.descriptions`) on the generation examples alone; the
judge predicts an example to be active when it holds a word that fits the rule (`rules`). Neither
needs a key, and they are the baseline that a chat model has to beat.

`detection_by_words` asks of a text from elsewhere, such as what a model says of a latent, whether
it tells where the latent fires. Its judge takes an example for active that holds a word of the
text: it is deaf to paraphrase, so its score is a lower bound on what the text is worth.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from core.autointerp.config import AutoInterpConfig
from core.autointerp.examples import Example, split_windows
from core.autointerp.explain import Result, Roles, explain_and_score
from core.autointerp.gather import gather_windows
from core.autointerp.roles import Evidence, Explained, FailedAnswer, Judged, Material
from core.autointerp.rules import (
    Rule,
    fitting_words,
    marks_fit,
    matches,
    rule_from_text,
    words_of,
)
from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.descriptions.offline import describe_latents
from core.descriptions.patterns import Pattern
from core.lease import Lease
from core.patch_scoping.faithfulness import named_tokens
from core.store import Store

SAMPLE_TOKENS = 40_000
"""Tokens in which `detection_by_words` looks for examples."""
_WORDS = re.compile(r"[^\W\d_]+")
_BEGINNINGS = {
    "fires on ": "",
    "fires after ": "text after ",
    "fires before ": "text before ",
    "near ": "text near ",
    "mixed: ": "nothing in common; such as ",
}
"""How the describer begins, and what follows "activates on" instead."""


def lexical_explanations(
    examples: Mapping[int, Sequence[Example]], *, max_chars: int = 100
) -> dict[int, Explained]:
    """What the peaks of each latent have in common; latents without examples are left out.

    All latents at once: whether a word beside the peaks is telling depends on how often it stands
    beside the peaks of the others.
    """
    latents = [latent for latent, some in examples.items() if some]
    if not latents:
        return {}
    n_before = max(example.peak for latent in latents for example in examples[latent])
    n_after = max(len(ex.toks) - 1 - ex.peak for latent in latents for ex in examples[latent])
    shape = (len(latents), max(len(examples[latent]) for latent in latents))
    windows = np.full((*shape, n_before + 1 + n_after), -1, dtype=np.int32)
    values = np.zeros(shape, dtype=np.float32)
    numbers: dict[str, int] = {}
    for i, latent in enumerate(latents):
        for j, example in enumerate(examples[latent]):
            begin = n_before - example.peak
            ids = [numbers.setdefault(text, len(numbers)) for text in example.str_toks]
            windows[i, j, begin : begin + len(ids)] = ids
            values[i, j] = example.acts[example.peak]
    found = describe_latents(windows, values, list(numbers), n_before=n_before, max_chars=max_chars)
    return {
        latent: Explained(_after_activates_on(text), rule=pattern)
        for latent, text, pattern in zip(latents, found.texts, found.patterns, strict=True)
        if text
    }


def _after_activates_on(text: str) -> str:
    for beginning, instead in _BEGINNINGS.items():
        if text.startswith(beginning):
            return instead + text.removeprefix(beginning)
    return text


class PreparedExplainer:
    """Hands out explanations that were made for all latents beforehand."""

    def __init__(self, found: Mapping[int, Explained]) -> None:
        """`found`: by latent."""
        self._found = dict(found)

    async def explain(self, evidence: Evidence) -> Explained:
        """Raises FailedAnswer for a latent that has none."""
        if evidence.latent not in self._found:
            raise FailedAnswer("There is no explanation of this latent.", messages=[], raw=[])
        return self._found[evidence.latent]


class LexicalExplainer(PreparedExplainer):
    """Explains by the words of the peaks, compared between all latents."""

    def __init__(self, examples: Mapping[int, Sequence[Example]]) -> None:
        """`examples` are those for generation, of every latent that will be asked about."""
        super().__init__(lexical_explanations(examples))


class LexicalJudge:
    """Predicts by matching words, with the rule of the explanation or read from its text."""

    async def judge(self, explained: Explained, examples: Sequence[Example]) -> Judged:
        """Raises FailedAnswer for an explanation that names nothing to look for."""
        rule = rule_of(explained)
        fits = [matches(rule, example) for example in examples]
        return Judged([number for number, fit in enumerate(fits, start=1) if fit])

    async def judge_marks(
        self, explained: Explained, examples: Sequence[Example], marks: Sequence[Sequence[bool]]
    ) -> Judged:
        """Numbers of the examples with a marked word that fits. Raises as `judge`."""
        rule = rule_of(explained)
        fits = [marks_fit(rule, *pair) for pair in zip(examples, marks, strict=True)]
        return Judged([number for number, fit in enumerate(fits, start=1) if fit])

    async def choose(self, explained: Explained, sets: Sequence[Sequence[Example]]) -> Judged:
        """Numbers of the sets with the largest share of words that fit. Raises as `judge`."""
        rule = rule_of(explained)
        shares = []
        for one in sets:
            words = [word for example in one for word in words_of(example.str_toks)]
            shares.append(float(np.mean(fitting_words(rule, words))) if words else 0.0)
        return Judged([n for n, share in enumerate(shares, 1) if share == max(shares)])


def rule_of(explained: Explained) -> Rule:
    """The rule that came with an explanation, else what its text says.

    Raises FailedAnswer where that names nothing to look for.
    """
    if isinstance(explained.rule, Pattern):
        return explained.rule
    rule = rule_from_text(explained.text)
    if rule.is_empty:
        raise FailedAnswer(
            "The explanation names no word to look for, so words cannot be matched with it.",
            messages=[],
            raw=[],
        )
    return rule


class NamingJudge:
    """Takes an example for active when the text names one of its words."""

    async def judge(self, explained: Explained, examples: Sequence[Example]) -> Judged:
        """Numbers, from 1, of the examples that hold a word of the text."""
        found = [
            number
            for number, example in enumerate(examples, start=1)
            if any(named_tokens(explained.text, _WORDS.findall("".join(example.str_toks))))
        ]
        return Judged(found)


def detection_by_words(
    lease: Lease, store: Store, corpus: Corpus, texts: Mapping[int, str]
) -> dict[int, Result]:
    """Score the texts of latents by detection on a sample of the corpus, judged by words.

    What `AutoInterp.run` gives for each latent. Raises ValueError for no texts, or a corpus that
    cannot be read.
    """
    if not texts:
        raise ValueError("There are no texts to check; explain a latent first.")
    with lease.turn() as (model, (sae,)):
        packing = default_packing(model, sae, max_tokens=SAMPLE_TOKENS)
    tokens = load_token_set(corpus, lease.tokenizer, packing, store=store, progress=lease.progress)
    cfg = AutoInterpConfig(latents=list(texts), scoring=True, total_tokens=SAMPLE_TOKENS)
    [windows] = gather_windows(lease, tokens, cfg)
    with lease.turn() as (model, _):
        generation, scoring = split_windows(windows, cfg, model)
    materials = {
        latent: Material(Evidence(latent, generation[latent]), scoring[latent]) for latent in texts
    }
    roles = Roles(PreparedExplainer({}), NamingJudge(), seed=cfg.seed)
    return explain_and_score(materials, roles, given=texts, progress=lease.progress)
