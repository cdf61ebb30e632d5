"""What the model says where there is nothing to say: the texts to hold a latent's text against.

A generic answer ("a word that ...") is only seen as generic beside the answers to random
directions, to other latents, and to a prompt in which nothing was replaced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from sae_lens import SAE

from core.jobs.progress import Progress
from core.models import Model
from core.patch_scoping.generation import complete
from core.patch_scoping.injection import Injection, random_directions, unit_directions
from core.patch_scoping.prompt import ScopePrompt
from core.patch_scoping.sweep import SweepConfig, sweep_directions

UNTOUCHED = "nothing replaced"
"""Name of the control in which the placeholder keeps its own embedding."""


def control_sweep(
    model: Model,
    sae: SAE,
    prompts: Mapping[str, ScopePrompt],
    config: SweepConfig,
    *,
    n_random: int = 1,
    others: Sequence[int] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The sweep of `config` on random directions, other latents, and the untouched prompt.

    The table of `Sweep`, with controls' names in place of latents: "random direction 1", "latent
    17", and `UNTOUCHED`, whose rows are repeated at every scale and have no measures.

    Raises:
        ValueError: nothing to run; else as `sweep`.
    """
    names: list[str] = []
    vectors = []
    if n_random:
        names += [f"random direction {number}" for number in range(1, n_random + 1)]
        vectors.append(random_directions(model, n_random, seed=seed))
    if others:
        names += [f"latent {latent}" for latent in others]
        vectors.append(unit_directions(model, sae, others))
    if not names:
        raise ValueError("There are no controls; ask for random directions or other latents.")
    plain = replace(config, n_controls=0)
    directions = torch.cat([vector.to(vectors[0]) for vector in vectors])
    table = sweep_directions(model, names, directions, prompts, plain, progress=progress).table
    return pd.concat([table, _untouched(model, prompts, config, table)], ignore_index=True)


def _untouched(
    model: Model, prompts: Mapping[str, ScopePrompt], config: SweepConfig, table: pd.DataFrame
) -> pd.DataFrame:
    """One text a prompt and sample, at every layer and scale of the table."""
    titles = list(prompts)
    texts = complete(
        model,
        [Injection(prompts[title].unpatched()) for title in titles],
        max_new_tokens=config.max_new_tokens,
        stop=config.stop,
        sampling=config.sampling,
    )
    first = table[table["latent"] == table["latent"].iloc[0]]
    rows = first[["prompt", "layer", "scale", "multiple", "sample"]].copy()
    found = dict(zip(titles, texts, strict=True))
    said = [found[row.prompt][int(row.sample)] for row in rows.itertuples()]
    return rows.assign(
        latent=UNTOUCHED,
        answer=[completion.answer for completion in said],
        text=[completion.text for completion in said],
        ended_by=[completion.ended_by for completion in said],
        n_tokens=[len(completion.tokens) for completion in said],
        mean_log_prob=[completion.mean_log_prob for completion in said],
        best=False,
        rank=0,
    )
