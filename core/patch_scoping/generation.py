"""Many prompts, each with a vector of its own in it, continued in one batch.

Rows of one prompt length share a batch, so nothing is padded and every row gets the text that it
would get alone. The vector is put in while the prompt is read; later tokens see it through the KV
cache. Rows leave the batch when they are done.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import HookedTransformer

from core.jobs.progress import Progress
from core.models import Model, context_length
from core.patch_scoping.cached_run import CachedRun
from core.patch_scoping.injection import Injection, injecting, rows_at_once
from core.patch_scoping.sampling import Sampling, next_tokens
from core.tokens import texts_of_row, token_texts

DEFAULT_MEMORY_BUDGET = 1 << 30
"""Bytes that the logits and KV cache of one batch may take."""

Around = Callable[[Sequence[int], int], AbstractContextManager[Any]]
"""Called with the numbers of the prompts whose texts are in the batch, row by row, and the position
of the first token that the model reads now; what it returns is entered while the model runs."""
Watch = Callable[[Sequence[tuple[int, int]], Sequence[Sequence[int]]], None]
"""Called after every new token with `(prompt, sample)` of each text in the batch and its new tokens
so far, which go on growing."""


@dataclass(frozen=True)
class Completion:
    """What the model wrote after one prompt."""

    text: str
    """New text, all of it, special tokens at its end left out."""
    answer: str
    """The text before the stop string, without spaces around it and a full stop after it."""
    tokens: tuple[int, ...]
    """New token ids, the one that ended the text included."""
    mean_log_prob: float
    """Mean log-probability (nats) of the new tokens, before temperature and penalties."""
    ended_by: Literal["stop", "eos", "length"]
    """What ended it: the stop string, the model's end of text, or the number of tokens."""


@torch.no_grad()
def complete(
    model: Model,
    injections: Sequence[Injection],
    *,
    max_new_tokens: int = 50,
    stop: str | None = '"',
    sampling: Sampling | None = None,
    use_cache: bool = True,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
    progress: Progress | None = None,
) -> list[list[Completion]]:
    """The texts of each injection, `sampling.n_samples` of them each, in the order given.

    `stop` ends a text where it first appears; None lets it run to the model's end of text.
    Without `use_cache` the whole text is run again for each token: slow, and a check of the rest.

    Raises:
        ValueError: no room for the new tokens in the context; an injection that does not fit.
    """
    for injection in injections:
        injection.check(model)

    def around(numbers: Sequence[int], start: int) -> AbstractContextManager[Any]:
        # Later tokens see through the cache what was put in.
        return injecting(model, [injections[n] for n in numbers]) if start == 0 else nullcontext()

    return continue_prompts(
        model,
        [injection.prompt.tokens for injection in injections],
        around,
        max_new_tokens=max_new_tokens,
        stop=stop,
        sampling=sampling,
        use_cache=use_cache,
        memory_budget_bytes=memory_budget_bytes,
        progress=progress,
    )


@torch.no_grad()
def continue_prompts(
    model: Model,
    prompts: Sequence[Sequence[int]],
    around: Around,
    *,
    max_new_tokens: int = 50,
    stop: str | None = None,
    sampling: Sampling | None = None,
    use_cache: bool = True,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> list[list[Completion]]:
    """Texts that follow prompts given as token ids, while `around` changes what the model does.

    As `complete`, which says what the options mean; `watch` sees the texts grow.

    Raises:
        ValueError: no room for the new tokens in the context.
    """
    sampling = sampling or Sampling()
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; use 1 or more.")
    if stop == "":
        raise ValueError("The stop string is empty; use None for no stop string.")
    for prompt in prompts:
        if len(prompt) + max_new_tokens > context_length(model):
            raise ValueError(
                f"The prompt has {len(prompt)} tokens; with {max_new_tokens} new "
                f"ones that is more than the model's context of {context_length(model)}. Lower "
                "max_new_tokens."
            )
    n_samples = 1 if sampling.temperature == 0 else sampling.n_samples
    lengths: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        lengths[len(prompt)] += [(number, i) for i in range(n_samples)]
    found: dict[tuple[int, int], Completion] = {}
    for length, rows in lengths.items():
        at_once = rows_at_once(model, length, length + max_new_tokens, memory_budget_bytes)
        for start in range(0, len(rows), at_once):
            chunk = rows[start : start + at_once]
            numbers = [number for number, _ in chunk]
            batch = _Batch(model, prompts, numbers, around, stop, use_cache)
            uniform = torch.stack([sampling.draws(i, max_new_tokens) for _, i in chunk])
            total = len(prompts) * n_samples

            def report(done: int, new: Sequence[Sequence[int]]) -> None:
                if watch is not None:
                    watch(chunk, new)  # noqa: B023
                if progress is not None:
                    progress.update(len(found) + done, total, unit="texts", message="Generating")  # noqa: B023

            completions = batch.run(uniform, sampling, report)
            found.update(zip(chunk, completions, strict=True))
    return [
        [found[number, i if n_samples > 1 else 0] for i in range(sampling.n_samples)]
        for number in range(len(prompts))
    ]


def answer_of(text: str, stop: str | None = '"') -> str:
    """The text before `stop`, trimmed, without a full stop at its end."""
    return (text.split(stop)[0] if stop else text).strip().rstrip(".")


class _Batch:
    """Rows of one prompt length on their way."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        around: Around,
        stop: str | None,
        use_cache: bool,
    ) -> None:
        self.model, self.stop, self.around = model, stop, around
        self.prompts, self.numbers = prompts, numbers
        self.texts = token_texts(model.tokenizer)
        self.ends = end_tokens(model)
        self.cached = use_cache and (
            isinstance(model, HookedTransformer)
            or bool(getattr(model.adapter, "supports_kv_cache", True))
        )
        self._has_stop: dict[int, bool] = {}

    def run(
        self, uniform: Float[Tensor, "rows steps"], sampling: Sampling, report: Any
    ) -> list[Completion]:
        device = next(self.model.parameters()).device
        n, steps = uniform.shape
        tokens = torch.tensor([list(self.prompts[n]) for n in self.numbers], device=device)
        uniform = uniform.to(device if device.type != "mps" else "cpu")
        new: list[list[int]] = [[] for _ in range(n)]
        log_probs = [0.0] * n
        endings: list[Literal["stop", "eos", "length"]] = ["length"] * n
        alive = list(range(n))  # row numbers, in the order in which the batch holds them
        counts: Tensor | None = None
        run = CachedRun(self.model) if self.cached else None
        report(0, new)
        for step in range(steps):
            start = 0 if run is None or step == 0 else tokens.shape[1] - 1
            with self.around([self.numbers[row] for row in alive], start):
                if run is None:
                    logits = self.model(tokens, return_type="logits")
                else:
                    logits = run.step(tokens[:, start:])
            last = logits[:, -1].float()
            if sampling.freq_penalty:
                if counts is None:
                    counts = torch.zeros_like(last)
                    if sampling.penalty_counts_prompt:
                        counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=last.dtype))
                elif step:
                    counts.scatter_add_(1, tokens[:, -1:], torch.ones_like(last[:, :1]))
            chosen = next_tokens(last, counts, uniform[alive, step], sampling).to(device)
            sure = last.log_softmax(-1).gather(1, chosen[:, None])[:, 0].tolist()
            for row, token, log_prob in zip(alive, chosen.tolist(), sure, strict=True):
                new[row].append(token)
                log_probs[row] += log_prob
                if token in self.ends:
                    endings[row] = "eos"
                elif self._stopped(new[row]):
                    endings[row] = "stop"
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            going = [i for i, row in enumerate(alive) if endings[row] == "length"]
            report(n - len(going), new)
            if not going:
                break
            if len(going) < len(alive) and (run is None or run.can_drop_rows):
                index = torch.tensor(going, device=device)
                tokens, alive = tokens[index], [alive[i] for i in going]
                counts = None if counts is None else counts[index]
                if run is not None:
                    run.keep_rows(index)
        return [self._completion(*row) for row in zip(new, log_probs, endings, strict=True)]

    def _stopped(self, tokens: list[int]) -> bool:
        if self.stop is None:
            return False
        token = tokens[-1]
        if token not in self._has_stop:
            # A sign of several tokens is only seen when they are put together.
            self._has_stop[token] = self.texts.is_partial(token) or (
                self.stop[-1] in self.texts.within(token)
            )
        return self._has_stop[token] and self.stop in self._text(tokens)

    def _text(self, tokens: Sequence[int]) -> str:
        # Not decoded: it goes on from the prompt, so the space at its beginning counts.
        return texts_of_row(self.texts, tokens).text

    def _completion(
        self, tokens: list[int], log_prob: float, ended_by: Literal["stop", "eos", "length"]
    ) -> Completion:
        text = self._text(tokens[:-1] if ended_by == "eos" else tokens)
        return Completion(
            text=text,
            answer=answer_of(text, self.stop),
            tokens=tuple(tokens),
            mean_log_prob=log_prob / len(tokens),
            ended_by=ended_by,
        )


def end_tokens(model: Model) -> set[int]:
    """Ids at which the model ends its text: EOS, and what its config adds (a turn's end)."""
    tokenizer: Any = model.tokenizer
    more = getattr(model.cfg, "eos_token_id", None)
    ids = {tokenizer.eos_token_id, *(more if isinstance(more, list | tuple) else [more])}
    return {int(token) for token in ids if token is not None}
