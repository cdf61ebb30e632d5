"""The prompt tab: what fires in a typed text, how strongly for each latent, and what it is for."""

import hashlib
import json
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from core.activations import open_index
from core.engine import Engine
from core.jobs.progress import Progress
from core.link import Link, LinkField, one_of, short_text, whole
from core.models.hooks import context_length
from core.prompt_latents import (
    AblationEffects,
    ActiveLatents,
    ablation_effects,
    activation_quantiles,
    active_latents,
)
from core.store import ARRAYS, Key, Store
from core.tokens import row_texts
from core.view.latent.index import OpenIndex
from core.view.selection import Selection

ORDERS = {
    "activation": "Activation",
    "quantile": "Strength for this latent",
    "effect": "Effect on the prediction",
}
"""Ways to rank latents."""
MOST_CHARACTERS = 2000
MOST_ABLATED = 500
PROPOSED = (
    "Return the mean of the array elements along the given axis. If the input contains integers, "
    "the result is computed in float64."
)
_LEASE_SECONDS = 1.5
_VERSION = 1


@dataclass(frozen=True)
class PromptView:
    """Settings of this tab."""

    text: str = ""
    """The text; empty for the one proposed."""
    by: str = "activation"
    """How latents are ranked: one of `ORDERS`."""
    token: int = 0
    """Position of the token that is looked at, from 1; 0 for the whole text."""
    ablated: int = 50
    """How many latents are removed to find their effect."""


LINK = Link(
    PromptView(),
    (
        LinkField("text", "prompt", short_text(MOST_CHARACTERS)),
        LinkField("by", "rank", one_of(tuple(ORDERS))),
        LinkField("token", "at", whole(0, 1_000_000)),
        LinkField("ablated", "remove", whole(1, MOST_ABLATED)),
    ),
)
"""How a view is written to the link and read from it."""


@dataclass(frozen=True, eq=False)
class PromptRead:
    """A text and all activations on it; position 0 is the beginning-of-text token."""

    token_ids: tuple[int, ...]
    """Tokens that were run."""
    tokens: tuple[str, ...]
    """Their texts, each in a cell of its own."""
    parts: tuple[str, ...]
    """What each adds to the text, as `RowTexts.parts`."""
    omitted: int
    """Tokens at the end of the text that the model has no room for."""
    active: ActiveLatents
    """What fires where."""
    d_sae: int
    """Number of latents."""


def read_prompt(engine: Engine, selection: Selection, text: str) -> PromptRead:
    """Run the text once. Raises ValueError for an empty one."""
    if not text.strip():
        raise ValueError("The text is empty; type a few words.")
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        tokens = model.to_tokens(text, prepend_bos=True, truncate=False)
        room = context_length(model)
        kept = tokens[:, :room]
        active = active_latents(model, sae, kept)
        ids = kept[0].tolist()
        texts = row_texts(model.tokenizer, ids)
        return PromptRead(
            token_ids=tuple(ids),
            tokens=texts.cells,
            parts=texts.parts,
            omitted=max(0, tokens.shape[1] - room),
            active=active,
            d_sae=sae.cfg.d_sae,
        )


@dataclass(frozen=True, eq=False)
class Distributions:
    """Activations of all latents in the text of an index, as histograms."""

    cell_counts: Float[np.ndarray, "d_sae cells"]
    """As `LatentIndex.cell_counts`."""
    peak: Float[np.ndarray, " d_sae"]
    """As `LatentIndex.peak`."""

    def quantiles(
        self, latents: np.ndarray, values: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """`activation_quantiles` of these latents' values."""
        return activation_quantiles(self.cell_counts[latents], self.peak[latents], values)


def distributions(store: Store, index: OpenIndex) -> Distributions | None:
    """Of all latents of an index; put aside after the first time, so that it need not be opened
    whole again. None when it is no longer in the store."""
    key = Key("latent-distributions", _VERSION, {"index": index.key.digest})
    arrays = store.get(key, ARRAYS)
    if arrays is None:
        whole_index = open_index(store, index.key)
        if whole_index is None:
            return None
        arrays = {"cell_counts": whole_index.cell_counts, "peak": whole_index.peak}
        store.put(key, arrays, ARRAYS)
    return Distributions(arrays["cell_counts"], arrays["peak"])


def latents_table(
    read: PromptRead,
    *,
    position: int = 0,
    known: Distributions | None = None,
    effects: AblationEffects | None = None,
) -> pd.DataFrame:
    """Active latents, of one position or (position 0) of the whole text; not yet ranked.

    `latent`, `activation` (the largest), `position` of it, `token` there, `n_tokens` at which it is
    active, `quantile` (share of its firings in the index that are weaker; NaN if unknown) and
    `effect` (increase of the loss in nats without it: mean over the text, or at the token that
    follows the position; NaN if unknown).
    """
    table = read.active.per_latent()
    if position:
        here = read.active.at(position)
        n_tokens = table.set_index("latent")["n_tokens"]
        table = here.assign(position=position, n_tokens=n_tokens.reindex(here["latent"]).to_numpy())
    latents, values = table["latent"].to_numpy(), table["activation"].to_numpy()
    quantile = np.full(len(table), np.nan)
    if known is not None and len(table):
        quantile = known.quantiles(latents, values)
    table["token"] = [read.tokens[it] for it in table["position"]]
    table["quantile"] = quantile
    table["effect"] = _effects_of(latents, effects, position)
    return table


def ranked(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """The strongest first, by one of `ORDERS`; what is not known comes last. An effect counts by
    its size, whichever way it goes."""
    values = table[by].abs() if by == "effect" else table[by]
    order = np.lexsort((-table["activation"], -values.fillna(-1.0)))
    return table.iloc[order].reset_index(drop=True)


def strongest_per_token(
    read: PromptRead, *, k: int, known: Distributions | None = None, by: str = "activation"
) -> pd.DataFrame:
    """For each token, `position`, `token` and its `k` first latents by activation or by quantile.

    `latents` is a list of texts such as "12 (3.40)".
    """
    active = read.active
    value = active.value
    score = value
    if by == "quantile" and known is not None and len(value):
        score = np.nan_to_num(known.quantiles(active.latent, value), nan=-1.0)
    order = np.lexsort((-value, -score, active.position))
    starts = np.searchsorted(active.position[order], np.arange(active.n_positions + 1))
    rows = []
    for position in range(1, active.n_positions):
        here = order[starts[position] : starts[position + 1]]
        texts = [
            f"{active.latent[i]} ({score[i]:.0%})"
            if score is not value
            else f"{active.latent[i]} ({value[i]:.2f})"
            for i in here[:k]
        ]
        rows.append(
            {
                "position": position,
                "token": read.tokens[position],
                "active": len(here),
                "latents": texts,
            }
        )
    return pd.DataFrame(rows, columns=["position", "token", "active", "latents"])


def ablation_key(selection: Selection, version: str, text: str, n: int) -> str:
    """Key of the job that removes latents."""
    named = json.dumps([selection.model, selection.sae, version, text, n])
    return "prompt-ablation:" + hashlib.sha256(named.encode()).hexdigest()[:24]


def ablate(
    engine: Engine, selection: Selection, read: PromptRead, n: int, progress: Progress
) -> AblationEffects:
    """Effects of the `n` most active latents of a text, in leases of about a second."""
    import torch

    latents = read.active.per_latent()["latent"].to_numpy()[:n]
    parts: list[AblationEffects] = []
    done, size = 0, 1
    while done < len(latents) or not parts:
        progress.update(done, len(latents), unit="latents", message="Removing latents")
        with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
            tokens = torch.tensor([read.token_ids], device=sae.W_dec.device)
            began = time.monotonic()
            parts.append(ablation_effects(model, sae, tokens, latents[done : done + size]))
            seconds = max(time.monotonic() - began, 1e-3)
        done += size
        size = max(1, min(4 * size, int(size * _LEASE_SECONDS / seconds)))
    progress.update(len(latents), len(latents), unit="latents", message="Removing latents")
    return replace(
        parts[0],
        latents=np.concatenate([it.latents for it in parts]),
        increase=np.concatenate([it.increase for it in parts]),
    )


def _effects_of(
    latents: np.ndarray, effects: AblationEffects | None, position: int
) -> Float[np.ndarray, " n"]:
    found = np.full(len(latents), np.nan)
    if effects is None or len(effects.latents) == 0:
        return found
    if position == 0:
        values = effects.mean_increase
    elif position <= effects.increase.shape[1] - 1:
        values = effects.increase[:, position]  # column j predicts token j + 1
    else:
        return found
    row = {int(latent): float(value) for latent, value in zip(effects.latents, values, strict=True)}
    return np.array([row.get(int(latent), np.nan) for latent in latents])
