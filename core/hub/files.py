"""Which files of a hub repository an SAE or a model needs."""

import re
from dataclasses import dataclass

from core.catalog.entries import SaeEntry


@dataclass(frozen=True)
class WantedFile:
    """A file that loading will ask the hub for."""

    filename: str
    """Path inside the repository."""
    optional: bool = False
    """Whether loading goes on without it."""


def files_of_sae(entry: SaeEntry) -> tuple[WantedFile, ...]:
    """Files that sae_lens' loader for `entry` downloads, in the order in which it asks.

    Raises:
        ValueError: the entry is not on the hub, or its file format is unknown.
    """
    path = entry.repo_path
    if path is None or entry.repo_id is None:
        raise ValueError(f"SAE {entry.sae_id!r} of {entry.release!r} is not on the hub.")
    stem = path.split(".pt")[0]
    params = f"{path}.safetensors" if "clt" in path else f"{path}/params.safetensors"
    required: dict[str | None, tuple[str, ...]] = {
        None: (f"{path}/cfg.json", f"{path}/sae_weights.safetensors"),
        "connor_rob_hook_z": (f"{stem}_cfg.json", path),
        "gemma_2": (f"{path}/params.npz",),
        "gemma_2_transcoder": (f"{path}/params.npz",),
        "gemma_3": (params,),
        "goodfire": (path,),
        "deepseek_r1": (path,),
        "qwen_scope": (path,),
        "llama_scope": (f"{path}/hyperparams.json", f"{path}/checkpoints/final.safetensors"),
        "llama_scope_r1_distill": (f"{path}/config.json", f"{path}/sae_weights.safetensors"),
        "dictionary_learning_1": (f"{path}/config.json", f"{path}/ae.pt"),
        "sparsify": (f"{path}/cfg.json", f"{path}/sae.safetensors"),
        "temporal": (f"{path}/conf.yaml", f"{path}/latest_ckpt.safetensors"),
        "mwhanna_transcoder": (path,),
        "mntss_clt_layer_transcoder": (
            "config.yaml",
            f"W_enc_{path}.safetensors",
            f"W_dec_{path}.safetensors",
        ),
    }
    optional: dict[str | None, tuple[str, ...]] = {
        None: (f"{path}/sparsity.safetensors",),
        "gemma_3": (f"{path}/config.json",),
        # The publisher misspelt the name in some repositories.
        "mwhanna_transcoder": ("wandb-config.yaml", "wanb-config.yaml", "config.yaml"),
    }
    loader = None if entry.conversion == "sae_lens" else entry.conversion
    if loader not in required:
        raise ValueError(
            f"Unknown file format {loader!r} of release {entry.release!r}; "
            "load it with sae_lens and save it as a folder of your own."
        )
    return tuple(
        [WantedFile(filename) for filename in required[loader]]
        + [WantedFile(filename, optional=True) for filename in optional.get(loader, ())]
    )


_TEXT_FILES = re.compile(
    r"config\.json|generation_config\.json|tokenizer.*|vocab\..*|merges\.txt|.*\.model"
    r"|special_tokens_map\.json|added_tokens\.json|chat_template\..*"
)
_WEIGHTS = (
    r"model\.safetensors",
    r"model-\d+-of-\d+\.safetensors|model\.safetensors\.index\.json",
    r"pytorch_model\.bin",
    r"pytorch_model-\d+-of-\d+\.bin|pytorch_model\.bin\.index\.json",
)


def files_of_model(filenames: list[str]) -> tuple[str, ...]:
    """Of a model repository's files, those that transformers will read to load it.

    Raises:
        ValueError: there are no weights in a format that is read here.
    """
    texts = [name for name in filenames if _TEXT_FILES.fullmatch(name)]
    for pattern in _WEIGHTS:
        weights = [name for name in filenames if re.fullmatch(pattern, name)]
        if any(not name.endswith(".json") for name in weights):
            return (*texts, *weights)
    raise ValueError(
        "The repository has no model.safetensors or pytorch_model.bin; "
        "download the model yourself and give its folder instead."
    )


def is_weights(filename: str) -> bool:
    """Whether a file holds tensors (and is worth a progress bar and a check)."""
    return filename.endswith((".safetensors", ".bin", ".pt", ".pth", ".npz"))
