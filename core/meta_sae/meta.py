"""A trained meta-SAE, and what it makes of rows."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array

_STEP = 1024


@dataclass(frozen=True, eq=False)
class MetaSae:
    """A sparse dictionary of rows. A row's decomposition does not depend on others beside it:
    meta-latents are active from a fixed threshold on (JumpReLU)."""

    W_enc: Float[np.ndarray, "d width"]
    """Encoder (float32)."""
    b_enc: Float[np.ndarray, " width"]
    """Its bias."""
    W_dec: Float[np.ndarray, "width d"]
    """Directions of the meta-latents, of length 1."""
    b_dec: Float[np.ndarray, " d"]
    """What every row has."""
    threshold: float
    """From where on a meta-latent is active."""

    def encode(self, rows: Float[np.ndarray, "n d"]) -> csr_array:
        """Activations of the meta-latents for each row, `[n, width]`."""
        from scipy.sparse import vstack

        parts = []
        for at in range(0, len(rows), _STEP):
            some = torch.from_numpy(np.ascontiguousarray(rows[at : at + _STEP] - self.b_dec))
            scores = torch.addmm(
                torch.from_numpy(self.b_enc), some.float(), torch.from_numpy(self.W_enc)
            )
            scores = torch.where(scores > self.threshold, scores, 0.0)
            parts.append(csr_array(scores.numpy()))
        return csr_array(vstack(parts))

    def decode(self, acts: csr_array) -> Float[np.ndarray, "n d"]:
        """Rows from activations."""
        return np.asarray(acts @ self.W_dec) + self.b_dec

    def explained_variance(self, rows: Float[np.ndarray, "n d"]) -> float:
        """1 − squared error / squared distance from the mean row, over all rows."""
        return explained_variance(rows, self.decode(self.encode(rows)))


def explained_variance(rows: Float[np.ndarray, "n d"], written: Float[np.ndarray, "n d"]) -> float:
    """1 − squared error / squared distance from the mean row; NaN for rows that are all alike."""
    whole = float(((rows - rows.mean(0)) ** 2).sum())
    return 1 - float(((rows - written) ** 2).sum()) / whole if whole > 0 else float("nan")
