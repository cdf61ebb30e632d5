"""What the page of steering shows, made under a lease and kept in the store.

Every row is measured on two texts that are the same for all rows: the reference text (the prompt
and what the unsteered model writes after it, likeliest tokens), on which the KL divergence is
taken where the row is steered; and held-out texts, on which it is steered everywhere (or where the
other latent fires) and loss and the probability of the boosted tokens are taken.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.corpus.docs import docs_sample
from core.corpus.load import default_packing, load_token_set
from core.lease import Lease
from core.patch_scoping.generation import Completion, end_tokens
from core.saes.writes import WRITES_VERSION
from core.steering.downstream import followed, reached
from core.steering.effects import HeldOut, divergences, held_out, plain_perplexity
from core.steering.intervention import UNSTEERED, Place
from core.steering.live import Writing
from core.steering.measures import mean_interval
from core.steering.prepare import Setting, prepared, steerer_for
from core.steering.prompt import SteerPrompt
from core.steering.request import SteerRequest
from core.steering.result import SteerResult, result_of
from core.steering.texts import distinct_pairs, share_of, steered_texts
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.tokens import token_texts

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.models import Model

HELD_OUT_PACKAGES = ("sympy", "numba")
"""Whose documentation is the held-out text: the demo was not trained on it."""
HELD_OUT_TEXTS, HELD_OUT_LENGTH = 12, 48
"""Held-out texts, and tokens of each."""
_VERSION = 2
_CODEC = dataclass_codec(SteerResult)


def run_steering(lease: Lease, store: Store, request: SteerRequest) -> SteerResult:
    """All rows of the request, whose SAEs the lease has (`request.names`), from the store or now.

    What is there is published through the lease's progress as it comes.

    Raises:
        ValueError: a prompt, latent, strength or place that cannot be used.
    """
    parameters = {
        **json.loads(json.dumps(asdict(request))),
        "model": lease.model_fingerprint,
        "saes": list(lease.sae_fingerprints),
        "writes": WRITES_VERSION,
        "held_out": docs_sample(HELD_OUT_PACKAGES).digest,
    }
    for of_names in ("sae_version", "sae", "after"):
        del parameters[of_names]
    key = Key("steering", _VERSION, parameters)
    return store.get_or_compute(
        key, lambda: _made(lease, store, request), _CODEC, waiting=lease.progress.check
    )


def _made(lease: Lease, store: Store, request: SteerRequest) -> SteerResult:
    check = lease.progress.check
    lease.progress.update(0, None, message="Reading the prompt")
    texts = held_out_texts(lease, store)
    groups = request.groups
    with lease.turn() as (model, saes):
        setting = prepared(model, saes[0], request, check)
        # Of every group, for each has tokens of its own.
        plain = _on_held_out(model, saes[0], request, setting, texts, [0] * len(groups), check)
        read = followed(model, saes, groups, "" if request.after is None else request.after[1])
    told = replace(setting, notes=(*setting.notes, *read.notes))

    def made(
        rows: Sequence[Mapping[str, Any]], written: Sequence[Mapping[str, Any]]
    ) -> SteerResult:
        n = len(groups), len(texts)
        return result_of(told, rows, written, n_groups=n[0], n_held_out=n[1], later=read.names)

    writing = Writing(setting.about, made, lease.progress.publish)

    def work(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        some, numbers = setting.interventions[first:last], range(first, last)
        tokens, ends = token_texts(model.tokenizer), end_tokens(model)

        def watch(keys: Sequence[tuple[int, int]], new: Sequence[Sequence[int]]) -> None:
            check()
            writing.grows(first, tokens, keys, new, ends)

        completions = steered_texts(
            model,
            saes[0],
            setting.prompt,
            some,
            max_new_tokens=request.new_tokens,
            sampling=request.sampling,
            watch=watch,
        )
        own = [setting.about[number]["group"] for number in numbers]
        readers = list(
            zip(saes, ([of[it] for it in own] for of in (read.own, read.later)), strict=False)
        )
        steerer, every = steerer_for(model, saes[0], some, setting.prompt), range(len(some))
        kl = divergences(model, steerer, every, setting.reference, check=check)
        active = reached(model, steerer, every, setting.reference, readers, check=check)
        found = _on_held_out(model, saes[0], request, setting, texts, numbers, check)
        rows = []
        for i, number in enumerate(numbers):
            chosen = set() if setting.boosted is None else {*setting.boosted[own[i]].tolist()}
            measured = _measured(found, plain, i, own[i], completions[i], chosen - {-1})
            fluent = plain_perplexity(
                model, setting.prompt.tokens, [it.tokens for it in completions[i]]
            )
            measured |= {
                "kl": float(kl[i]),
                "perplexity": float(np.exp(_mean(fluent.log().tolist()))),
            }
            measured |= dict(zip(("own", "later"), active[i].tolist(), strict=False))
            rows.append({"row": number, **setting.about[number], **measured})
        writing.done(
            rows,
            [
                {"row": number, "sample": sample, "text": it.text}
                for number, one in zip(numbers, completions, strict=True)
                for sample, it in enumerate(one)
            ],
        )

    n = len(setting.interventions)
    lease.in_turns(n, work, unit="rows", message="Steering", step=8)
    lease.progress.publish(None)
    return writing.result()


def held_out_texts(lease: Lease, store: Store) -> torch.Tensor:
    """Token ids `[texts, positions]` of documentation that the demo was not trained on.

    Raises ValueError when there are fewer than two texts of that length.
    """
    with lease.turn() as (model, (sae, *_)):
        packing = default_packing(model, sae, max_tokens=60 * HELD_OUT_LENGTH)
    length = min(HELD_OUT_LENGTH, packing.context)
    token_set = load_token_set(
        docs_sample(HELD_OUT_PACKAGES),
        lease.tokenizer,
        packing,
        store=store,
        progress=lease.progress,
    )
    whole = np.flatnonzero(token_set.lengths >= length)[:HELD_OUT_TEXTS]
    if len(whole) < 2:
        raise ValueError(
            f"The held-out documentation has no two texts of {length} tokens; install sympy and "
            "numba, which it is taken from."
        )
    return torch.from_numpy(token_set.tokens[whole, :length].astype(np.int64))


def _on_held_out(
    model: "Model",
    sae: "SAE",
    request: SteerRequest,
    setting: Setting,
    texts: torch.Tensor,
    numbers: Sequence[int],
    check: Any,
) -> HeldOut:
    """Of rows by number; row 0, unsteered, stands for one group after the other."""
    place = request.place if request.place.kind == "where" else Place()
    some = [replace(setting.interventions[number], place=place) for number in numbers]
    if not any(numbers):
        groups, some = list(range(len(numbers))), [UNSTEERED] * len(numbers)
    else:
        groups = [setting.about[number]["group"] for number in numbers]
    steerer = steerer_for(model, sae, some, SteerPrompt((0,), setting.prompt.n_leading))
    device = next(model.parameters()).device
    own = None if setting.boosted is None else setting.boosted[groups].to(device)
    return held_out(model, steerer, range(len(some)), texts.to(device), own, check=check)


def _measured(
    found: HeldOut,
    plain: HeldOut,
    i: int,
    group: int,
    samples: Sequence[Completion],
    chosen: set[int],
) -> dict[str, float]:
    """Row `i` of what was found beside the unsteered one of its group."""
    loss = mean_interval((found.loss[i] - plain.loss[group]).numpy())
    gain = mean_interval((found.boosted[i] - plain.boosted[group]).numpy())
    return {
        "boosted": mean_interval(found.boosted[i].numpy())[0],
        **dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)),
        **dict(zip(("loss_change", "loss_low", "loss_high"), loss, strict=True)),
        "distinct": _mean([distinct_pairs(it.tokens) for it in samples]),
        "share": _mean([share_of(it.tokens, chosen) for it in samples if chosen]),
        "n_texts": len(samples),
    }


def _mean(values: Sequence[float]) -> float:
    known = [it for it in values if np.isfinite(it)]
    return float(np.mean(known)) if known else float("nan")
