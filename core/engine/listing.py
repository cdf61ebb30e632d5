"""What is loaded, as keys of an engine's residents and as lines of a list."""

from dataclasses import dataclass

from core.engine.locks import Variant
from core.engine.residents import Resident
from core.lease import SaeName


@dataclass(frozen=True)
class LoadedKey:
    """What an engine's residents are known by: a model, or an SAE under a model's lock."""

    model: str
    """Name of the model."""
    variant: Variant = ()
    """Weight processing of the model."""
    sae: SaeName | None = None
    """`(release, sae_id)`; None for a model."""
    version: str = ""
    """`SaeEntry.version`, so that a changed file is another object."""


@dataclass(frozen=True)
class LoadedObject:
    """One line of the sidebar's list of what is loaded."""

    name: str
    """Model, or `release / sae_id`."""
    kind: str
    """`model` or `sae`."""
    model: str
    """Model whose lock it is under."""
    n_bytes: int
    """Size of its tensors."""
    device: str
    """Where it lives."""
    in_use: bool
    """Whether a lease holds it or waits for it."""
    used_at: float
    """Last use, in seconds since the epoch."""

    @classmethod
    def of(cls, resident: Resident, *, device: str) -> "LoadedObject":
        """The line of a resident, whose key is a `LoadedKey`."""
        key = resident.key
        assert isinstance(key, LoadedKey)
        return cls(
            name=" / ".join(key.sae) if key.sae else key.model,
            kind="sae" if key.sae else "model",
            model=key.model,
            n_bytes=resident.n_bytes,
            device=device,
            in_use=resident.users > 0,
            used_at=resident.used_at,
        )
