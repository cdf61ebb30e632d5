"""Patch scoping on the demo against ARENA's loop: a sweep of one latent, and a batch of latents.

`python -m benchmarks patch_scoping` prints times; how well latents are read, and how well the
verdict tells them from random directions, is in `benchmarks.quality`.
"""

import sys
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from sae_lens import SAE

from benchmarks.table import DEVICE, described_device, seconds_of
from core.models import Model, hooks_at, load_model
from core.patch_scoping import hook_fn_patch_scoping
from core.patch_scoping.generation import complete
from core.patch_scoping.injection import Injection, typical_norm, unit_directions
from core.patch_scoping.prompt import template_prompt
from core.patch_scoping.sweep import SweepConfig, sweep
from core.saes import load_sae_from_disk
from core.settings import REPOSITORY

DEMO = REPOSITORY / "demo"
SCALES, TOKENS, LATENTS, MEASURED, LAYER = 12, 50, 100, 5, 2
MULTIPLES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


@cache
def setting() -> tuple[Model, SAE]:
    """The demo's tuned model and an SAE of its base model."""
    folder = DEMO / "saes/docs-small-res/blocks.2.hook_resid_pre"
    sae = load_sae_from_disk(folder, device=DEVICE)
    return load_model(DEMO / "models/docs-small-it", device=DEVICE), sae


def _rows(latents: Sequence[int], multiples: Sequence[float]) -> list[Injection]:
    model, sae = setting()
    prompt = template_prompt(model, "definition")
    norm = typical_norm(model, prompt, LAYER)
    return [
        Injection(prompt, LAYER, direction * norm * multiple)
        for direction in unit_directions(model, sae, latents)
        for multiple in multiples
    ]


def _vector(row: Injection) -> torch.Tensor:
    if row.vector is None:
        raise ValueError("The row injects nothing; give it a vector.")
    return row.vector


def arena_loop(rows: Sequence[Injection]) -> list[list[int]]:
    """One text after the other: ARENA's hook in the library's own generation loop."""
    model, _ = setting()
    found: list[list[int]] = []
    for row in rows:
        places = list(row.prompt.positions)
        hook = partial(hook_fn_patch_scoping, seq_pos=places, latent_vector=_vector(row))
        tokens = torch.tensor([row.prompt.tokens], device=DEVICE)
        with hooks_at(model, [(f"blocks.{LAYER}.hook_resid_pre", hook)]):
            out: Any = model.generate(
                tokens,
                max_new_tokens=TOKENS,
                do_sample=False,
                verbose=False,
            )
        found.append(out[0, tokens.shape[1] :].tolist())
    return found


def batched(rows: Sequence[Injection]) -> list[list[int]]:
    """The same texts as one batch, run to the end as the loop's are."""
    model, _ = setting()
    return [list(one.tokens) for [one] in complete(model, rows, max_new_tokens=TOKENS, stop=None)]


def same_texts(plain: list[list[int]], ours: list[list[int]]) -> bool:
    """Whether both ways write the same, up to where a text ends."""
    return all(a[: len(b)] == b for a, b in zip(plain, ours, strict=True))


def print_patch_scoping() -> None:
    """The table of times."""
    sys.stdout.write(f"On {described_device(DEVICE)}:\n\n")
    sys.stdout.write("| what | plain | ours | ratio |\n|---|---|---|---|\n")
    one = _rows([7], [0.25 + 0.25 * i for i in range(SCALES)])
    _row(f"{SCALES} scales × {TOKENS} tokens: loop / batch", one, one, repeats=3)
    many = _rows(range(LATENTS), MULTIPLES)
    part = many[: MEASURED * len(MULTIPLES)]
    _row(
        f"{LATENTS} latents × {len(MULTIPLES)} scales × {TOKENS} tokens: loop ({MEASURED} latents "
        f"measured, times {LATENTS // MEASURED}) / one task",
        part,
        many,
        repeats=1,
    )
    config = SweepConfig(layers=(LAYER,), multiples=MULTIPLES, max_new_tokens=TOKENS, n_controls=0)
    model, sae = setting()
    prompts = {"definition": template_prompt(model, "definition")}
    seconds = seconds_of(lambda: sweep(model, sae, range(LATENTS), prompts, config))
    sys.stdout.write(
        f"\nThe same {LATENTS} latents as the page runs them, texts ended at the quotation mark, "
        f"with their measures: {seconds:.1f} s.\n"
    )


def _row(claim: str, part: list[Injection], whole: list[Injection], *, repeats: int) -> None:
    """The loop over `part`, extrapolated, against `whole` at once; the best of `repeats` each."""
    verdict = "same texts" if same_texts(arena_loop(part), batched(part)) else "TEXTS DIFFER"
    plain, ours = zip(
        *(
            (seconds_of(lambda: arena_loop(part)), seconds_of(lambda: batched(whole)))
            for _ in range(repeats)
        ),
        strict=True,
    )
    loop, batch = min(plain) * len(whole) / len(part), min(ours)
    sys.stdout.write(
        f"| Patch scoping, {claim}, {verdict} | {loop:.2f} s | {batch:.2f} s | "
        f"{loop / batch:.1f}× |\n"
    )
    sys.stdout.flush()
