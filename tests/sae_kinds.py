"""SAEs of every kind that sae_lens registers, and changes to what their configs say."""

import json
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.registry import SAE_CLASS_REGISTRY
from sae_lens.saes.sae import SAEMetadata

RESID, HEADS = "blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"
OPTIONS: dict[str, dict[str, Any]] = {
    "topk": {"k": 6},
    "abstopk": {"k": 6},
    "temporal": {"n_heads": 2, "bottleneck_factor": 16, "kval_topk": 6, "d_sae": 128},
    "matching_pursuit": {"max_iterations": 6},
}


def of_kind(architecture: str, hook_name: str = RESID, **options: Any) -> SAE:
    """An SAE of any architecture that sae_lens registers, with random weights."""
    sae_class, config_class = SAE_CLASS_REGISTRY[architecture]
    metadata = {"hook_name": hook_name, "model_name": "tiny-gpt2", "prepend_bos": True}
    given = {"d_in": 32, "d_sae": 64, **OPTIONS.get(architecture, {})}
    if "transcoder" in architecture:
        given |= {"d_out": 32, "apply_b_dec_to_input": False}
        metadata["hook_name_out"] = "blocks.1.hook_mlp_out"
    if hook_name.endswith("hook_z"):
        given["reshape_activations"] = "hook_z"
    metadata |= options.pop("metadata", {})
    sae = sae_class(config_class(**given | options, metadata=SAEMetadata(**metadata)))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sae.named_parameters():
        value = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
        parameter.data = value.abs() if name == "threshold" else value
    return sae.eval().requires_grad_(False)


IN_METADATA = ("hook_head_index", "hook_head_index_out", "model_from_pretrained_kwargs")


def edit(folder: Path, **entries: Any) -> None:
    """Change entries of a cfg.json, where sae_lens reads them; "-" takes one out."""
    path = folder / "cfg.json"
    config = json.loads(path.read_text())
    for name, value in entries.items():
        inside = config.get("metadata") if name in IN_METADATA else None
        there = config if inside is None else inside
        there.pop(name, None)
        if value != "-":
            there[name] = value
    path.write_text(json.dumps(config))
