"""Latent-to-latent gradients on GPT-2-small shapes: plain `jacrev`, or `core.gradients`.

`python -m benchmarks.gradients 43` compares time and peak memory on a prompt of 43 tokens, each
side in a fresh process; with `--ours` only ours runs, for prompts the plain way cannot hold.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache

import torch
from sae_lens import SAE, HookedSAETransformer
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from torch import Tensor
from transformer_lens import HookedTransformerConfig

from benchmarks.table import Row, print_table
from core.gradients import latent_to_latent_gradients
from core.saes import decode, encode
from core.settings import REPOSITORY

ACTIVE, D_SAE, D_MODEL = 25, 24576, 768
SIDES = ("plain", "ours")


@cache
def setting() -> tuple[HookedSAETransformer, SAE, SAE]:
    """Three layers with random weights of real size, and two SAEs around them."""
    torch.manual_seed(0)
    config = HookedTransformerConfig(
        n_layers=4,
        d_model=D_MODEL,
        n_heads=12,
        d_head=64,
        d_mlp=3072,
        n_ctx=128,
        d_vocab=1000,
        act_fn="gelu_new",
        normalization_type="LNPre",
        seed=0,
    )
    model = HookedSAETransformer(config).eval().requires_grad_(False)
    first, second = (_sae(f"blocks.{layer}.hook_resid_pre") for layer in (0, 3))
    return model, first, second


def prompt(n_tokens: int) -> Tensor:
    """Random tokens [1, n_tokens]."""
    return torch.randint(0, 1000, (1, n_tokens), generator=torch.Generator().manual_seed(0))


def plain(tokens: Tensor) -> Tensor:
    """The definition: decode, the layers, encode, and `jacrev` over the active latents."""
    model, first, second = setting()
    with torch.no_grad():
        start = model(tokens, stop_at_layer=0)
        acts = encode(first, start)
    mask = acts > 0

    def later(values: Tensor) -> Tensor:
        dense = torch.zeros_like(acts).index_put(mask.nonzero(as_tuple=True), values)
        stream = model(decode(first, dense), start_at_layer=0, stop_at_layer=3)
        latents = encode(second, stream)
        return latents[latents > 0]

    return torch.func.jacrev(later)(acts[mask])


def ours(tokens: Tensor) -> Tensor:
    """The same matrix."""
    model, first, second = setting()
    return latent_to_latent_gradients(tokens, first, second, model)[0]


def print_gradients() -> None:
    """The table of times; memory needs fresh processes, see above."""
    print_table([_row(n_tokens) for n_tokens in (9, 16)])


def _row(n_tokens: int) -> Row:
    tokens = prompt(n_tokens)
    return Row(
        f"Gradients between latents, {n_tokens} tokens, 3 layers of GPT-2 small's size: `jacrev` "
        "/ `core.gradients`",
        lambda: plain(tokens),
        lambda: ours(tokens),
        repeats=2,
    )


def _sae(hook_name: str) -> SAE:
    config = TopKSAEConfig(
        d_in=D_MODEL, d_sae=D_SAE, k=ACTIVE, metadata=SAEMetadata(hook_name=hook_name)
    )
    return TopKSAE(config).eval().requires_grad_(False)


def _measure(side: str, n_tokens: int) -> dict[str, float]:
    """Seconds, and peak bytes beyond those of the loaded model, in this process."""
    setting()
    work: Callable[[Tensor], Tensor] = plain if side == "plain" else ours
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    gradients = work(prompt(n_tokens))
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "bytes": (after - before) * 1024.0, "latents": len(gradients)}


def main() -> None:
    """Print both sides' time and memory for one length of prompt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n_tokens", type=int)
    parser.add_argument("--ours", action="store_true", help="leave the plain way out")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    write = sys.stdout.write
    if options.side:
        write(json.dumps(_measure(options.side, options.n_tokens)))
        return
    for side in SIDES[1:] if options.ours else SIDES:
        command = [sys.executable, "-m", "benchmarks.gradients", str(options.n_tokens)]
        found = subprocess.run(
            [*command, "--side", side], check=True, capture_output=True, cwd=REPOSITORY, text=True
        )
        result = json.loads(found.stdout)
        write(
            f"{side}: {result['seconds']:.1f} s, {result['bytes'] / 2**20:,.0f} MiB more, "
            f"{result['latents']:.0f} later latents\n"
        )


if __name__ == "__main__":
    main()
