"""Stretches of text with one latent's activations on them, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of text around some places, with one latent's activations."""

    tokens: Int[np.ndarray, "n width"]
    """Token ids; -1 in padding."""
    acts: Float[np.ndarray, "n width"]
    """float32 activations; 0 at BOS and in padding."""
    rows: Int[np.ndarray, " n"]
    """Row of the corpus, counted from the first one that was read."""
    positions: Int[np.ndarray, " n"]
    """Position of the middle in its row."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: np.ndarray) -> "Windows":
        """Some of them, in that order."""
        return Windows(
            self.tokens[index], self.acts[index], self.rows[index], self.positions[index]
        )

    def join(self, *others: "Windows") -> "Windows":
        """These and others."""
        return joined([self, *others])

    @classmethod
    def empty(cls, width: int) -> "Windows":
        """None at all."""
        none = np.zeros(0, np.int64)
        return cls(np.zeros((0, width), np.int64), np.zeros((0, width), np.float32), none, none)


@dataclass(frozen=True, eq=False)
class LatentWindows:
    """What one latent is explained and scored with."""

    top: Windows
    """Its strongest places, best first, and a few more than asked for."""
    random: Windows
    """Random places, and a few more than asked for."""
    firing: Windows
    """Random ones of all places at which it fires; none unless quantiles are asked for."""


def joined(parts: Sequence[Windows]) -> Windows:
    """All windows of the parts, in their order."""
    return Windows(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.acts for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.positions for part in parts]),
    )


_KINDS = ("top", "random", "firing")


def to_arrays(gathered: Mapping[int, LatentWindows]) -> dict[str, np.ndarray]:
    """Plain arrays for the store; `from_arrays` reads them."""
    arrays = {"latents": np.array(list(gathered), dtype=np.int64)}
    for kind in _KINDS:
        parts = [getattr(windows, kind) for windows in gathered.values()]
        whole = joined(parts)
        arrays[f"{kind}.sizes"] = np.array([len(part) for part in parts], dtype=np.int64)
        arrays[f"{kind}.tokens"] = whole.tokens.astype(np.int32)
        arrays[f"{kind}.acts"] = whole.acts
        arrays[f"{kind}.places"] = np.stack([whole.rows, whole.positions]).astype(np.int32)
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray]) -> dict[int, LatentWindows]:
    """The windows that `to_arrays` gave."""
    by_kind = {}
    for kind in _KINDS:
        rows, positions = arrays[f"{kind}.places"].astype(np.int64)
        tokens = arrays[f"{kind}.tokens"].astype(np.int64)
        whole = Windows(tokens, arrays[f"{kind}.acts"], rows, positions)
        ends = arrays[f"{kind}.sizes"].cumsum()
        starts = ends - arrays[f"{kind}.sizes"]
        by_kind[kind] = [whole.take(np.arange(a, b)) for a, b in zip(starts, ends, strict=True)]
    return {
        latent: LatentWindows(*(by_kind[kind][i] for kind in _KINDS))
        for i, latent in enumerate(arrays["latents"].tolist())
    }
