"""How the next token is chosen: greedily, or drawn, reproducibly whatever else is in the batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. The default is greedy."""

    temperature: float = 0.0
    """0 takes the likeliest token and ignores `top_p`; otherwise logits are divided by it."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability can be drawn."""
    freq_penalty: float = 0.0
    """Subtracted from a token's logit for every time it occurred already."""
    penalty_counts_prompt: bool = False
    """Whether tokens of the prompt count as occurred (as in transformer_lens)."""
    n_samples: int = 1
    """Texts for each row; greedy ones are all the same."""
    seed: int = 0
    """Sample i of a row always draws the same random numbers."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; use 0 (greedy) or more.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; use more than 0, at most 1 (everything).")
        if self.n_samples < 1:
            raise ValueError(f"n_samples is {self.n_samples}; use 1 or more.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; use 0 or more.")

    def draws(self, sample: int, n: int) -> Float[Tensor, " n"]:
        """The uniform numbers in [0, 1) that sample number `sample` uses, one a token."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + sample)
        return torch.rand(n, generator=generator, dtype=torch.float64)


def next_tokens(
    logits: Float[Tensor, "batch vocab"],
    counts: Int[Tensor, "batch vocab"] | None,
    uniform: Float[Tensor, " batch"],
    sampling: Sampling,
) -> Int[Tensor, " batch"]:
    """One token a row. `counts` says how often each token occurred; None without a penalty.

    A token is drawn by inverting the cumulative distribution, likeliest first, at `uniform`.
    """
    logits = logits.float()
    if counts is not None:
        logits = logits - sampling.freq_penalty * counts
    if sampling.temperature == 0:
        return logits.argmax(-1)
    ordered, ids = (logits / sampling.temperature).sort(descending=True, stable=True)
    cumulative = ordered.double().softmax(-1).cumsum(-1)
    mass = cumulative[:, -1:]
    if sampling.top_p < 1:
        # The token that crosses top_p still belongs to the nucleus.
        last = (cumulative < sampling.top_p).sum(-1, keepdim=True).clamp(max=logits.shape[1] - 1)
        mass = cumulative.gather(1, last)
    place = torch.searchsorted(cumulative, uniform.to(cumulative)[:, None] * mass, right=True)
    return ids.gather(1, place.clamp(max=logits.shape[1] - 1))[:, 0]
