"""Tiny contents for the loopback hub, under the names and in the formats of the real ones.

torch and sae_lens are imported inside functions: the hub's address must be in the environment
before.
"""

import io
import json
from pathlib import Path
from typing import Any

from tests.loopback_hub import LoopbackHub

RES_JB = ("gpt2-small-res-jb", "blocks.1.hook_resid_pre")
RES_JB_REPO = "jbloom/GPT2-Small-SAEs-Reformatted"
SPLITTING = ("gpt2-small-res-jb-feature-splitting", "blocks.8.hook_resid_pre_768")
SPLITTING_REPO = "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8"
HOOK_Z = ("gpt2-small-hook-z-kk", "blocks.1.hook_z")
HOOK_Z_REPO = "ckkissane/attn-saes-gpt2-small-all-layers"
HOOK_Z_STEM = (
    "gpt2-small_L1_Hcat_z_lr1.20e-03_l18.00e-01_ds24576_bs4096_dc1.00e-06_rsanthropic_rie25000"
    "_nr4_v5"
)
GEMMA = ("gemma-2b-res-jb", "blocks.6.hook_resid_post")
GEMMA_REPO = "jbloom/Gemma-2b-Residual-Stream-SAEs"
D_IN, D_SAE = 32, 64


def entry(name: tuple[str, str]) -> Any:
    """The catalog's entry of a published SAE."""
    from core.catalog import Catalog
    from core.settings import Settings

    return Catalog(Settings(demo_dir=Path("/nonexistent"))).entry(*name)


def fill(hub: LoopbackHub, folder: Path) -> None:
    """Put tiny contents under the names of the real repositories."""
    import torch

    from tests.builders import write_tiny_gpt2

    res_jb: dict[str, bytes] = {}
    for layer in range(12):
        if layer == 3:
            continue
        path = f"blocks.{layer}.hook_resid_pre"
        res_jb |= sae_files(path, hook_point=path, layer=layer, seed=layer)
    hub.repos[RES_JB_REPO] = res_jb
    hub.repos[SPLITTING_REPO] = sae_files(SPLITTING[1], "blocks.8.hook_resid_pre", 8, seed=20)
    hub.repos[GEMMA_REPO] = sae_files(
        entry(GEMMA).repo_path, "blocks.6.hook_resid_post", 6, seed=21
    )
    state = sae_tensors(seed=22)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    hub.repos[HOOK_Z_REPO] = {
        f"{HOOK_Z_STEM}_cfg.json": hook_z_config("blocks.1.attn.hook_z"),
        f"{HOOK_Z_STEM}.pt": buffer.getvalue(),
    }
    model_folder = folder / "tiny-gpt2"
    if not model_folder.exists():
        write_tiny_gpt2(model_folder)
    files = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    hub.repos["gpt2"] = files | {"README.md": b"# GPT-2", "flax_model.msgpack": bytes(50_000)}
    hub.stated_params["gpt2"] = 12_345


def sae_tensors(*, seed: int) -> dict[str, Any]:
    """Random weights in the names and shapes that sae_lens reads."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return {
        "W_enc": torch.randn(D_IN, D_SAE, generator=generator),
        "W_dec": torch.randn(D_SAE, D_IN, generator=generator),
        "b_enc": torch.zeros(D_SAE),
        "b_dec": torch.zeros(D_IN),
    }


def sae_files(path: str, hook_point: str, layer: int, *, seed: int) -> dict[str, bytes]:
    """An SAE as the res-jb releases store it: a config older than sae_lens 6, two tensor files."""
    import torch
    from safetensors.torch import save

    config = {
        "model_name": "gpt2-small",
        "hook_point": hook_point,
        "hook_point_layer": layer,
        "hook_point_head_index": None,
        "dataset_path": "Skylion007/openwebtext",
        "is_dataset_tokenized": False,
        "context_size": 128,
        "use_cached_activations": False,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "n_batches_in_buffer": 128,
        "device": "mps",
        "seed": 42,
        "dtype": "torch.float32",
        "b_dec_init_method": "geometric_median",
        "expansion_factor": 2,
        "from_pretrained_path": None,
        "l1_coefficient": 8e-05,
        "lr": 0.0004,
        "use_ghost_grads": False,
    }
    ones = {"scaling_factor": torch.ones(D_SAE)}
    return {
        f"{path}/cfg.json": json.dumps(config).encode(),
        f"{path}/sae_weights.safetensors": save({**sae_tensors(seed=seed), **ones}),
        f"{path}/sparsity.safetensors": save({"sparsity": torch.full((D_SAE,), -3.0)}),
    }


def hook_z_config(act_name: str) -> bytes:
    """The config beside a hook-z-kk `.pt`."""
    config = {"act_name": act_name, "act_size": D_IN, "dict_size": D_SAE, "site": "z"}
    return json.dumps(config).encode()


def malicious_pickle(trap: Path) -> bytes:
    """A checkpoint that creates `trap` when unpickled without care."""
    import torch

    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (trap,)

    buffer = io.BytesIO()
    torch.save({"W_enc": Payload()}, buffer)
    return buffer.getvalue()
