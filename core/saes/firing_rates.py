"""How often do latents fire, by what was published with the SAE?

sae_lens saves log10(rate + 1e-10) of each latent, measured at the end of training, in
`sparsity.safetensors` beside the weights.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file

FILE_NAME = "sparsity.safetensors"
_FLOOR = 1e-10
_NEVER = 2e-10


def read_firing_rates(
    path: str | Path, d_sae: int | None = None
) -> Float[np.ndarray, " d_sae"] | None:
    """Share of tokens at which each latent fired, 0 to 1; 0 for those that never did.

    None where there is no such file, or one that cannot be read or is of another SAE than one of
    `d_sae` latents: it is an extra that nothing else depends on.
    """
    if not Path(path).is_file():
        return None
    try:
        found = load_file(path).get("sparsity")
    except (OSError, SafetensorError):
        return None
    if found is None or found.dim() != 1 or (d_sae is not None and len(found) != d_sae):
        return None
    rates = 10.0 ** found.double().numpy()
    if not np.isfinite(rates).all():
        return None
    # In float32, log10 of the floor may come back a little above it.
    return np.where(rates < _NEVER, 0.0, np.clip(rates - _FLOOR, 0.0, 1.0))
