"""Which latents of the other SAEs of a family belong to this one, by their decoder directions?

The parent of a latent in a narrower SAE is the latent there with the highest cosine similarity, if
that reaches the threshold; the children of a latent in a wider SAE are the latents of which it is
the parent. So each latent has at most one parent in an SAE, and may have any number of children.
This is the reading of feature splitting in Bricken et al., "Towards Monosemanticity" (2023).

Nothing of the size of two SAEs is ever held: only latents near the chosen one are looked at.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.jobs.progress import Progress
from core.splitting.decoders import Decoder, best_matches

THRESHOLD = 0.4
"""Lowest cosine of a relative. At the level 0.99 `chance_cosine` gives 0.30 for the best of 16,384
random directions in 256 dimensions, and 0.18 for 49,152 in 768: 0.4 is clear of both. Compare with
`matched_chance_cosine` for a family at hand."""

COLUMNS = ("relation", "sae", "sae_width", "latent_idx", "cosine")


@torch.no_grad()
def cosine_relatives(
    family: Mapping[str, Decoder], label: str, latent: int, *, threshold: float = THRESHOLD
) -> pd.DataFrame:
    """Parents and children of a latent in all other SAEs of its family.

    Returns:
        Rows of `relation` ("parent" or "child"), `sae`, `sae_width`, `latent_idx` and `cosine`
        (-1 to 1), from narrow to wide SAEs, highest cosine first. SAEs of the same width as the
        latent's own have neither.

    Raises:
        ValueError: an unknown SAE, a latent without a direction, or a threshold outside 0 to 1.
    """
    own = member(family, label)
    _check_threshold(threshold)
    tables = []
    for other in family.values():
        if other.width < own.width:
            match, cosine = parent(own, other, latent)
            if cosine >= threshold:
                tables.append(
                    _table("parent", other, torch.tensor([match]), torch.tensor([cosine]))
                )
        elif other.width > own.width:
            found, cosines = children(own, other, latent, threshold=threshold)
            tables.append(_table("child", other, found, cosines))
    return pd.concat([_empty(), *tables], ignore_index=True) if tables else _empty()


@torch.no_grad()
def parent(own: Decoder, narrower: Decoder, latent: int) -> tuple[int, float]:
    """The latent of a narrower SAE with the highest cosine, and that cosine, however low it is."""
    value, index = narrower.cosines(own.direction(latent)).max(dim=0)
    return int(index), float(value)


@torch.no_grad()
def children(
    own: Decoder, wider: Decoder, latent: int, *, threshold: float = THRESHOLD
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Latents of a wider SAE whose parent is this one, and their cosines, highest first."""
    similarities = wider.cosines(own.direction(latent)).cpu()
    candidates = torch.nonzero(similarities >= threshold)[:, 0]
    # Whose parent it is can only be said once all latents of its own SAE were compared.
    found = [part[match == latent] for part, match, _ in best_matches(wider, own, candidates)]
    mine = torch.cat(found) if found else candidates
    order = similarities[mine].argsort(descending=True, stable=True)
    return mine[order], similarities[mine][order]


@torch.no_grad()
def nearest_latents(
    family: Mapping[str, Decoder], label: str, latent: int, *, k: int = 10
) -> pd.DataFrame:
    """The `k` latents with the highest cosine in each SAE of the family, the latent itself apart.

    Returns:
        Rows of `relation` ("same SAE" or "other SAE"), `sae`, `sae_width`, `latent_idx`, `cosine`,
        from narrow to wide SAEs, highest cosine first.

    Raises:
        ValueError: an unknown SAE, a latent without a direction, or `k` below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; ask for at least one latent.")
    own = member(family, label)
    direction = own.direction(latent)
    tables = [_empty()]
    for other in family.values():
        similarities = other.cosines(direction)
        if other is own:
            similarities[latent] = -torch.inf
        values, indices = similarities.topk(min(k, other.width))
        real = torch.isfinite(values)
        relation = "same SAE" if other is own else "other SAE"
        tables.append(_table(relation, other, indices[real], values[real]))
    return pd.concat(tables, ignore_index=True)


@torch.no_grad()
def best_matches_table(
    of: Decoder, among: Decoder, *, progress: Progress | None = None
) -> pd.DataFrame:
    """For every latent of one SAE the latent of another with the highest cosine.

    Exact, on the device of the weights; `progress` counts latents.

    Returns:
        Rows of `latent_idx`, `match` and `cosine`, in the order of latents; those without a
        direction are missing.
    """
    tables, done = [], 0
    for latents, matches, cosines in best_matches(of, among):
        table = {"latent_idx": latents.numpy(), "match": matches.numpy(), "cosine": cosines.numpy()}
        tables.append(pd.DataFrame(table))
        done += len(latents)
        if progress is not None:
            progress.update(done, of.width, unit="latents", message="Comparing directions")
    empty = pd.DataFrame({"latent_idx": [], "match": [], "cosine": []})
    return pd.concat(tables, ignore_index=True) if tables else empty


def member(family: Mapping[str, Decoder], label: str) -> Decoder:
    """An SAE of the family. Raises ValueError for an unknown one."""
    if label not in family:
        raise ValueError(f"There is no SAE {label!r} in this family; choose of {list(family)}.")
    return family[label]


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"The threshold is {threshold}; a cosine from 0 to 1 makes a relative.")


def _table(
    relation: str, sae: Decoder, latents: Int[Tensor, " n"], cosines: Float[Tensor, " n"]
) -> pd.DataFrame:
    columns = (relation, sae.label, sae.width, latents.cpu().numpy(), cosines.cpu().numpy())
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _empty() -> pd.DataFrame:
    kinds = (str, str, "int64", "int64", "float32")
    return pd.DataFrame(
        {name: pd.Series(dtype=kind) for name, kind in zip(COLUMNS, kinds, strict=True)}
    )
