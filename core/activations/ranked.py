"""For each of many groups, the few entries that rank first; merging is exact and order-free.

An entry is an activation: its value, its place, and the activations around it. Its rank is one
64-bit number computed from latent, value and place, different for all entries of a latent, so what
is kept is a function of the *set* of entries ever offered, whatever their order or batching.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt64

LAST = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The worst rank; no entry has it."""

RankFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(group, value, place) of entries to their ranks, uint64, lowest first."""


@dataclass
class Entries:
    """Activations to be offered, of any groups in any order."""

    group: Int[np.ndarray, " n"]
    """Which list each belongs to."""
    value: Float[np.ndarray, " n"]
    """float32 activation."""
    place: Int[np.ndarray, " n"]
    """int32 place in the token set."""
    windows: Callable[[np.ndarray], np.ndarray]
    """float16 [m, width] activations around those at `m` indices: found only for what is kept."""


@dataclass
class RankedLists:
    """At most `k` entries of each group, best first; empty slots have place -1 and value 0."""

    value: Float[np.ndarray, "groups k"]
    """float32 activations."""
    place: Int[np.ndarray, "groups k"]
    """int32 places."""
    window: Float[np.ndarray, "groups k width"]
    """float16 activations around each."""
    worst: UInt64[np.ndarray, " groups"]
    """Rank of each full group's last entry, `LAST` for groups with room: only better get in."""

    @classmethod
    def empty(cls, groups: int, k: int, width: int) -> "RankedLists":
        """Lists with nothing in them."""
        return cls(
            value=np.zeros((groups, k), dtype=np.float32),
            place=np.full((groups, k), -1, dtype=np.int32),
            window=np.zeros((groups, k, width), dtype=np.float16),
            worst=np.full(groups, LAST, dtype=np.uint64),
        )

    @property
    def k(self) -> int:
        """Slots of a group."""
        return self.value.shape[1]

    def entries(self, groups: Int[np.ndarray, " m"] | None = None) -> Entries:
        """All entries (of `groups`), which stay as they are when these lists change."""
        if groups is None:
            groups = np.flatnonzero(self.place[:, 0] >= 0)
        index, slot = np.nonzero(self.place[groups] >= 0)
        at = groups[index]
        around = self.window[at, slot]
        return Entries(at, self.value[at, slot], self.place[at, slot], around.__getitem__)

    def offer(self, entries: Entries, rank: RankFunction) -> None:
        """Take in what ranks among the first k of its group."""
        if len(entries.group) == 0:
            return
        is_touched = np.zeros(len(self.worst), dtype=bool)
        is_touched[entries.group] = True
        touched = np.flatnonzero(is_touched)
        held = self.entries(touched)
        group = np.concatenate([held.group, entries.group])
        value = np.concatenate([held.value, entries.value])
        place = np.concatenate([held.place, entries.place])
        ranks = rank(group, value, place)
        order = _sorted_by(is_touched.cumsum()[group] - 1, ranks, len(touched))
        sorted_group = group[order]
        first = np.flatnonzero(np.r_[True, sorted_group[1:] != sorted_group[:-1]])
        sizes = np.diff(np.r_[first, len(order)])
        slot = np.arange(len(order)) - np.repeat(first, sizes)
        kept = slot < self.k
        order, slot = order[kept], slot[kept]
        at = group[order]
        self.clear(touched)
        self.value[at, slot] = value[order]
        self.place[at, slot] = place[order]
        n_held = len(held.group)
        old = order < n_held
        self.window[at[old], slot[old]] = held.windows(order[old])
        self.window[at[~old], slot[~old]] = entries.windows(order[~old] - n_held)
        full = slot == self.k - 1
        self.worst[at[full]] = ranks[order[full]]

    def clear(self, groups: Int[np.ndarray, " m"]) -> None:
        """Forget the entries of `groups`."""
        self.value[groups], self.place[groups] = 0, -1
        self.window[groups], self.worst[groups] = 0, LAST


def strongest_first(group: np.ndarray, value: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Rank by value, highest first; equal values by place. Values must be positive."""
    # Bits of positive floats are ordered as the floats are.
    bits = np.ascontiguousarray(value, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((np.uint64(0xFFFFFFFF) - bits) << np.uint64(32)) | place.astype(np.uint64)


def random_rank(latent: np.ndarray, place: np.ndarray, seed: int) -> np.ndarray:
    """Pseudo-random uint64 of (latent, place); different for the places of one latent.

    The finaliser of splitmix64, a bijection, on numbers that differ.
    """
    with np.errstate(over="ignore"):
        mixed = (latent.astype(np.uint64) << np.uint64(32)) | place.astype(np.uint64)
        mixed += np.uint64(seed % 2**32 + 1) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def among_first(
    group: Int[np.ndarray, " n"], ranks: UInt64[np.ndarray, " n"], k: int, n_groups: int
) -> Int[np.ndarray, " m"]:
    """Indices of entries among which are the first k of each group, for ranks spread evenly.

    Large groups lose most of the others, without anything being sorted.
    """
    sizes = np.bincount(group, minlength=n_groups)
    # So many are expected below the bound that fewer than k are rare; such groups stay whole.
    share = np.minimum((2.0 * k + 8) / np.maximum(sizes, 1), 1.0)
    bound = np.where(share < 1, share * 2.0**64, 0).astype(np.uint64)
    bound[share == 1] = LAST
    below = ranks < bound[group]
    short = np.bincount(group[below], minlength=n_groups) < np.minimum(sizes, k)
    return np.flatnonzero(below | short[group])


def _sorted_by(
    group: Int[np.ndarray, " n"], ranks: UInt64[np.ndarray, " n"], n_groups: int
) -> Int[np.ndarray, " n"]:
    """Order by group, then by rank; groups number 0 to n_groups - 1."""
    bits = np.uint64(max(n_groups - 1, 1).bit_length())
    key = (group.astype(np.uint64) << (np.uint64(64) - bits)) | (ranks >> bits)
    order = np.argsort(key)
    # One sort of one number, then what those numbers could not tell apart.
    same = np.diff(key[order]) == 0
    tied = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
    part = order[tied]
    order[tied] = part[np.lexsort((ranks[part], key[part]))]
    return order
