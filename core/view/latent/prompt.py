"""The prompt tab: what fires in a typed text, how strongly for each latent, and what it is for."""

import hashlib
import json
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from core.activations import open_index
from core.activations.text_index import OpenIndex
from core.corpus.prompt import prompt_for, reading_notes
from core.engine import Engine
from core.jobs.progress import Progress
from core.link import Link, LinkField, one_of, short_text, whole
from core.prompt_latents import (
    AblationEffects,
    ActiveLatents,
    ablation_effects,
    activation_quantiles,
    active_latents,
)
from core.store import ARRAYS, Key, Store
from core.tokens import row_texts
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
    """Number of the token of the text that is looked at, from 1; 0 for the whole text."""
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
    """A text and all activations on it. Tokens are numbered from 1, without what stands in front
    of the text; positions are counted from 0, with it."""

    token_ids: tuple[int, ...]
    """Tokens that were run."""
    tokens: tuple[str, ...]
    """Their texts, each in a cell of its own."""
    parts: tuple[str, ...]
    """What each adds to the text, as `RowTexts.parts`."""
    n_leading: int
    """Positions in front of the text: 1 for a beginning-of-text token, or 0."""
    omitted: int
    """Tokens at the end of the text for which there is no room."""
    active: ActiveLatents
    """What fires where."""
    d_sae: int
    """Number of latents."""
    notes: tuple[str, ...] = ()
    """What a reader should know about how the text was read, in sentences."""

    @property
    def n_tokens(self) -> int:
        """Tokens of the text itself."""
        return len(self.tokens) - self.n_leading

    @property
    def text_tokens(self) -> tuple[str, ...]:
        """Texts of the text's own tokens."""
        return self.tokens[self.n_leading :]

    def place(self, number: int) -> int:
        """Where the text's token of that number (from 1) stands among `tokens`."""
        return number - 1 + self.n_leading


def read_prompt(engine: Engine, selection: Selection, text: str) -> PromptRead:
    """Run the text once. Raises ValueError for an empty one."""
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        prompt = prompt_for(model, [sae], text)
        active = active_latents(model, sae, prompt.tokens, n_leading=prompt.n_leading)
        texts = row_texts(model.tokenizer, prompt.ids)
        return PromptRead(
            token_ids=prompt.ids,
            tokens=texts.cells,
            parts=texts.parts,
            n_leading=prompt.n_leading,
            omitted=prompt.omitted,
            active=active,
            d_sae=sae.cfg.d_sae,
            notes=reading_notes(model, sae),
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
    """Active latents, of one token of the text (`position`, from 1) or of all (0); not yet ranked.

    `latent`, `activation` (the largest), `position` of it among the text's tokens, from 1, `token`
    there, `n_tokens` at which it is active, `quantile` (share of its firings in the index that are
    weaker; NaN if unknown) and `effect` (increase of the loss in nats without it: mean over the
    text, or at the token that follows; NaN if unknown).
    """
    table = read.active.per_latent()
    place = read.place(position) if position else None
    if place is not None:
        here = read.active.at(place)
        n_tokens = table.set_index("latent")["n_tokens"]
        table = here.assign(position=place, n_tokens=n_tokens.reindex(here["latent"]).to_numpy())
    latents, values = table["latent"].to_numpy(), table["activation"].to_numpy()
    quantile = np.full(len(table), np.nan)
    if known is not None and len(table):
        quantile = known.quantiles(latents, values)
    table["token"] = [read.tokens[it] for it in table["position"]]
    table["position"] += 1 - read.n_leading
    table["quantile"] = quantile
    table["effect"] = _effects_of(latents, effects, place)
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
    """For each token, its `k` first latents by activation or by quantile.

    `position` (among the text's tokens, from 1), `token`, `active` (how many are) and `latents`,
    which is a list of texts such as "12 (3.40)".
    """
    active = read.active
    value = active.value
    score = value
    if by == "quantile" and known is not None and len(value):
        score = np.nan_to_num(known.quantiles(active.latent, value), nan=-1.0)
    order = np.lexsort((-value, -score, active.position))
    starts = np.searchsorted(active.position[order], np.arange(active.n_positions + 1))
    rows = []
    for position in range(read.n_leading, active.n_positions):
        here = order[starts[position] : starts[position + 1]]
        texts = [
            f"{active.latent[i]} ({score[i]:.0%})"
            if score is not value
            else f"{active.latent[i]} ({value[i]:.2f})"
            for i in here[:k]
        ]
        rows.append(
            {
                "position": position - read.n_leading + 1,
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
            some = latents[done : done + size]
            parts.append(ablation_effects(model, sae, tokens, some, n_leading=read.n_leading))
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
    latents: np.ndarray, effects: AblationEffects | None, place: int | None
) -> Float[np.ndarray, " n"]:
    found = np.full(len(latents), np.nan)
    if effects is None or len(effects.latents) == 0:
        return found
    if place is None:
        values = effects.mean_increase
    elif place <= effects.increase.shape[1] - 1:
        values = effects.increase[:, place]  # column j predicts token j + 1
    else:
        return found
    row = {int(latent): float(value) for latent, value in zip(effects.latents, values, strict=True)}
    return np.array([row.get(int(latent), np.nan) for latent in latents])
