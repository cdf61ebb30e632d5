"""Explaining without reading examples: the model itself says what the latent's direction means.

The question, the layers, the scales and the choice of a text are those that the page of patch
scoping starts with, so that both pages say the same of a latent, and share what is in the store.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from core.autointerp.request import RunRequest
from core.autointerp.roles import Explained
from core.lease import Lease
from core.patch_scoping.choice import By, choose
from core.patch_scoping.question import (
    Question,
    automatic_choice,
    default_layers,
    prompt_of,
    template_of,
)
from core.patch_scoping.run import ScopeRequest, run_directions, run_sweep
from core.patch_scoping.sweep import SweepConfig
from core.patch_scoping.view import ScopeView, parse_scales
from core.store import Store

Explanations = Mapping[int, Explained]
"""By latent, or by unit of a control."""


def explain_by_model(
    lease: Lease,
    store: Store,
    request: RunRequest,
    latents: Sequence[int],
    controls: Mapping[str, tuple[Sequence[int], Float[Tensor, "n d_model"]]],
) -> tuple[Explanations, Mapping[str, Explanations]]:
    """What the model says of the latents, and of the units of each control.

    The lease has the model that explains, and the SAE; `controls` are units and what each writes
    to the model's stream, of norm 1, by kind of control.

    Raises ValueError where the latents do not write to the residual stream.
    """
    view = ScopeView()
    question = Question(request.explaining_model, view.template)
    with lease.turn() as (model, _):
        text, n_layers = prompt_of(model, question).text, int(model.cfg.n_layers)
    config = SweepConfig(
        layers=default_layers(n_layers, demo=request.demo),
        multiples=parse_scales(view.scales),
        max_new_tokens=view.new_tokens,
        stop=template_of(question).stop,
        n_controls=0,
        seed=view.seed,
    )
    asked = ScopeRequest(question, request.sae, request.version, tuple(latents), config)
    by = automatic_choice(demo=request.demo)
    own = explanations_of_sweep(run_sweep(lease, store, asked).table, text, by)
    others = {}
    for kind, (units, directions) in controls.items():
        table = run_directions(lease, store, asked, units, directions, title=kind)
        others[kind] = explanations_of_sweep(table, text, by)
    return own, others


def explanations_of_sweep(table: pd.DataFrame, question: str, by: By) -> dict[int, Explained]:
    """One answer for each latent of a sweep's table; latents without a word said are left out.

    `raw` holds all different answers, the chosen one first and then the surest first; `messages`
    the question.
    """
    told = table.assign(answer=[" ".join(str(text).split()) for text in table["answer"]])
    told = told[[any(map(str.isalnum, text)) for text in told["answer"]]]
    if told.empty:
        return {}
    chosen = choose(told.reset_index(drop=True), by, per=("latent",))
    surest = told.sort_values("mean_log_prob", ascending=False, kind="stable")
    explained = {}
    for latent, text in zip(chosen["latent"].astype(int), chosen["answer"], strict=True):
        others = surest.loc[surest["latent"] == latent, "answer"]
        raw = tuple(dict.fromkeys([text, *others]))
        explained[latent] = Explained(text, [{"role": "user", "content": question}], raw)
    return explained
