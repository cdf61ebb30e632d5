"""A typed text, run once for all SAEs: which latents of any of them fire in it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from core.activations.encoding import firings_of
from core.corpus.prompt import prompt_for
from core.firings.kept import Totals
from core.firings.search import COLUMNS, figures
from core.lease import Lease, SaeName
from core.models.hooks import cache_sites
from core.saes import read_at_site, sae_hook_name
from core.tokens import row_texts


@dataclass(frozen=True, eq=False)
class FiringInText:
    """What fires in a typed text."""

    table: pd.DataFrame
    """As `core.firings.search.firing_at`; `place` is the number of the token, from 0."""
    tokens: tuple[str, ...]
    """The text's tokens, each in a cell of its own."""
    omitted: int
    """Tokens at the end for which there was no room."""


@torch.no_grad()
def firing_in_text(
    lease: Lease, names: Sequence[SaeName], text: str, known: Mapping[SaeName, Totals]
) -> FiringInText:
    """All latents of the lease's SAEs, called `names`, that fire in `text`.

    SAEs that read the text alike (with or without a token in front) share one run of the model.
    `known` are the totals of a longer text, to which this one is added; of SAEs that are not in
    it, nothing that needs them is known (NaN).

    Raises ValueError for an empty text, or SAEs that do not fit.
    """
    tables: list[tuple[int, pd.DataFrame]] = []
    with lease.turn() as (model, saes):
        prompts = [prompt_for(model, [sae], text) for sae in saes]
        for ids in dict.fromkeys((prompt.ids, prompt.n_leading) for prompt in prompts):
            alike = [n for n, it in enumerate(prompts) if (it.ids, it.n_leading) == ids]
            prompt = prompts[alike[0]]
            hooks = [sae_hook_name(saes[number]) for number in alike]
            sites = cache_sites(model, prompt.tokens, list(dict.fromkeys(hooks)))
            for number, hook in zip(alike, hooks, strict=True):
                lease.progress.update(
                    len(tables), len(saes), unit="SAEs", message="Reading the text"
                )
                own = read_at_site(saes[number], sites[hook])[0, prompt.n_leading :]
                pieces = list(firings_of(saes[number], own, check=lease.progress.check))
                position, latent, value = (
                    np.concatenate(part) for part in zip(*pieces, strict=True)
                )
                total = known.get(names[number])
                one = figures(
                    names[number],
                    latent,
                    value,
                    position,
                    places=len(own),
                    count=None if total is None else total.count,
                    peak=None if total is None else total.peak,
                    more=True,
                )
                tables.append((number, one))
        longest = max(prompts, key=lambda prompt: len(prompt.text_ids))
        tokens = row_texts(model.tokenizer, longest.text_ids).cells
    ordered = [table for _, table in sorted(tables, key=lambda pair: pair[0])]
    whole = pd.concat(ordered, ignore_index=True) if ordered else pd.DataFrame(columns=COLUMNS)
    return FiringInText(whole, tokens, longest.omitted)
