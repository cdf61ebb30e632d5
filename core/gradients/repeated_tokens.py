"""Prompts of random tokens that repeat, on which induction shows, and controls that do not."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.bos import token_in_front
from core.models.hooks import Model, context_length


def repeated_tokens(
    model: Model,
    length: int = 10,
    *,
    saes: Sequence[SAE] = (),
    n_prompts: int = 1,
    seed: int = 0,
    repeated: bool = True,
) -> Int[Tensor, "prompts pos"]:
    """BOS, `length` random tokens, and the same again (or, if not `repeated`, others).

    No BOS where `saes` were trained without one or the tokenizer has none. No token occurs twice
    within a half, nor a special token at all.

    Raises:
        ValueError: a length below 2, or beyond half the context or vocabulary, or SAEs that do not
            agree about BOS.
    """
    tokenizer = model.tokenizer
    special = set(getattr(tokenizer, "all_special_ids", []))
    ordinary = torch.tensor([token for token in range(model.cfg.d_vocab) if token not in special])
    most = min((context_length(model) - 1) // 2, len(ordinary) // 2)
    if not 2 <= length <= most:
        raise ValueError(f"The length is {length}; this model can repeat 2 to {most} tokens.")
    generator = torch.Generator().manual_seed(seed)
    bos = token_in_front(model, saes)
    front = torch.tensor([] if bos is None else [bos], dtype=torch.long)
    rows = []
    for _ in range(n_prompts):
        drawn = ordinary[torch.randperm(len(ordinary), generator=generator)[: 2 * length]]
        second = drawn[:length] if repeated else drawn[length:]
        rows.append(torch.cat([front, drawn[:length], second]))
    return torch.stack(rows).to(next(model.parameters()).device)


def n_leading(tokens: Tensor) -> int:
    """Positions in front of repeated tokens [..., pos]: 1 for a BOS, or 0."""
    return tokens.shape[-1] % 2


def unrepeated_control(model: Model, tokens: Tensor, length: int, seed: int) -> Tensor:
    """The same first halves, each with a second half of tokens that are not in it."""
    # Twice as many tokens as are needed: the first half can rule out no more than that.
    spare = repeated_tokens(model, length, n_prompts=len(tokens), seed=seed + 1, repeated=False)
    control = tokens.clone()
    for prompt, candidates in zip(control, spare, strict=True):
        fresh = candidates[~torch.isin(candidates, prompt)]
        prompt[n_leading(tokens) + length :] = fresh[:length]
    return control
