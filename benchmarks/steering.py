"""Steering on the demo: batches against single rows, scores against a script, what scores buy.

`python -m benchmarks steering` prints times and then, at a KL divergence of 0.5 each, how much more
likely latents of high output score, of low output score and random directions make the tokens that
they push: on held-out text, and in texts that the model writes.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import SAE
from torch import Tensor

from benchmarks.table import DEVICE, described_device, seconds_of
from core.lease import PlainLease
from core.models import Model, hooks_at, load_model
from core.patch_scoping.sampling import Sampling
from core.saes import decode, encode, load_sae_from_disk
from core.saes.writes import residual_directions, unit_writes
from core.settings import REPOSITORY
from core.steering.changes import random_like
from core.steering.effects import held_out, reference_text
from core.steering.intervention import UNSTEERED, Intervention
from core.steering.last_position import LastPosition
from core.steering.measures import mean_interval
from core.steering.peaks import input_scores
from core.steering.prompt import SteerPrompt, steer_prompt
from core.steering.run import held_out_texts
from core.steering.scores import ScoreConfig, authors_scores, lens_tokens, output_scores
from core.steering.steerer import Steerer
from core.steering.strengths import solved
from core.steering.texts import share_of, steered_texts
from core.store import Store

DEMO = REPOSITORY / "demo"
LATENTS, STRENGTHS, TOKENS, MEASURED = 20, (1.0, 2.0, 4.0, 8.0, 12.0, 16.0), 50, 3
SCRIPTED = 30
N, KL = 50, 0.5
PROMPTS = ("Return the", "This function is", "The first argument", "Note that the", "If the")


@cache
def setting(sae_id: str = "docs-small-res/blocks.2.hook_resid_pre") -> tuple[Model, SAE]:
    """The demo's model and an SAE."""
    sae = load_sae_from_disk(DEMO / "saes" / sae_id, device=DEVICE)
    return load_model(DEMO / "models/docs-small", device=DEVICE), sae


def one_by_one(prompt: SteerPrompt, rows: Sequence[Intervention]) -> list[list[int]]:
    """A hook that adds, and the library's own generation loop, row after row."""
    model, sae = setting()
    found = []
    for row in rows:
        write = row.strengths[0] * sae.W_dec[row.latents[0]]
        seen = [0]

        def add(
            activations: Tensor, hook: Any, write: Tensor = write, seen: list[int] = seen
        ) -> Tensor:
            changed = activations.clone()
            changed[:, prompt.n_leading if seen[0] == 0 else 0 :] += write
            seen[0] += activations.shape[1]
            return changed

        with hooks_at(model, [(sae.cfg.metadata.hook_name, add)]):
            out: Any = model.generate(
                prompt.tensor(model), max_new_tokens=TOKENS, do_sample=False, verbose=False
            )
        found.append(out[0, len(prompt.tokens) :].tolist())
    return found


def batched(prompt: SteerPrompt, rows: Sequence[Intervention]) -> list[list[int]]:
    """The same texts as one batch."""
    found = steered_texts(*setting(), prompt, rows, max_new_tokens=TOKENS)
    return [list(one.tokens) for [one] in found]


def script(model: Model, sae: SAE, latents: Sequence[int], peaks: np.ndarray) -> None:
    """Both scores as the authors' script makes them: a run, a sort and its texts a latent."""
    prompt = steer_prompt(model, sae, ScoreConfig().prompts[0])
    tokens, site = prompt.tensor(model), sae.cfg.metadata.hook_name
    lens = lens_tokens(model, residual_directions(model, sae, latents)).tolist()
    for row, latent in enumerate(latents):

        def amplify(activations: Tensor, hook: Any, latent: int = latent) -> Tensor:
            acts = encode(sae, activations)
            error = activations - decode(sae, acts)
            acts[:, -1, latent] += 10 * acts[:, -1].max()
            return decode(sae, acts) + error

        with hooks_at(model, [(site, amplify)]), torch.no_grad():
            probs = model(tokens, return_type="logits")[0, -1].softmax(-1)
        order = torch.argsort(probs, descending=True)
        ranks = [int((order == token).nonzero()[0]) for token in lens[row]]
        _ = float(probs[lens[row]].max()) * (1 - min(ranks) / len(probs))
        _ = sum(token in lens[row] for token in peaks[row].tolist()) / len(peaks[row])


def authors_only(model: Model, sae: SAE, peaks: np.ndarray) -> None:
    """The same for all latents, hundreds in a run of one position."""
    config, everything = ScoreConfig(), range(int(sae.cfg.d_sae))
    prompt = LastPosition(model, sae, config.prompts[0])
    directions = residual_directions(model, sae, everything)
    _, tokens = authors_scores(prompt, unit_writes(sae, everything), directions, config)
    input_scores(peaks, tokens.cpu().numpy())


def print_steering() -> None:
    """The table of times, and what output scores buy."""
    sys.stdout.write(f"On {described_device(DEVICE)}:\n\n")
    sys.stdout.write("| what | plain | ours | ratio |\n|---|---|---|---|\n")
    model, sae = setting()
    prompt = steer_prompt(model, sae, PROMPTS[0], new_tokens=TOKENS)
    rows = [Intervention((i,), (s,)) for i in range(LATENTS) for s in STRENGTHS]
    part = rows[: MEASURED * len(STRENGTHS)]
    same = all(
        a[: len(b)] == b
        for a, b in zip(one_by_one(prompt, part), batched(prompt, part), strict=True)
    )
    _row(
        f"{LATENTS} latents × {len(STRENGTHS)} strengths × {TOKENS} tokens: one by one "
        f"({MEASURED} latents measured, times {LATENTS / MEASURED:.3g}) / one batch, "
        + ("same texts" if same else "TEXTS DIFFER"),
        lambda: one_by_one(prompt, part),
        lambda: batched(prompt, rows),
        len(rows) / len(part),
    )
    model, wide = setting("docs-small-res-splitting/blocks.2.hook_resid_pre_4096")
    peaks = np.zeros((4096, 20), dtype=np.int64)
    _row(
        f"Input and output scores of 4,096 latents, authors' setting: a run a latent ({SCRIPTED} "
        f"measured, times {4096 / SCRIPTED:.4g}) / batched",
        lambda: script(model, wide, range(SCRIPTED), peaks),
        lambda: authors_only(model, wide, peaks),
        4096 / SCRIPTED,
    )
    seconds = seconds_of(lambda: output_scores(model, wide))
    sys.stdout.write(
        f"\nWith the scores at equal KL, and 256 random directions in both settings: "
        f"{seconds:.1f} s.\n"
    )
    print_quality()


def _row(claim: str, plain: Callable[[], Any], ours: Callable[[], Any], factor: float) -> None:
    loop, batch = seconds_of(plain) * factor, seconds_of(ours)
    sys.stdout.write(f"| {claim} | {loop:.2f} s | {batch:.2f} s | {loop / batch:.1f}× |\n")
    sys.stdout.flush()


def print_quality() -> None:
    """Latents of high and low output score and random directions, at the same KL divergence."""
    sys.stdout.write(
        f"\n{N} directions a line, each at KL {KL}; means over directions with 95 % intervals.\n\n"
        "| SAE | which | probability of boosted tokens on held-out text, times unsteered | gain | "
        "boosted tokens among those written | rise of the loss |\n|---|---|---|---|---|---|\n"
    )
    for sae_id in ("blocks.2.hook_resid_pre", "blocks.3.hook_resid_post"):
        model, sae = setting(f"docs-small-res/{sae_id}")
        own, _ = output_scores(model, sae)
        order = np.argsort(np.where(np.isfinite(own.calibrated), own.calibrated, np.nan))
        known = order[: int(np.isfinite(own.calibrated).sum())]
        high, low = known[-N:].tolist(), known[:N].tolist()
        drawn = np.random.default_rng(0).choice(known, N, replace=False).tolist()
        lines = {
            "high output score": [Intervention((it,), (1.0,)) for it in high],
            "low output score": [Intervention((it,), (1.0,)) for it in low],
            "random directions": [
                Intervention((it,), (1.0,), random=seed + 1) for seed, it in enumerate(drawn)
            ],
        }
        for name, its in lines.items():
            ratio, gain, share, loss = quality(model, sae, its)
            sys.stdout.write(
                f"| {sae_id} | {name} | {_cell(ratio, 2)} | {_cell(gain, 4)} | {_cell(share, 3)} | "
                f"{_cell(loss, 3)} |\n"
            )
            sys.stdout.flush()


def quality(
    model: Model, sae: SAE, its: Sequence[Intervention]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each direction at `KL`: ratio and gain of the probability of its tokens on held-out text,
    their share in sampled texts, and the rise of the loss."""
    with tempfile.TemporaryDirectory() as folder:
        texts = held_out_texts(PlainLease(model, [sae]), Store(Path(folder))).to(DEVICE)
    prompt = steer_prompt(model, sae, PROMPTS[0], new_tokens=32)
    [[after]] = steered_texts(model, sae, prompt, [UNSTEERED], max_new_tokens=32)
    whole = torch.cat([prompt.tensor(model), torch.tensor([after.tokens], device=DEVICE)], 1)
    n, leading = len(prompt.tokens), prompt.n_leading
    reference = reference_text(model, whole, leading)
    factors = solved(model, sae, its, reference, KL, n_prompt=n, n_leading=leading)
    steered = [it.times(f) for it, f in zip(its, factors, strict=True) if np.isfinite(f)]
    tokens = torch.cat([_own_tokens(model, sae, it) for it in steered])
    rows = range(len(steered))
    hooked = Steerer(model, sae, steered, n_prompt=1, n_leading=leading)
    plain = Steerer(model, sae, [UNSTEERED] * len(steered), n_prompt=1)
    with_it = held_out(model, hooked, rows, texts, tokens)
    without = held_out(model, plain, rows, texts, tokens)
    boosted, before = with_it.boosted.mean(1).numpy(), without.boosted.mean(1).numpy()
    sampling = Sampling(temperature=1.0, n_samples=4, seed=0)
    shares = []
    for text in PROMPTS:
        start = steer_prompt(model, sae, text, new_tokens=20)
        written = steered_texts(model, sae, start, steered, max_new_tokens=20, sampling=sampling)
        own = [set(it.tolist()) for it in tokens]
        shares.append(
            [np.mean([share_of(it.tokens, own[i]) for it in row]) for i, row in enumerate(written)]
        )
    loss = (with_it.loss - without.loss).mean(1).numpy()
    return boosted / before, boosted - before, np.mean(shares, axis=0), loss


def _own_tokens(model: Model, sae: SAE, it: Intervention) -> Tensor:
    writes = unit_writes(sae, it.latents)
    if it.random is not None:
        return lens_tokens(model, random_like(writes, it.random))
    return lens_tokens(model, residual_directions(model, sae, it.latents))


def _cell(values: np.ndarray, digits: int) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
