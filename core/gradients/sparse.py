"""A tensor that is mostly zeros, in both of its forms: dense, and as its positive entries."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

SparseForm = tuple[Float[Tensor, " n"], Int[Tensor, "n k"], tuple[int, ...]]
"""Positive values, where they are, and the shape of the dense tensor."""


class SparseTensor:
    """Activations of latents, which are positive at few places and zero elsewhere.

    Entries are in the order of their indices (batch, position, latent for SAE latents), which is
    the order in which a mask picks them. Negative entries, which only AbsTopK SAEs have, stay in
    `dense` and are left out of the sparse form.
    """

    sparse: SparseForm
    """(values `[n]`, indices `[n, k]`, shape of `dense`)."""
    dense: Tensor
    """The whole tensor, of k dimensions."""

    def __init__(self, sparse: SparseForm, dense: Tensor) -> None:
        """Both forms, which must agree: `from_dense` and `from_sparse` make one of the other."""
        self.sparse = sparse
        self.dense = dense

    @classmethod
    def from_dense(cls, dense: Tensor) -> "SparseTensor":
        """The positive entries of `dense`, which is kept as it is."""
        mask = dense > 0
        return cls((dense[mask], mask.argwhere(), tuple(dense.shape)), dense)

    @classmethod
    def from_sparse(cls, sparse: SparseForm) -> "SparseTensor":
        """The dense tensor of these values at these indices, zero elsewhere.

        Raises:
            ValueError: indices that do not fit the values or the shape.
        """
        values, indices, shape = sparse
        if indices.shape != (len(values), len(shape)):
            raise ValueError(
                f"Indices of shape {list(indices.shape)} do not place {len(values)} values in "
                f"{len(shape)} dimensions; give one row of {len(shape)} numbers a value."
            )
        limits = torch.tensor(shape, device=indices.device)
        if bool(((indices < 0) | (indices >= limits)).any()):
            raise ValueError(f"Some indices lie outside the shape {tuple(shape)}.")
        dense = torch.zeros(shape, dtype=values.dtype, device=values.device)
        dense[indices.unbind(-1)] = values
        return cls((values, indices, tuple(shape)), dense)

    @property
    def values(self) -> Tensor:
        """The positive entries `[n]`, dimensions of size 1 dropped."""
        return self.sparse[0].squeeze()

    @property
    def indices(self) -> Tensor:
        """Where they are, `[n, k]`, dimensions of size 1 dropped."""
        return self.sparse[1].squeeze()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense tensor."""
        return self.sparse[2]

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.sparse[0])

    def keep(self, entries: Int[Tensor, " m"]) -> "SparseTensor":
        """Only these entries, by their number, in their order; the rest becomes zero."""
        values, indices, shape = self.sparse
        return SparseTensor.from_sparse((values[entries], indices[entries], shape))
