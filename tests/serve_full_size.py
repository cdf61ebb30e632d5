"""The app beside a loopback hub that serves GPT-2 and its feature-splitting SAEs at full size.

    python -m tests.serve_full_size FOLDER [--tokenizer DIR] [streamlit options]

The weights are random, the shapes, names and configs those of the hub: GPT-2 small (548 MB) and
eight SAEs at layer 8 (768 to 98,304 latents). Each latent of a wider SAE is drawn around one of
the next narrower, so that a map has something to show. `--tokenizer` is a folder with GPT-2's
`encoder.json` and `vocab.bpe`; without it the tokens are those of a tiny vocabulary. For looking at
pages; no test needs it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from tests.builders import train_tiny_tokenizer
from tests.hub_contents import SPLITTING_REPO
from tests.loopback_hub import LoopbackHub, loopback_hub

D_MODEL, VOCAB = 768, 50_257
WIDTHS = tuple(768 * 2**power for power in range(8))
REPOSITORY = Path(__file__).resolve().parent.parent


def fill(hub: LoopbackHub, tokenizer_dir: Path | None, folder: Path) -> None:
    """Put the full-size contents under the names of the real repositories."""
    model_dir = folder / "gpt2"
    if not (model_dir / "model.safetensors").exists():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config()).save_pretrained(model_dir)
        if tokenizer_dir is None:
            tokenizer = train_tiny_tokenizer()
        else:
            vocabulary, merges = tokenizer_dir / "encoder.json", tokenizer_dir / "vocab.bpe"
            tokenizer = GPT2Tokenizer(str(vocabulary), str(merges))
        tokenizer.save_pretrained(model_dir)
        config = model_dir / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "n_ctx": 1024}))
    hub.repos["gpt2"] = {path.name: path.read_bytes() for path in model_dir.iterdir()}
    hub.repos[SPLITTING_REPO] = dict(_family())


def _family() -> Iterator[tuple[str, bytes]]:
    generator = torch.Generator().manual_seed(1)
    parents = torch.zeros(1, D_MODEL)
    for width in WIDTHS:
        noise = torch.randn(width, D_MODEL, generator=generator) / D_MODEL**0.5
        chosen = torch.randint(0, len(parents), (width,), generator=generator)
        directions = torch.nn.functional.normalize(parents[chosen] + noise, dim=-1)
        parents = directions
        tensors = {
            "W_enc": directions.T.contiguous(),
            "W_dec": directions,
            "b_enc": torch.full((width,), -0.05),
            "b_dec": torch.zeros(D_MODEL),
            "scaling_factor": torch.ones(width),
        }
        config = {
            "model_name": "gpt2-small",
            "hook_point": "blocks.8.hook_resid_pre",
            "hook_point_layer": 8,
            "hook_point_head_index": None,
            "dataset_path": "Skylion007/openwebtext",
            "is_dataset_tokenized": False,
            "context_size": 128,
            "d_in": D_MODEL,
            "d_sae": width,
            "device": "mps",
            "dtype": "torch.float32",
        }
        path = f"blocks.8.hook_resid_pre_{width}"
        yield f"{path}/cfg.json", json.dumps(config).encode()
        yield f"{path}/sae_weights.safetensors", save(tensors)
        yield (
            f"{path}/sparsity.safetensors",
            save({"sparsity": torch.randn(width, generator=generator) - 3}),
        )


def main() -> None:
    """Serve both until the app ends."""
    folder, options = Path(sys.argv[1]), sys.argv[2:]
    tokenizer_dir = None
    if options[:1] == ["--tokenizer"]:
        tokenizer_dir, options = Path(options[1]), options[2:]
    folder.mkdir(parents=True, exist_ok=True)
    with loopback_hub() as hub:
        fill(hub, tokenizer_dir, folder)
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_OFFLINE": "0",
            "SAE_EXPLORER_CACHE": str(folder / "cache"),
        }
        command = [sys.executable, "-m", "streamlit", "run", "app.py", *options]
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=False)


if __name__ == "__main__":
    main()
