"""Texts that the model writes while latents are made stronger, for the output metric.

Each latent is added everywhere at the strength at which predictions change by the same KL
divergence, so that no set of texts stands out by being broken more than the others.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.lease import Lease
from core.patch_scoping.sampling import Sampling
from core.saes.writes import WRITES_VERSION
from core.steering.effects import reference_text
from core.steering.intervention import UNSTEERED, Intervention
from core.steering.prompt import steer_prompt
from core.steering.scores import NEUTRAL_PROMPTS
from core.steering.strengths import solved
from core.steering.texts import steered_texts
from core.store import JSON, Key, Store

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.models import Model

KL = 0.5
"""Change of the predictions, in nats."""
N_SAMPLES, NEW_TOKENS = 2, 20
"""Texts after each prompt, and tokens of each."""
LEAST_POOL = 6
"""Latents at least that sets are drawn from; others of the SAE join where a run has fewer."""
_VERSION = 1

Texts = Mapping[int, Sequence[Sequence[int]]]
"""Token ids of the texts of each latent; none of one that reaches the KL at no strength."""


def pool_of(latents: Sequence[int], d_sae: int, seed: int) -> list[int]:
    """The latents of a run, and so many others that there are `LEAST_POOL` (fewer in a smaller
    SAE)."""
    others = [it for it in np.random.default_rng(seed).permutation(d_sae) if it not in latents]
    return [*latents, *map(int, others[: max(0, LEAST_POOL - len(latents))])]


def steered_sets(
    lease: Lease, store: Store, latents: Sequence[int], d_sae: int, *, seed: int = 0
) -> Texts:
    """Texts of the latents of a run and of those that they are told from; kept in the store.

    Raises ValueError for an SAE that cannot be steered with, and JobCancelled.
    """
    pool = pool_of(latents, d_sae, seed)
    parameters = {
        "model": lease.model_fingerprint,
        "sae": lease.sae_fingerprints[0],
        "latents": pool,
        "writes": WRITES_VERSION,
        "how": [KL, N_SAMPLES, NEW_TOKENS, seed, list(NEUTRAL_PROMPTS)],
    }
    found = store.get_or_compute(
        Key("autointerp-steered", _VERSION, parameters),
        lambda: _written(lease, pool, seed),
        JSON,
        waiting=lease.progress.check,
    )
    return {int(latent): texts for latent, texts in found.items()}


def _written(lease: Lease, pool: Sequence[int], seed: int) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    sampling = Sampling(temperature=1.0, n_samples=N_SAMPLES, seed=seed)

    def work(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        sae, some = saes[0], pool[first:last]
        prompts = [steer_prompt(model, sae, it, new_tokens=NEW_TOKENS) for it in NEUTRAL_PROMPTS]
        [[after]] = steered_texts(model, sae, prompts[0], [UNSTEERED], max_new_tokens=NEW_TOKENS)
        whole = prompts[0].tensor(model)
        whole = whole.new_tensor([[*prompts[0].tokens, *after.tokens]])
        leading = prompts[0].n_leading
        reference = reference_text(model, whole, leading)
        bases = [Intervention((it,), (1.0,)) for it in some]
        factors = solved(
            model,
            sae,
            bases,
            reference,
            KL,
            n_prompt=len(prompts[0].tokens),
            n_leading=leading,
            check=lease.progress.check,
        )
        known = [
            (it, base.times(f)) for it, base, f in zip(some, bases, factors, strict=True) if f == f
        ]
        found.update({str(it): [] for it in some})
        for prompt in prompts if known else ():
            rows = steered_texts(
                model,
                sae,
                prompt,
                [it for _, it in known],
                max_new_tokens=NEW_TOKENS,
                sampling=sampling,
            )
            for (latent, _), row in zip(known, rows, strict=True):
                found[str(latent)] += [list(one.tokens) for one in row]

    lease.in_turns(len(pool), work, unit="latents", message="Writing steered texts", step=16)
    return found
