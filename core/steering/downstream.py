"""What a latent is at after steering: read again from the steered stream, here and further on.

An SAE reads its own site after it was changed, and a later one what the layers between have made of
the change; of the later one that latent is looked at whose decoder direction is most like the
steered one's, which need not mean the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.logit_lens import all_directions
from core.models.hooks import Model, hooks_at
from core.patch_scoping.injection import rows_at_once
from core.saes import encode, read_at_site, sae_hook_name
from core.saes.writes import residual_directions, written_site
from core.steering.effects import MEMORY_BYTES, Reference
from core.steering.steerer import Steerer

_ENCODE_BYTES = 64 << 20
NONE = -1
"""Stands for a row without a latent to read."""


@torch.no_grad()
def nearest_later(
    model: Model, sae: SAE, latents: Sequence[int], later: SAE
) -> list[tuple[int, float]]:
    """The latent of `later` whose direction in the stream is most like each latent's, and the
    cosine.

    Raises ValueError for an SAE whose latents do not write to the stream.
    """
    own = residual_directions(model, sae, list(latents)).float()
    rows = all_directions(model, later)
    own, rows = (it / it.norm(dim=-1, keepdim=True).clamp_min(1e-30) for it in (own, rows))
    best = (own @ rows.to(own).T).max(dim=-1)
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def reads_what_it_writes(sae: SAE) -> bool:
    """Whether steering changes what the SAE itself reads: not so of a transcoder, which reads
    before it writes."""
    return sae_hook_name(sae) == written_site(sae)


@dataclass(frozen=True)
class Followed:
    """What is read again, for each group of latents."""

    own: tuple[int, ...]
    """Latent of the SAE itself; `NONE` where it cannot change."""
    later: tuple[int, ...]
    """Latent of the SAE behind it; `NONE` without one."""
    names: tuple[str, ...]
    """The latter in words; "" without one."""
    notes: tuple[str, ...]
    """What a reader should know, in sentences."""


def followed(
    model: Model, saes: Sequence[SAE], groups: Sequence[tuple[int, ...]], behind: str
) -> Followed:
    """What is read of each group's first latent; `behind` is the name of the second SAE."""
    firsts = [group[0] for group in groups]
    own, notes = tuple(firsts), []
    if not reads_what_it_writes(saes[0]):
        own = (NONE,) * len(groups)
        notes.append(
            "A transcoder reads before the place that is steered, so its own activation does not "
            "change."
        )
    if len(saes) < 2:
        return Followed(own, (NONE,) * len(groups), ("",) * len(groups), tuple(notes))
    try:
        nearest = nearest_later(model, saes[0], firsts, saes[1])
    except ValueError as error:
        notes.append(f"The SAE behind it is not looked at: {error}")
        return Followed(own, (NONE,) * len(groups), ("",) * len(groups), tuple(notes))
    names = tuple(f"latent {latent} of {behind}, cosine {cosine:.2f}" for latent, cosine in nearest)
    return Followed(own, tuple(latent for latent, _ in nearest), names, tuple(notes))


@torch.no_grad()
def reached(
    model: Model,
    steerer: Steerer,
    numbers: Sequence[int],
    reference: Reference,
    readers: Sequence[tuple[SAE, Sequence[int]]],
    *,
    check: Callable[[], None] | None = None,
) -> Float[Tensor, "rows readers"]:
    """Mean activation of one latent a row and reader on the reference text, steered.

    Positions from the first that counts on; each reader is an SAE with a latent for each row, NaN
    where that is `NONE`.
    """
    found = torch.full((len(numbers), len(readers)), torch.nan)
    tokens, first = reference.tokens, reference.first
    step = rows_at_once(model, tokens.shape[1], tokens.shape[1], MEMORY_BYTES // 4)
    for start in range(0, len(numbers), step):
        if check is not None:
            check()
        some = range(start, min(start + step, len(numbers)))

        def read(activations: Tensor, hook: Any, column: int, some: range = some) -> None:
            sae, latents = readers[column]
            part = read_at_site(sae, activations)[:, first:]
            wanted = [latents[row] for row in some]
            found[some.start : some.stop, column] = _means(sae, part, wanted)

        hooks = [
            (
                sae_hook_name(sae),
                lambda activations, hook, column=column: read(activations, hook, column),
            )
            for column, (sae, _) in enumerate(readers)
        ]
        # Put on after those that steer, they read what has been changed.
        with steerer.around([numbers[row] for row in some]), hooks_at(model, hooks):
            model(tokens.expand(len(some), -1), return_type=None)
    return found


def _means(sae: SAE, part: Tensor, latents: Sequence[int]) -> Float[Tensor, " rows"]:
    means = torch.full((len(latents),), torch.nan)
    step = max(1, _ENCODE_BYTES // (4 * part.shape[1] * int(sae.cfg.d_sae)))
    for start in range(0, len(latents), step):
        some = torch.tensor(latents[start : start + step])
        acts = encode(sae, part[start : start + step]).to_dense()
        index = some.clamp_min(0)[:, None, None].expand(-1, acts.shape[1], 1).to(acts.device)
        mean = acts.gather(2, index)[..., 0].float().mean(1).cpu()
        means[start : start + step] = torch.where(some == NONE, torch.nan, mean)
    return means
