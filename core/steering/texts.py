"""Texts that a steered model writes, many rows in one batch, and what they are made of."""

import itertools
from collections.abc import Sequence

from sae_lens import SAE

from core.jobs.progress import Progress
from core.models import Model
from core.patch_scoping.generation import Completion, Watch, continue_prompts
from core.patch_scoping.sampling import Sampling
from core.steering.intervention import UNSTEERED, Intervention
from core.steering.prompt import SteerPrompt, steer_prompt
from core.steering.steerer import Steerer


def steered_texts(
    model: Model,
    sae: SAE,
    prompt: SteerPrompt,
    interventions: Sequence[Intervention],
    *,
    max_new_tokens: int = 50,
    sampling: Sampling | None = None,
    use_cache: bool = True,
    memory_budget_bytes: int = 1 << 30,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> list[list[Completion]]:
    """What the model writes after the prompt under each intervention, all in one batch.

    Sample i of every row draws the same random numbers, so rows differ by what is done to them;
    `watch` sees the texts grow.
    Raises ValueError as `Steerer` and `continue_prompts`.
    """
    steerer = Steerer(
        model, sae, interventions, n_prompt=len(prompt.tokens), n_leading=prompt.n_leading
    )
    return continue_prompts(
        model,
        [prompt.tokens] * len(interventions),
        steerer.around,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        use_cache=use_cache,
        memory_budget_bytes=memory_budget_bytes,
        progress=progress,
        watch=watch,
    )


def steer(
    model: Model,
    sae: SAE,
    text: str,
    interventions: Sequence[Intervention],
    *,
    max_new_tokens: int = 50,
    sampling: Sampling | None = None,
    chat: bool = False,
) -> list[list[str]]:
    """What the model writes after `text`: unsteered first, then under each intervention.

    For a notebook; `sampling.n_samples` texts each. Raises as `steer_prompt` and `Steerer`.
    """
    prompt = steer_prompt(model, sae, text, new_tokens=max_new_tokens, chat=chat)
    rows = steered_texts(
        model,
        sae,
        prompt,
        [UNSTEERED, *interventions],
        max_new_tokens=max_new_tokens,
        sampling=sampling,
    )
    return [[completion.text for completion in row] for row in rows]


def distinct_pairs(tokens: Sequence[int]) -> float:
    """Distinct-2: pairs of neighbouring tokens that differ, of all pairs; NaN below two tokens.

    1 where no pair is said twice, near 0 for a text that says one thing over and over.
    """
    pairs = list(itertools.pairwise(tokens))
    return len(set(pairs)) / len(pairs) if pairs else float("nan")


def share_of(tokens: Sequence[int], chosen: set[int]) -> float:
    """Share of a text's tokens that are among `chosen`; NaN for an empty text."""
    return sum(it in chosen for it in tokens) / len(tokens) if tokens else float("nan")
