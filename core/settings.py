"""What the environment says, read in one place.

Variables that belong to other libraries (``HF_HOME``, ``OPENAI_API_KEY``, …) are left to those
libraries; this module only reads the explorer's own.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """Folders and device of one running explorer."""

    cache_dir: Path = REPOSITORY / "cache"
    """Folder of the runtime store (`SAE_EXPLORER_CACHE`)."""
    demo_dir: Path = REPOSITORY / "demo"
    """Folder of the bundle that ships with the explorer."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps` (`SAE_EXPLORER_DEVICE`)."""
    user_sae_dirs: tuple[Path, ...] = ()
    """Folders that hold the user's own SAEs (`SAE_EXPLORER_SAES`, os.pathsep between them)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Settings from `environment` (`os.environ` if None); what is unset keeps its default."""
        env = os.environ if environment is None else environment
        folders = env.get("SAE_EXPLORER_SAES", "").split(os.pathsep)
        return cls(
            cache_dir=_folder(env.get("SAE_EXPLORER_CACHE") or str(cls.cache_dir)),
            device=env.get("SAE_EXPLORER_DEVICE") or cls.device,
            user_sae_dirs=tuple(_folder(folder) for folder in folders if folder.strip()),
        )


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~someone" whom this machine does not know: shown as no folder
        return Path(text)
