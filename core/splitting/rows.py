"""Which directions does the map show? The decoder rows of several SAEs, and those it cannot show.

`W_dec` is taken as it is, whatever the SAE's site: rows of `hook_z` are directions in the space of
the heads' outputs, and compare with other rows of that site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.saes import head_of, sae_hook_name
from core.store.fingerprint import fingerprint

NOT_FINITE = "NaN or infinity"
ALL_ZERO = "all zero"
DEAD = "dead"
"""Reasons for which a latent is left out."""


@dataclass(frozen=True)
class LabelledSae:
    """An SAE under the name that the map gives it."""

    label: str
    """Unique among the SAEs of a map: the width, or the id."""
    sae: SAE
    """The SAE itself; only its decoder is read."""


@dataclass(frozen=True)
class DecoderRows:
    """Directions of all latents that can be placed, SAE after SAE: a copy of the weights."""

    directions: Float[Tensor, "n d_in"]
    """Decoder rows of length 1, in float32."""
    sae_index: Int[np.ndarray, " n"]
    """Which of `labels` each row is of."""
    latents: Int[np.ndarray, " n"]
    """Index of each row in its SAE."""
    labels: tuple[str, ...]
    """Names of the SAEs, in the order given."""
    widths: tuple[int, ...]
    """Number of latents of each SAE, placed or not."""
    left_out: pd.DataFrame
    """Latents without a place: `sae`, `sae_width`, `latent_idx`, `reason`."""

    def __len__(self) -> int:
        return len(self.latents)

    @cached_property
    def digest(self) -> str:
        """Fingerprint of the directions, on which neighbours and coordinates depend."""
        return fingerprint({"directions": self.directions})

    def frame(self) -> pd.DataFrame:
        """`sae`, `sae_width` and `latent_idx` of each row."""
        return _frame(self.labels, self.widths, self.sae_index, self.latents)


@torch.no_grad()
def decoder_rows(
    saes: Sequence[LabelledSae],
    *,
    hidden: Mapping[str, Bool[Any, " d_sae"]] | None = None,
    device: str | torch.device | None = None,
) -> DecoderRows:
    """The decoder rows of `saes`, normalised, with what cannot or should not be placed left out.

    Args:
        saes: SAEs of one site and width of activations, with different labels.
        hidden: for labels of `saes`, which latents to leave out as dead (`[d_sae]`, True: hide).
        device: where the directions go; by default they stay where the first SAE is.

    Raises:
        ValueError: no SAEs, two of one label, SAEs of different sites or `d_in`, or a `hidden`
            that does not fit.
    """
    _check_same_space(saes)
    hidden = dict(hidden or {})
    unknown = sorted(set(hidden) - {item.label for item in saes})
    if unknown:
        raise ValueError(
            f"hidden names {unknown[0]!r}, which is none of the SAEs; use the labels "
            f"{', '.join(item.label for item in saes)}."
        )
    target = torch.device(device) if device is not None else saes[0].sae.W_dec.device
    directions, latents, reasons = [], [], []
    for item in saes:
        unit, reason = _unit_rows(item.sae.W_dec.detach())
        is_hidden = _hidden_of(item, hidden)
        reason[(reason == "") & is_hidden] = DEAD
        placed = np.flatnonzero(reason == "")
        directions.append(unit[torch.as_tensor(placed, device=unit.device)].to(target))
        latents.append(placed)
        reasons.append(reason)
    labels = tuple(item.label for item in saes)
    widths = tuple(len(reason) for reason in reasons)
    return DecoderRows(
        directions=torch.cat(directions),
        sae_index=np.repeat(np.arange(len(saes)), [len(placed) for placed in latents]),
        latents=np.concatenate(latents),
        labels=labels,
        widths=widths,
        left_out=_left_out(labels, widths, reasons),
    )


def _check_same_space(saes: Sequence[LabelledSae]) -> None:
    if not saes:
        raise ValueError("There are no SAEs to place; choose one or more.")
    labels = [item.label for item in saes]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"Two SAEs are called {label!r}; give each a label of its own.")
    first = saes[0]
    for other in saes[1:]:
        d_in, other_d_in = first.sae.W_dec.shape[1], other.sae.W_dec.shape[1]
        if d_in != other_d_in:
            raise ValueError(
                f"The decoder rows of {first.label!r} have {d_in} numbers and those of "
                f"{other.label!r} {other_d_in}; choose SAEs of one model and site."
            )
        site, other_site = _site(first.sae), _site(other.sae)
        if site != other_site:
            raise ValueError(
                f"{first.label!r} is of {site} and {other.label!r} of {other_site}; directions at "
                "different sites do not compare, so choose SAEs of one site."
            )


def _site(sae: SAE) -> str:
    """Where the decoder writes: for transcoders, that is not where the encoder reads."""
    site = getattr(sae.cfg.metadata, "hook_name_out", None) or sae_hook_name(sae)
    head = head_of(sae)
    return site if head is None else f"{site} (head {head})"


def _unit_rows(W_dec: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], np.ndarray]:
    """Rows of length 1, and for each the reason why it has none, else an empty text."""
    rows = W_dec.to(torch.float32, copy=True)
    # Divided by the largest entry first: squares of very small or large ones leave float32.
    largest = rows.abs().amax(dim=1, keepdim=True)
    unit = rows.div_(largest)
    unit = unit.div_(unit.norm(dim=1, keepdim=True))
    reason = np.full(len(rows), "", dtype=object)
    reason[(largest[:, 0] == 0).cpu().numpy()] = ALL_ZERO
    reason[~torch.isfinite(largest[:, 0]).cpu().numpy()] = NOT_FINITE
    return unit, reason


def _hidden_of(item: LabelledSae, hidden: Mapping[str, Any]) -> Bool[np.ndarray, " d_sae"]:
    d_sae = item.sae.W_dec.shape[0]
    if item.label not in hidden:
        return np.zeros(d_sae, dtype=bool)
    given = hidden[item.label]
    mask = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
    if mask.dtype != bool or mask.shape != (d_sae,):
        raise ValueError(
            f"hidden[{item.label!r}] is {mask.dtype} of shape {list(mask.shape)}; give one bool "
            f"for each of its {d_sae} latents."
        )
    return mask


def _left_out(
    labels: Sequence[str], widths: Sequence[int], reasons: Sequence[np.ndarray]
) -> pd.DataFrame:
    latents = [np.flatnonzero(reason != "") for reason in reasons]
    index = np.repeat(np.arange(len(labels)), [len(found) for found in latents])
    frame = _frame(labels, widths, index, np.concatenate(latents))
    texts = [reason[found] for reason, found in zip(reasons, latents, strict=True)]
    frame["reason"] = pd.Series(np.concatenate(texts), dtype="str")
    return frame


def _frame(
    labels: Sequence[str],
    widths: Sequence[int],
    sae_index: Int[np.ndarray, " n"],
    latents: Int[np.ndarray, " n"],
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sae": pd.Categorical.from_codes(sae_index, categories=list(labels)),
            "sae_width": np.asarray(widths, dtype=np.int64)[sae_index],
            "latent_idx": latents.astype(np.int64),
        }
    )
