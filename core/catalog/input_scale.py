"""Was an SAE trained on scaled activations whose scale is in no file? Read without importing torch.

sae_lens' trainer keeps the scale beside a checkpoint (`activation_scaler.json`) and folds it into
the weights at the end of training. A checkpoint that was copied without that file looks like a
finished SAE, except that its config still says `expected_average_only_in`.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCALED = "expected_average_only_in"
"""Activations times one factor, √d_in by their mean norm on the training text."""
WHITENED = "covariance_whitening"
"""Activations less their mean, times a matrix that makes their covariance the identity."""
SCALER_FILE, WHITENING_FILE = "activation_scaler.json", "activation_whitening.safetensors"


def normalisation_of(config: Mapping[str, Any]) -> str:
    """What an SAE's config says of scaling, in the words of today's sae_lens."""
    said = config.get("normalize_activations")
    if isinstance(said, bool):  # configs before sae_lens 3
        return SCALED if said else "none"
    return str(said or "none")


def saved_factor(folder: Path | None) -> float | None:
    """Factor that the trainer kept beside the weights; None where there is none.

    Raises ValueError for a file that holds anything but a positive number, or null.
    """
    path = None if folder is None else folder / SCALER_FILE
    if path is None or not path.is_file():
        return None
    try:
        factor = json.loads(path.read_text(encoding="utf-8")).get("scaling_factor")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}. Copy it again.") from error
    if factor is None:
        return None
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise ValueError(
            f"{path} gives scaling_factor as {factor!r}; it must be a positive number."
        )
    return float(factor)


def input_scale_problem(config: Mapping[str, Any], folder: Path | None) -> str | None:
    """Why the statistics that an SAE needs can neither be read nor estimated, or None."""
    kind = normalisation_of(config)
    architecture = str(config.get("architecture", "standard"))
    if kind == SCALED and architecture == "matching_pursuit":
        return (
            "This matching-pursuit SAE reads scaled activations (expected_average_only_in), and "
            "its one matrix reads and writes, so that the scale cannot be folded into it; save it "
            "with the scale folded in at the end of its training."
        )
    if kind != WHITENED:
        return None
    if folder is not None and (folder / WHITENING_FILE).is_file() and "trans" not in architecture:
        return None
    return (
        "This SAE reads whitened activations (covariance_whitening), whose mean and matrix are not "
        "in its files and cannot be estimated well enough from a sample: save it at the end of its "
        f"training, when sae_lens folds them in, or put {WHITENING_FILE} of its checkpoint beside "
        "its weights."
    )
