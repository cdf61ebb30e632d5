"""What of steering is wanted: everything that its result depends on."""

import hashlib
import json
from dataclasses import asdict, dataclass

from core.patch_scoping.sampling import Sampling
from core.steering.intervention import Place


@dataclass(frozen=True)
class SteerRequest:
    """What is steered and written."""

    model: str
    """Name of the model."""
    sae: tuple[str, str]
    """Release and id of the SAE."""
    sae_version: str
    """Changes when its files do."""
    groups: tuple[tuple[int, ...], ...]
    """Latents steered at once, group by group."""
    prompt: str
    """What the model goes on from."""
    chat: bool
    """Whether it is put in the chat format, where there is one."""
    mode: str
    """As `Intervention.mode`."""
    unit: str
    """Unit of the strengths."""
    strengths: tuple[float, ...]
    """Strengths of each group."""
    place: Place
    """Where."""
    largest: tuple[tuple[float, ...], ...]
    """Largest activation of each latent of each group in the text that was read; empty where that
    is not known."""
    sampling: Sampling
    """How texts are drawn."""
    new_tokens: int
    """Longest text, in tokens."""
    n_random: int
    """Random directions beside each group and strength."""
    after: tuple[str, str, str] | None = None
    """`(release, sae_id, version)` of the SAE behind it, in which it is looked for what a latent
    becomes; None where there is none."""

    @property
    def key(self) -> str:
        """Key of the job: two users who want the same share it."""
        text = json.dumps(asdict(self), sort_keys=True)
        return "steering:" + hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def names(self) -> list[tuple[str, str]]:
        """`(release, sae_id)` of the SAE and of the one behind it, for a lease."""
        return [self.sae, *([self.after[:2]] if self.after is not None else [])]

    @property
    def n_rows(self) -> int:
        """Texts that are written."""
        rows = 1 + len(self.groups) * len(self.strengths) * (1 + self.n_random)
        return rows * self.sampling.n_samples
