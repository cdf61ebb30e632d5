"""Twenty latents of the demo chosen by what they are, and what their dossiers say of them.

`python -m benchmarks.dossiers` prints, for each, why it was chosen and the conclusion; what a
reader of all pages says of them stands beside it in `docs/dossiers.md`. They are chosen from the
index and the firings alone, by none of the dossier's own rules.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.absorption.run import AbsorptionRequest, run_absorption
from core.autointerp.controls import control_sae
from core.catalog import Catalog
from core.corpus import docs_sample
from core.dossier.conclude import Conclusion, conclude
from core.dossier.controls import StandInLease
from core.dossier.plan import request_for
from core.dossier.request import DossierRequest
from core.dossier.result import Dossier
from core.dossier.run import run_dossiers
from core.dossier.shared import LeaseOf, Shared
from core.engine import Engine
from core.settings import Settings
from core.splitting.decoders import decoders
from core.splitting.relatives import cosine_relatives
from core.store import Store
from core.view.choices import read_choices

LAYER, LATE = "blocks.2.hook_resid_pre", "blocks.3.hook_resid_pre"
WIDE = "blocks.2.hook_resid_pre_2048"
RELEASE, FAMILY = "docs-small-res", "docs-small-res-splitting"
_SURE = 0.95


@dataclass(frozen=True)
class Chosen:
    """A latent, and why it was chosen."""

    sae: str
    """Id of its SAE; `random directions` for those in place of latents."""
    latent: int
    """Its number."""
    kind: str
    """What it was chosen as."""
    fact: str
    """The figure by which."""


@dataclass(frozen=True)
class Seen:
    """What of the latents of an SAE the choice rests on."""

    count: np.ndarray
    """Firings of each on the text."""
    tops: np.ndarray
    """Tokens of their strongest examples, as texts; empty where there is none."""
    rate: np.ndarray
    """Share of positions."""
    early: np.ndarray
    """Of each, the share of its firings at the first four tokens of a row."""
    repeated: np.ndarray
    """… where a pair of tokens stood in the row before."""
    prompt: np.ndarray
    """… on a line that begins with `>>>`."""
    weak: np.ndarray
    """Share of the weak examples on a token of the strong ones."""

    @property
    def purity(self) -> np.ndarray:
        """Share of the strongest examples on the commonest token."""
        return np.array([_commonest(row)[1] for row in self.tops])


def seen(shared: Shared) -> Seen:
    """The facts, from the index and from firings on a part of its text."""
    units = shared.own
    whole, tokens, vocabulary = units.whole, units.index.token_set, units.index.vocabulary
    flat = tokens.tokens.ravel()
    tops = np.where(whole.top_places >= 0, vocabulary.array[flat[whole.top_places]], "")
    weak_places = whole.band_places[:, :5].reshape(whole.n_latents, -1)
    weak = np.where(weak_places >= 0, vocabulary.array[flat[weak_places]], "")
    same = [
        np.isin(few[few != ""], some).mean() if (few != "").any() else np.nan
        for few, some in zip(weak, tops, strict=True)
    ]
    firings = units.sample.firings
    row, position = np.divmod(firings.places.astype(np.int64), firings.context)
    texts = vocabulary.array[firings.tokens]
    pairs: dict[tuple[int, str, str], int] = {}
    repeated, prompt = (np.zeros(len(row), bool) for _ in range(2))
    inside = False
    for i in range(len(row)):
        new = i == 0 or row[i] != row[i - 1]
        pair = (int(row[i]), "" if new else str(texts[i - 1]), str(texts[i]))
        repeated[i] = not new and pair in pairs
        pairs[pair] = i
        if new or "\n" in str(texts[i]):
            inside = False
        inside = inside or ">>>" in str(texts[i])
        prompt[i] = inside
    fires = (firings.latents > 0).astype(np.float64)
    n = np.maximum(1, np.asarray(fires.sum(0)).ravel())

    def among(where: np.ndarray) -> np.ndarray:
        return np.asarray(fires.T @ where.astype(np.float64)).ravel() / n

    first = position - int(units.sample.tokens.leading(0))
    return Seen(
        whole.count,
        tops,
        units.rates,
        among(first < 4),
        among(repeated),
        among(prompt),
        np.array(same),
    )


def choose(shared_of: Callable[[str], Shared]) -> list[Chosen]:
    """The twenty, seventeen latents and three random directions."""
    rng = np.random.default_rng(20)
    found: list[Chosen] = []

    def add(sae: str, latents: Iterable[int], kind: str, fact: Callable[[int], str]) -> None:
        found.extend(Chosen(sae, int(it), kind, fact(int(it))) for it in latents)

    it = seen(shared_of(LAYER))
    often = it.count >= 100
    tokens = [_commonest(row)[0] for row in it.tops]
    word = np.array([text.strip(" ").isalpha() and len(text.strip()) > 3 for text in tokens])
    sign = np.array([bool(text.strip()) and not any(map(str.isalnum, text)) for text in tokens])
    pure = often & (it.purity >= _SURE)
    one = rng.choice(_most(it.weak, pure & word, 40), 3, replace=False)
    add(LAYER, one, "one word", lambda n: f"{it.purity[n]:.0%} of its peaks on “{tokens[n]}”")
    two = _most(-it.weak, pure & word, 1)
    add(LAYER, two, "two-faced", lambda n: f"“{tokens[n]}”; weak peaks on it {it.weak[n]:.0%}")
    signs = _most(it.purity, often & sign, 1)
    add(LAYER, signs, "punctuation", lambda n: f"{it.purity[n]:.0%} of its peaks on “{tokens[n]}”")
    add(LAYER, _most(it.early, often, 1), "positional", lambda n: f"{it.early[n]:.0%} early")
    add(LAYER, _most(it.rate, often, 2), "dense", lambda n: f"at {it.rate[n]:.1%} of positions")
    dead = np.flatnonzero(it.count == 0)[:1]
    add(LAYER, dead, "dead", lambda n: "no firing")
    rare = _most(-it.count, it.count > 2, 1)
    add(LAYER, rare, "rare", lambda n: f"{it.count[n]} firings")

    late = seen(shared_of(LATE))
    mixed = (late.count >= 100) & (late.purity < 0.4)
    pairs, code = late.repeated, late.prompt
    add(LATE, _most(pairs, mixed, 2), "induction", lambda n: f"{pairs[n]:.0%} at repeated pairs")
    add(LATE, _most(code, mixed, 1), "code", lambda n: f"{code[n]:.0%} on lines with >>>")

    wide = shared_of(WIDE)
    for kind, some in (
        ("absorbed parent", _absorbed_parents(wide)[:2]),
        ("split child", _split_children(wide, rng)[:2]),
    ):
        found += [Chosen(WIDE, latent, kind, fact) for latent, fact in some]
    add("random directions", [10, 20, 30], "random direction", lambda n: "drawn at random")
    return found


def _commonest(row: np.ndarray) -> tuple[str, float]:
    some = row[row != ""]
    if not len(some):
        return "", 0.0
    texts, counts = np.unique(some, return_counts=True)
    return str(texts[counts.argmax()]), float(counts.max() / len(some))


def _most(values: np.ndarray, among: np.ndarray, n: int) -> np.ndarray:
    return np.argsort(-np.where(among & np.isfinite(values), values, -np.inf), kind="stable")[:n]


def _absorbed_parents(shared: Shared) -> list[tuple[int, str]]:
    request = shared.request
    wanted = AbsorptionRequest(request.model, (request.sae,), request.corpus, 40_000)
    (found,) = run_absorption(shared.lease, shared.store, wanted)
    results = sorted(found.represented, key=lambda it: -it.full.value)
    some = [it for it in results if it.n_hits >= 100 and it.sparse_f1[0] >= 0.4]
    return [
        (it.mains[0], f"{it.full.value:.0%} of “{it.name}” carried by another latent")
        for it in some
        if it.mains
    ]


def _split_children(shared: Shared, rng: np.random.Generator) -> list[tuple[int, str]]:
    request = shared.request
    names = request.family_names
    with shared.lease_of(request.model, names).turn() as (_, saes):
        family = decoders({name: sae.W_dec for (_, name), sae in zip(names, saes, strict=True)})
    often, found = np.flatnonzero(shared.own.whole.count >= 100), []
    for latent in rng.permutation(often)[:200]:
        kin = cosine_relatives(family, request.sae[1], int(latent))
        parents = kin[(kin["relation"] == "parent") & (kin["cosine"] > 0.8)]
        if len(parents) == 0:
            continue
        last = parents.iloc[-1]
        others = cosine_relatives(family, str(last["sae"]), int(last["latent_idx"]))
        same = others[(others["relation"] == "child") & (others["sae"] == request.sae[1])]
        if len(same) > 1:
            words = f"of {last['latent_idx']} in {last['sae_width']:,}, with {len(same)} children"
            found.append((int(latent), words))
        if len(found) == 2:
            break
    return found


class _Leases:
    """Leases of the engine, and of random directions in place of an SAE's latents."""

    def __init__(self, lease_of: LeaseOf, common: Shared) -> None:
        self._lease_of = lease_of
        with common.lease.turn() as (model, (sae, *_)):
            peers = common.peers.tolist()
            self._sae, _ = control_sae(
                "random directions", model, sae, peers, common.own.index.token_set, seed=5
            )

    def __call__(self, model: str, names: Sequence[tuple[str, str]]) -> Any:
        real = [name for name in names if name[1] != "random directions"]
        lease = self._lease_of(model, real or [(RELEASE, LAYER)])
        return StandInLease(lease, self._sae) if len(real) < len(names) else lease


def main() -> int:
    """Choose, make all dossiers, print; the folder given gets what a reader needs to judge."""
    settings = Settings.from_environment()
    catalog, store = Catalog(settings), Store(settings.cache_dir)
    engine, choices = Engine(catalog, device=settings.device, store=store), None
    choices = read_choices(catalog, hub=False)
    made: dict[str, Shared] = {}

    def request(sae: str, latent: int = 0) -> DossierRequest:
        entry = catalog.entry(FAMILY if sae == WIDE else RELEASE, sae)
        return request_for(catalog, choices, entry, latent, docs_sample())

    def shared_of(sae: str) -> Shared:
        if sae not in made:
            made[sae] = Shared(engine.lease, store, request(sae))
        return made[sae]

    rows: list[dict[str, Any]] = []
    chosen = choose(shared_of)
    for sae in dict.fromkeys(it.sae for it in chosen):
        some = [it for it in chosen if it.sae == sae]
        if sae == "random directions":
            lease_of: LeaseOf = _Leases(engine.lease, shared_of(LAYER))
            plain = request(LAYER)
            stand_in = (RELEASE, sae, "1")
            usual = replace(plain, sae=stand_in, family=(), before=None, after=None, speaker="")
            requests = [usual.of(it.latent) for it in some]
        else:
            lease_of, requests = engine.lease, [request(sae, it.latent) for it in some]
        began = time.process_time()
        for it, dossier in zip(some, run_dossiers(lease_of, store, requests), strict=True):
            rows.append(_row(it, dossier, conclude(dossier)))
        seconds = (time.process_time() - began) / len(some)
        sys.stderr.write(f"{sae}: {len(some)} latents, {seconds:.1f} CPU seconds each\n")
    for row in rows:
        sys.stdout.write(
            f"{row['sae']} {row['latent']} | {row['kind']}: {row['fact']} | {row['conclusion']}, "
            f"{row['sure']} | {row['name']} | {'; '.join(row['sorts'])} | {row['lines']}\n"
        )
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    return 0


def _row(it: Chosen, dossier: Dossier, end: Conclusion) -> dict[str, Any]:
    tops = () if dossier.reads is None else dossier.reads.top[:12]
    return {
        **vars(it),
        "conclusion": end.kind,
        "sure": end.sure,
        "name": end.name,
        "sentence": end.sentence,
        "sorts": end.sorts,
        "warnings": end.warnings,
        "lines": " ".join(
            {"agrees": "+", "disagrees": "−", "silent": ""}[line.stand] + line.name
            for line in end.lines
            if line.stand != "silent"
        ),
        "why": {line.name: f"{line.stand}: {line.why}" for line in end.lines},
        "tops": ["".join(row.tokens[: (row.peak or 0) + 4]) for row in tops],
        "not_run": dict(dossier.not_run),
    }


if __name__ == "__main__":
    sys.exit(main())
