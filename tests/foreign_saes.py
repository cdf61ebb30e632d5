"""SAEs in the formats of other libraries, with random weights, and what their libraries compute.

The formulas are written out in plain torch from what each library publishes, with its own names
and shapes of tensors, and share nothing with `core`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D_IN, D_SAE, K = 32, 48, 5
Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Foreign:
    """An SAE on disk and what its library says it computes."""

    path: Path
    """Folder, or weight file."""
    encode: Step
    """`[..., d_in]` to `[..., d_sae]`."""
    decode: Step
    """`[..., d_sae]` to `[..., d_in]`."""
    hook_name: str
    """Site it reads, in transformer_lens' words."""


def noise(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """Reproducible normal numbers."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def top_k(hidden: Tensor, k: int = K) -> Tensor:
    """All but the k largest of each row set to 0."""
    lowest = hidden.sort(dim=-1, descending=True).values[..., k - 1 : k]
    return torch.where(hidden >= lowest, hidden, torch.zeros_like(hidden))


def weights(seed: int) -> dict[str, Tensor]:
    """Random weights in no library's names: rows of W and D are latents."""
    return {
        "W": noise(D_SAE, D_IN, seed=seed, scale=D_IN**-0.5),
        "D": noise(D_SAE, D_IN, seed=seed + 1, scale=0.3),
        "b": noise(D_SAE, seed=seed + 2, scale=0.3),
        "c": noise(D_IN, seed=seed + 3, scale=0.3),
        "t": noise(D_SAE, seed=seed + 4, scale=0.3).abs() + 0.1,
    }


def dictionary_learning(
    folder: Path,
    dict_class: str,
    *,
    layer: int = 1,
    lm_name: str = "gpt2",
    seed: int = 0,
    **extra: Any,
) -> Foreign:
    """config.json and ae.pt as `trainSAE` leaves them."""
    it = weights(seed)
    W, D, b, c, t = (it[name] for name in "WDbct")
    linear = {"encoder.weight": W, "encoder.bias": b, "decoder.weight": D.T.contiguous()}
    matrices = {"W_enc": W.T.contiguous(), "W_dec": D, "b_enc": b, "b_dec": c}
    one, k = torch.tensor(0.4), torch.tensor(K, dtype=torch.int)
    groups = torch.tensor([16, 32])

    def hidden(x: Tensor) -> Tensor:
        return torch.relu((x - c) @ W.T + b)

    r, gate, mag = (noise(D_SAE, seed=seed + n, scale=0.3) for n in (5, 6, 7))

    def gated(x: Tensor) -> Tensor:
        x_enc = (x - c) @ W.T
        return (x_enc + gate > 0).float() * torch.relu(r.exp() * x_enc + mag)

    def jump(x: Tensor) -> Tensor:
        pre = x @ W.T + b
        return torch.relu(pre * (pre > t))

    state, encode = {
        "AutoEncoder": ({**linear, "bias": c}, hidden),
        "AutoEncoderNew": ({**linear, "decoder.bias": c}, lambda x: torch.relu(x @ W.T + b)),
        "AutoEncoderTopK": (
            {**linear, "b_dec": c, "k": k, "threshold": torch.tensor(-1.0)},
            lambda x: top_k(hidden(x)),
        ),
        "BatchTopKSAE": (
            {**linear, "b_dec": c, "k": k, "threshold": one},
            lambda x: hidden(x) * (hidden(x) > one),
        ),
        "MatryoshkaBatchTopKSAE": (
            {**matrices, "k": k, "threshold": one, "group_sizes": groups},
            lambda x: hidden(x) * (hidden(x) > one),
        ),
        "JumpReluAutoEncoder": ({**matrices, "threshold": t}, jump),
        "GatedAutoEncoder": (
            {
                "encoder.weight": W,
                "decoder.weight": D.T.contiguous(),
                "decoder_bias": c,
                **{"r_mag": r, "gate_bias": gate, "mag_bias": mag},
            },
            gated,
        ),
    }[dict_class]
    trainer = {"dict_class": dict_class, "activation_dim": D_IN, "dict_size": D_SAE}
    trainer |= {"layer": layer, "lm_name": lm_name, "submodule_name": None, "k": 40, **extra}
    folder.mkdir(parents=True, exist_ok=True)
    config = {"trainer": trainer, "buffer": {"ctx_len": 128, "io": "out"}}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "ae.pt")
    return Foreign(folder, encode, lambda f: f @ D + c, f"blocks.{layer}.hook_resid_post")


def sparsify(
    folder: Path, *, model: str | None = "gpt2", hook_name: str = "", seed: int = 0, **extra: Any
) -> Foreign:
    """cfg.json and sae.safetensors in a folder named after its module, config.json above it."""
    it = weights(seed)
    W, D, b, c = (it[name] for name in "WDbc")
    folder.mkdir(parents=True, exist_ok=True)
    cfg: dict[str, Any] = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True}
    cfg |= {"num_latents": D_SAE, "k": K, "multi_topk": True, "skip_connection": False}
    cfg |= {"transcode": False, "d_in": D_IN, **extra}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    tensors = {"encoder.weight": W, "encoder.bias": b, "W_dec": D, "b_dec": c}
    save_file(tensors, folder / "sae.safetensors")
    if model is not None:
        run = {"model": model, "dataset": "some/text", "ctx_len": 2048}
        (folder.parent / "config.json").write_text(json.dumps(run))
    return Foreign(
        folder,
        lambda x: top_k(torch.relu((x - c) @ W.T + b)),
        lambda f: f @ D + c,
        hook_name,
    )


def gemma_scope(folder: Path, *, hook_name: str = "", compressed: bool = False) -> Foreign:
    """params.npz as Google publishes them."""
    it = weights(3)
    W, D, b, c, t = (it[name] for name in "WDbct")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"w_enc": W.T, "w_dec": D, "b_enc": b, "b_dec": c, "threshold": t}
    save = np.savez_compressed if compressed else np.savez
    save(folder / "params.npz", **{name: value.numpy() for name, value in arrays.items()})
    return Foreign(folder, _jump(W, b, t), lambda f: f @ D + c, hook_name)


def gemma_scope_2(folder: Path, *, hook_name: str = "", **config: Any) -> Foreign:
    """config.json and params.safetensors as Google publishes them."""
    it = weights(4)
    W, D, b, c, t = (it[name] for name in "WDbct")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architecture": "jump_relu", **config}))
    tensors = {"w_enc": W.T.contiguous(), "w_dec": D, "b_enc": b, "b_dec": c, "threshold": t}
    save_file(tensors, folder / "params.safetensors")
    return Foreign(folder, _jump(W, b, t), lambda f: f @ D + c, hook_name)


def hook_z(path: Path, *, hook_name: str = "blocks.1.attn.hook_z", **extra: Any) -> Foreign:
    """NAME.pt and NAME_cfg.json as those of gpt2-small-hook-z-kk."""
    it = weights(5)
    W, D, b, c = (it[name] for name in "WDbc")
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg = {"act_name": hook_name, "act_size": D_IN, "dict_size": D_SAE, "model_name": "gpt2-small"}
    config = path.with_name(path.name.removesuffix(".pt") + "_cfg.json")
    config.write_text(json.dumps({**cfg, **extra}))
    tensors = {"W_enc": W.T.contiguous(), "W_dec": D, "b_enc": b, "b_dec": c}
    torch.save(tensors, path)
    return Foreign(path, lambda x: torch.relu((x - c) @ W.T + b), lambda f: f @ D + c, hook_name)


def _jump(W: Tensor, b: Tensor, t: Tensor) -> Step:
    def encode(x: Tensor) -> Tensor:
        pre = x @ W.T + b
        return torch.relu(pre) * (pre > t)

    return encode
