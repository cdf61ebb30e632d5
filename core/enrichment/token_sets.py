"""Named sets of tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from core.store.fingerprint import fingerprint


@dataclass(frozen=True)
class NamedTokens:
    """One set."""

    name: str
    """What its tokens have in common, in words."""
    group: str
    """Kind of set, such as "first letter"."""
    ids: Int[np.ndarray, " size"]
    """Its tokens, ascending (int64)."""


@dataclass(frozen=True, eq=False)
class TokenSets:
    """Sets of tokens, with the tokens that they are compared with."""

    sets: tuple[NamedTokens, ...]
    """The sets; each has at least one token, and not all of them."""
    universe: Int[np.ndarray, " n_tokens"]
    """Tokens that are ranked (ascending ids): all that the tokenizer knows."""
    left_out: tuple[str, ...] = ()
    """Names of sets without any token, or with all, which no ranking can enrich."""

    @classmethod
    def from_ids(
        cls, named: Sequence[tuple[str, str, np.ndarray]], universe: Int[np.ndarray, " n_tokens"]
    ) -> "TokenSets":
        """From (name, group, token ids); ids outside the universe are dropped.

        Raises ValueError when two sets have one name, or the universe is empty.
        """
        universe = np.unique(np.asarray(universe, dtype=np.int64))
        if len(universe) == 0:
            raise ValueError("There are no tokens to rank; give a universe of token ids.")
        names = [name for name, _, _ in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Two sets are called {twice[0]!r}; give each a name of its own.")
        sets, left_out = [], []
        for name, group, ids in named:
            inside = np.intersect1d(np.asarray(ids, dtype=np.int64), universe)
            if 0 < len(inside) < len(universe):
                sets.append(NamedTokens(name, group, inside))
            else:
                left_out.append(name)
        return cls(tuple(sets), universe, tuple(left_out))

    def __len__(self) -> int:
        return len(self.sets)

    def __iter__(self) -> Iterator[NamedTokens]:
        return iter(self.sets)

    @property
    def sizes(self) -> Int[np.ndarray, " n_sets"]:
        """Tokens of each set."""
        return np.array([len(named.ids) for named in self.sets], dtype=np.int64)

    @property
    def digest(self) -> str:
        """sha256, in hex, over names and tokens."""
        arrays = {f"{number}:{named.name}": named.ids for number, named in enumerate(self.sets)}
        return fingerprint({"universe": self.universe, **arrays})

    def number(self, name: str) -> int | None:
        """Place of the set of that name; None when there is none."""
        return next((i for i, named in enumerate(self.sets) if named.name == name), None)

    def joined(self, other: "TokenSets") -> "TokenSets":
        """The sets of both over the universe of this one; of equal names, the other's are marked.

        Raises nothing: a name that is taken gets "(2)" behind it.
        """
        taken, added = {named.name for named in self.sets}, []
        for named in other.sets:
            name = named.name if named.name not in taken else f"{named.name} (2)"
            added.append((name, named.group, named.ids))
        own = [(named.name, named.group, named.ids) for named in self.sets]
        joined = TokenSets.from_ids([*own, *added], self.universe)
        left_out = (*self.left_out, *other.left_out, *joined.left_out)
        return TokenSets(joined.sets, joined.universe, left_out)
