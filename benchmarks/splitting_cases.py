"""Decoder rows that the map is measured on: latents that split by construction, and the demo's."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from core.models import load_model
from core.saes import load_sae_from_disk
from core.settings import REPOSITORY

FAMILY = REPOSITORY / "demo/saes/docs-small-res-splitting"
MODEL = REPOSITORY / "demo/models/docs-small"


@dataclass(frozen=True)
class Case:
    """Rows to place on a map."""

    title: str
    """What they are."""
    sides: tuple[str, ...] = ("plain", "ours")
    """Which ways are measured; the plain one takes too long where it is missing."""


CASES = {
    "planted": Case("16,128 × 768: 768, 3,072 and 12,288 latents that split, a quarter from none"),
    "demo": Case("The demo's family up to 8,192 latents: 16,128 × 256"),
    "family": Case("The demo's whole family, 256 to 16,384 latents: 32,512 × 256", ("ours",)),
    "large": Case(
        "97,536 × 768: seven widths from 768 to 49,152, a vocabulary of 50,257", ("ours",)
    ),
}


def case_rows(case: str) -> torch.Tensor:
    """Decoder rows [n, d_in] of a case, in float32."""
    if case == "planted":
        return planted_rows()
    if case == "large":
        return large_rows()
    return family_rows(8192 if case == "demo" else None)


def case_model(case: str) -> Any:
    """The demo's model; for the made-up rows, an unembedding of their width in its place."""
    model = load_model(MODEL, device="cpu")
    if case in ("demo", "family"):
        return model
    generator = torch.Generator().manual_seed(1)
    W_U = torch.randn(768, 50_257 if case == "large" else model.W_U.shape[1], generator=generator)
    return SimpleNamespace(W_U=W_U, tokenizer=model.tokenizer, to_str_tokens=model.to_str_tokens)


def planted_rows() -> torch.Tensor:
    """768 random directions, each with 4 children, each with 4 of its own and noise around them."""
    generator = torch.Generator().manual_seed(0)
    narrow = _unit(torch.randn(768, 768, generator=generator))
    middle = _around(narrow.repeat_interleave(4, dim=0), 0.8, generator)
    wide = _around(middle.repeat_interleave(4, dim=0), 0.8, generator)
    # A third of the wide latents split from nothing.
    alone = torch.randperm(len(wide), generator=generator)[: len(wide) // 3]
    wide[alone] = _unit(torch.randn(len(alone), 768, generator=generator))
    return torch.cat([narrow, middle, wide])


def large_rows() -> torch.Tensor:
    """Seven widths, each latent around one of the next narrower, as many as seven SAEs of GPT-2."""
    generator = torch.Generator().manual_seed(0)
    levels = [_unit(torch.randn(768, 768, generator=generator))]
    for power in range(1, 7):
        parents = torch.randint(0, len(levels[-1]), (768 * 2**power,), generator=generator)
        levels.append(_around(levels[-1][parents], 1.0, generator))
    return torch.cat(levels)


def family_rows(widest: int | None = None) -> torch.Tensor:
    """Decoder rows of the demo's SAEs that differ in width, up to the `widest`."""
    folders = sorted(FAMILY.iterdir(), key=_width)
    chosen = [folder for folder in folders if widest is None or _width(folder) <= widest]
    return torch.cat([load_sae_from_disk(path, device="cpu").W_dec for path in chosen]).float()


def _width(folder: Path) -> int:
    return int(folder.name.rpartition("_")[2])


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


def _around(parents: torch.Tensor, spread: float, generator: torch.Generator) -> torch.Tensor:
    return _unit(parents + spread * _unit(torch.randn(parents.shape, generator=generator)))
