"""The older model class, `HookedSAETransformer`, for what the bridge cannot do.

It also serves the tests as a second implementation. transformer_lens 4 removes it, and with it
this module goes.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from sae_lens import HookedSAETransformer
from transformer_lens import loading_from_pretrained
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.models.folder import read_json_object


def load_hooked_transformer(
    name: str, flags: dict[str, bool], *, device: str, dtype: torch.dtype
) -> HookedSAETransformer:
    """A `HookedSAETransformer` of a hub name or of a local folder (which must have been checked).

    Raises ValueError for an architecture of a folder that this class does not know.
    """
    folder = Path(name)
    if not folder.is_dir():
        return HookedSAETransformer.from_pretrained(name, device=device, dtype=dtype, **flags)
    hf_model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    # from_pretrained takes only the names it knows, so its steps are taken here one by one. They
    # read the config from a folder and guess the architecture from that folder's name, and
    # need n_ctx, which transformers 5 does not write: hence a copy under a neutral name.
    config = read_json_object(folder / "config.json")
    config.setdefault("n_ctx", config.get("n_positions", config.get("max_position_embeddings")))
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "config.json").write_text(json.dumps(config))
        try:
            cfg: Any = loading_from_pretrained.get_pretrained_model_config(
                scratch,
                hf_cfg=hf_model.config.to_dict(),
                fold_ln=flags["fold_ln"],
                device=device,
                dtype=dtype,
            )
        except NotImplementedError as error:
            raise ValueError(
                f"HookedSAETransformer cannot read {name}: {error} Use backend='bridge'."
            ) from error
        weights = loading_from_pretrained.get_pretrained_state_dict(
            scratch, cfg, hf_model, dtype=dtype
        )
    cfg.model_name = cfg.tokenizer_name = name
    model = HookedSAETransformer(cfg, AutoTokenizer.from_pretrained(folder), move_to_device=False)
    model.load_and_process_state_dict(weights, **flags)
    model.move_model_modules_to_device()
    return model
