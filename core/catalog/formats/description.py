"""What is known of an SAE on disk before its weights are loaded. Plain data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Description:
    """One SAE in a folder (or one of several files there), as its files describe it."""

    file_format: str
    """Name of the format, a key of `core.catalog.formats.FORMATS`."""
    problem: str | None = None
    """Why it cannot be loaded, with the remedy; None for what can."""
    model_name: str = ""
    """Model it was trained on, as its files name it; empty where they do not."""
    hook_name: str | None = None
    """Site it reads, as transformer_lens names it."""
    hook_name_out: str | None = None
    """Site it writes, for transcoders."""
    hf_hook_name: str | None = None
    """The place it reads in Hugging Face's words, where its publisher says it in them too."""
    hf_hook_name_out: str | None = None
    """The same of the place it writes."""
    head: int | None = None
    """Head of that site that it reads alone; None for all of it."""
    d_in: int | None = None
    """Numbers it reads a position."""
    d_sae: int | None = None
    """Number of latents."""
    architecture: str | None = None
    """sae_lens' name of the architecture under which it is loaded."""
    dataset: str | None = None
    """Dataset it was trained on."""
    context_size: int | None = None
    """Length of the training contexts, in tokens."""
    neuronpedia_id: str | None = None
    """`model/source` on Neuronpedia."""
    processing: tuple[tuple[str, object], ...] = ()
    """Weight processing that it asks of its model."""
    prepend_bos: bool = True
    """Whether it was trained on texts that begin with BOS."""
    normalisation: str = "none"
    """How its input was scaled, as sae_lens' normalize_activations, where its user says it."""
    details: dict[str, Any] = field(default_factory=dict, compare=False)
    """What its format's `load_tensors` needs besides, such as k."""


@dataclass(frozen=True)
class Place:
    """Where one SAE lies: a folder, or one weight file where a folder holds several."""

    path: Path
    """Folder, or weight file."""
    file_format: str | None = None
    """Format recognised from the names of the files; None where none was."""
    problem: str | None = None
    """Why it is not even read; None for all that are."""
    levels: int = 0
    """How many folders down it was found."""
