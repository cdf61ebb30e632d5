"""Random tokens that repeat, and what attention heads do on them."""

from collections.abc import Iterable

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from core.models.hooks import Model, cache_sites, context_length


def repeated_tokens(
    model: Model, length: int = 10, *, n_prompts: int = 1, seed: int = 0, repeated: bool = True
) -> Int[Tensor, "prompts pos"]:
    """BOS, `length` random tokens, and the same again (or, if not `repeated`, others).

    No token occurs twice within a half, nor a special token at all.

    Raises:
        ValueError: a length below 2, or beyond half the context or vocabulary.
    """
    tokenizer = model.tokenizer
    special = set(getattr(tokenizer, "all_special_ids", []))
    ordinary = torch.tensor([it for it in range(model.cfg.d_vocab) if it not in special])
    most = min((context_length(model) - 1) // 2, len(ordinary) // 2)
    if not 2 <= length <= most:
        raise ValueError(f"The length is {length}; this model can repeat 2 to {most} tokens.")
    generator = torch.Generator().manual_seed(seed)
    bos = getattr(tokenizer, "bos_token_id", None)
    rows = []
    for _ in range(n_prompts):
        drawn = ordinary[torch.randperm(len(ordinary), generator=generator)[: 2 * length]]
        second = drawn[:length] if repeated else drawn[length:]
        rows.append(torch.cat([torch.tensor([bos or 0]), drawn[:length], second]))
    return torch.stack(rows).to(next(model.parameters()).device)


def unrepeated(model: Model, tokens: Tensor, length: int, seed: int) -> Tensor:
    """The same first halves, each with a second half of tokens that are not in it."""
    # Twice as many tokens as are needed: the first half can rule out no more than that.
    spare = repeated_tokens(model, length, n_prompts=len(tokens), seed=seed + 1, repeated=False)
    control = tokens.clone()
    for prompt, candidates in zip(control, spare, strict=True):
        fresh = candidates[~torch.isin(candidates, prompt)]
        prompt[length + 1 :] = fresh[:length]
    return control


@torch.no_grad()
def head_scores(model: Model, tokens: Int[Tensor, "prompts pos"]) -> pd.DataFrame:
    """How far each attention head looks at the previous token, and how far it does induction.

    `tokens` are repeated, as `repeated_tokens` makes them. A row a head: layer, head,
    previous_token (mean attention from a position to the one before), induction (mean attention
    from each token of the second half to the one after its first occurrence).
    """
    tokens = tokens[None] if tokens.dim() == 1 else tokens
    length = tokens.shape[1] // 2
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    rows = []
    for layer, pattern in enumerate(cache_sites(model, tokens, names).values()):
        previous = pattern.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1))
        # The k-th entry of this diagonal is attention from position k + length - 1 to k.
        induction = pattern.diagonal(1 - length, dim1=-2, dim2=-1)[..., 2:].mean((0, -1))
        rows += [
            {"layer": layer, "head": head, "previous_token": float(p), "induction": float(i)}
            for head, (p, i) in enumerate(zip(previous, induction, strict=True))
        ]
    return pd.DataFrame(rows)


def induction_layers(scores: pd.DataFrame, layers: Iterable[int]) -> tuple[int, int] | None:
    """Of these layers the one with the strongest previous-token head, and a later one.

    The later one has the strongest induction head of all but the first of them. `scores` is what
    `head_scores` gives; None for fewer than two layers.
    """
    among = sorted(set(layers))
    if len(among) < 2:
        return None
    by_layer = scores.groupby("layer")[["previous_token", "induction"]].max()
    late = max(among[1:], key=lambda it: float(by_layer["induction"].get(it, 0.0)))
    earlier = [it for it in among if it < late]
    return max(earlier, key=lambda it: float(by_layer["previous_token"].get(it, 0.0))), late
