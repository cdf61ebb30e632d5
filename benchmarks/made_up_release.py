"""A made-up release of four layers x 65,536 latents on the demo's model, from a shell, end to end.

    python -m benchmarks.made_up_release FOLDER [write] [index] [search] [map] [same] [ray]

`write` makes SAEs in FOLDER, as sae_lens does: release `made-up`, one SAE before each layer of the
demo's model, and `made-up-site`, four before layer 2, which a map shows together. Each is a TopK
SAE with the demo's latents of that place planted among random directions in known groups
(`benchmarks.million_rows`). `index` and `map` run `python -m core.run` and print what it says
beforehand and what it took, the memory of all its processes among it. Both are killed (SIGKILL) on
the way and go on. `search` looks for tokens, a pattern and planted latents in every firing, and
holds what the planted ones do against the demo's own SAEs. `same` makes the index of one of the
four alone, and the map once more, in another store, undisturbed, and compares what was kept, bit
by bit. `ray` reads a fifth of the text with all four in one process and with two workers, and
compares likewise. Without words, all but `ray`, which requirements-ray.txt is needed for.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from sae_lens import SAE
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

from benchmarks.made_up_kept import environment, index_digests, machine, map_digests, unlike
from benchmarks.million_rows import planted_million
from benchmarks.splitting import Watch
from core.firings.kept import Kept, kept_firings
from core.firings.places import places_of_regex, places_of_tokens, tokens_named
from core.firings.search import firing_at, places_of_latent, ranked
from core.firings.shard import read_shard
from core.settings import REPOSITORY
from core.tokens import vocabulary_texts

LAYERS, LATENTS, TOKENS = 4, 65_536, 100_000
DEMO = REPOSITORY / "demo" / "saes" / "docs-small-res"
INDEX = ("index", "--release", "made-up", "--tokens", str(TOKENS), "--firings", "--yes")
OWN = ("index", "--release", "docs-small-res", "--tokens", str(TOKENS), "--firings", "--yes")
FEWER = (*INDEX[:4], str(TOKENS // 5), *INDEX[5:])
ON_RAY = (*FEWER, "--ray", "--workers", "2", "--threads", "1")
ALONE = (*INDEX[:3], "--sae", "blocks.2.hook_resid_pre", *INDEX[3:])
ON_MAP = tuple(f"seed_{number}" for number in range(LAYERS))
MAP = ("map", "--release", "made-up-site", "--sae", *ON_MAP, "--clusters", "--yes")
_ACTIVATIONS, _FOUND = 1e-4, 0.9999
"""Activations that differ by less are the same, and so many of them have to be there."""


def planted(n_own: int, seed: int) -> np.ndarray:
    """Where the demo's latents stand in an SAE of that seed: the place of each."""
    return np.random.default_rng(seed).permutation(LATENTS)[:n_own]


@torch.no_grad()
def write(folder: Path) -> None:
    """Both releases."""
    for number in range(LAYERS):
        hook = f"blocks.{number}.hook_resid_pre"
        _write(DEMO / hook, folder / "made-up" / hook, seed=number)
        own = DEMO / "blocks.2.hook_resid_pre"
        _write(own, folder / "made-up-site" / ON_MAP[number], seed=LAYERS + number)


def _write(own: Path, target: Path, *, seed: int) -> None:
    known = SAE.load_from_disk(own)
    d_in, k = known.cfg.d_in, known.cfg.k
    config = TopKSAEConfig(
        d_in=d_in,
        d_sae=LATENTS,
        k=k,
        rescale_acts_by_decoder_norm=True,
        apply_b_dec_to_input=known.cfg.apply_b_dec_to_input,
        metadata=known.cfg.metadata,
    )
    sae, place = TopKSAE(config), torch.as_tensor(planted(known.cfg.d_sae, seed))
    rows, _ = planted_million(LATENTS, d_in, seed=seed)
    sae.W_dec.copy_(rows)
    sae.W_enc.copy_(rows.T)
    sae.b_enc.zero_()
    sae.b_dec.copy_(known.b_dec)
    sae.W_dec[place], sae.W_enc[:, place] = known.W_dec, known.W_enc
    sae.b_enc[place] = known.b_enc
    sae.save_model(target)


def run(
    folder: Path, cache: str, words: tuple[str, ...], *, kill: Callable[[str], bool] | None = None
) -> None:
    """`python -m core.run` in a process of its own; killed once `kill` says so of its messages."""
    log = folder / f"messages-{cache}-{words[0]}.txt"
    command = [sys.executable, "-m", "core.run", *words]
    _say(f"$ {' '.join(command[1:])}")
    began = time.monotonic()
    with log.open("w") as messages:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment(folder, cache)},
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        )
        watch = Watch(process.pid)
        watch.note("begin")
        killed = False
        while kill is not None and process.poll() is None and not killed:
            time.sleep(0.1)
            killed = kill(log.read_text())
        if killed:
            process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        watch.note("end")
    took = time.monotonic() - began
    _say(said.rstrip())
    how = "killed after" if killed else f"ended ({process.returncode}) after"
    _say(f"-> {how} {took:.0f} s, all its processes {watch.peak / 1e9:.2f} GB at most\n")
    if process.returncode and not killed:
        raise RuntimeError(log.read_text()[-2000:])


def search(folder: Path) -> None:
    """Tokens, a pattern and planted latents, over all SAEs whose firings were kept."""
    run(folder, "cache", OWN)
    here = machine(folder, "cache")
    kept = kept_firings(here.store.directory)
    made_up = [one for one in kept if one.about.sae[0] == "made-up"]
    own = {one.about.sae[1]: one for one in kept if one.about.sae[0] == "docs-small-res"}
    lease = here.engine.lease("docs-small", [])
    with lease.turn() as (model, _):
        texts = vocabulary_texts(model)
    token_set = made_up[0].token_set
    n = sum(int(one.totals.count.sum()) for one in made_up)
    _say(f"{n:,} firings of {len(made_up)} SAEs, {sum(it.n_bytes for it in made_up) / 1e6:.0f} MB")
    ways: dict[str, Callable[[], np.ndarray]] = {
        "tokens: array": lambda: places_of_tokens(token_set, tokens_named(texts, "array")),
        "pattern: numpy\\.\\w+": lambda: places_of_regex(token_set, texts, r"numpy\.\w+"),
    }
    for name, mask in ways.items():
        began = time.monotonic()
        places = mask()
        table = ranked(firing_at(made_up, [places] * len(made_up)), "specificity")
        took = time.monotonic() - began
        _say(f"{name}: {int(places.sum()):,} places, {len(table):,} latents in {took:.2f} s")
    _of_planted(made_up, own)
    here.close()


def _of_planted(made_up: list[Kept], own: dict[str, Kept]) -> None:
    """What planted latents do, held against the demo's own SAEs on the same text."""
    for seed, one in enumerate(made_up):
        other = own[one.about.sae[1]]
        number_of = np.full(LATENTS, -1)
        number_of[planted(other.about.d_sae, seed)] = np.arange(other.about.d_sae)
        place, latent, value = _firings(one)
        is_planted = number_of[latent] >= 0
        there = place[is_planted] * other.about.d_sae + number_of[latent[is_planted]]
        own_place, own_latent, own_value = _firings(other)
        known = own_place * other.about.d_sae + own_latent
        at = np.minimum(np.searchsorted(known, there), len(known) - 1)
        # A latent among the strongest of many is among the strongest of fewer, but for rounding.
        found = known[at] == there
        off = np.abs(own_value[at][found] - value[is_planted][found]).max()
        if off > _ACTIVATIONS or found.mean() < _FOUND:
            raise AssertionError(f"{one.sae}: {found.mean():.3%} are there, off by up to {off}")
        counts = np.where(number_of >= 0, one.totals.count, 0)
        chosen = int(counts.argmax())
        began = time.monotonic()
        masks = [places_of_latent(one, chosen)] * len(made_up)
        first = ranked(firing_at(made_up, masks), "specificity").iloc[0]
        took = time.monotonic() - began
        if (first["sae"], first["latent"], first["share"]) != (one.about.sae[1], chosen, 1.0):
            raise AssertionError(f"Where latent {chosen} fires, another one comes first: {first}")
        _say(
            f"{one.about.sae[1]}: of {len(there):,} firings of planted latents {found.mean():.4%} "
            f"are the demo's (off by up to {off:.1e}); what fires where one does: {took:.2f} s"
        )


def _firings(kept: Kept) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(place, latent, value)` of all firings, ascending by place and latent."""
    parts = [
        part
        for span in kept.spans
        for part in read_shard(kept.file(span), context=kept.about.context)
    ]
    place, latent, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return place, latent, value


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(folder: Path, wanted: list[str]) -> None:
    """Do what is wanted, in this order."""
    every = ("write", "index", "search", "map", "same")
    steps = wanted or every
    if "write" in steps:
        write(folder)
    files = re.compile(r"rows-.*\.parquet$")
    if "index" in steps:

        def some_file(_: str) -> bool:
            there = (folder / "cache").rglob("*.parquet")
            return sum(bool(files.search(str(it))) for it in there) >= LAYERS

        run(folder, "cache", INDEX, kill=some_file)
        run(folder, "cache", INDEX)
    if "search" in steps:
        search(folder)
    if "map" in steps:
        run(folder, "cache", MAP, kill=lambda messages: "Moving all latents" in messages)
        run(folder, "cache", MAP)
    if "same" in steps:
        stores = ("cache", "again")
        for words in (ALONE, MAP):
            run(folder, "again", words)
        kept = (index_digests(folder, it, ALONE) | map_digests(folder, it, MAP) for it in stores)
        _compare(*kept)
    if "ray" in steps:
        run(folder, "one", FEWER)
        run(folder, "two", ON_RAY)
        _compare(index_digests(folder, "one", FEWER), index_digests(folder, "two", FEWER))


def _compare(one: dict[str, str], other: dict[str, str]) -> None:
    _say(f"{len(one)} files and arrays are compared")
    if different := unlike(one, other):
        raise AssertionError(f"Not the same: {different}")
    _say("All are the same to the bit.")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]).absolute(), sys.argv[2:])
