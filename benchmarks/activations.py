"""One pass over a corpus, against running the model and the SAE alone and against loops."""

import numpy as np
import torch
from sae_lens import SAE

from benchmarks.table import Row, print_table
from core.activations import IndexConfig, build_index
from core.corpus import TokenSet, default_packing, docs_sample, load_token_set
from core.models import Model, cache_sites, load_model
from core.saes import encode, load_sae_from_disk, sae_hook_name
from core.settings import REPOSITORY

DEMO = REPOSITORY / "demo"
_TOKENS = 8192
_MANY_TOKENS = 65_536
_BATCH_ROWS = 16
_LATENTS_AT_ONCE = 128


def print_activations() -> None:
    """The table of the pass."""
    print_table(activation_rows())


def activation_rows() -> list[Row]:
    """The pass over 4,096 latents: a short text, where sorting weighs most, and a longer one."""
    model = load_model(DEMO / "models/docs-small")
    sae = load_sae_from_disk(DEMO / "saes/docs-small-res-splitting/blocks.2.hook_resid_pre_4096")
    token_set = _text(model, sae, _TOKENS)
    config = IndexConfig()

    def ours() -> object:
        return build_index(model, [sae], token_set, config)

    return [
        _share_row(model, sae, _MANY_TOKENS, config),
        _share_row(model, sae, _TOKENS, config),
        Row(
            "Examples: a run of model and SAE for each of 10 latents / all 4,096 in one pass",
            lambda: _a_run_for_each(model, sae, token_set, 10, config),
            ours,
            repeats=1,
        ),
        Row(
            "Examples of 4,096 latents: encoded 128 at a time, a sort each / one pass",
            lambda: _some_at_a_time(model, sae, token_set, config),
            ours,
            repeats=1,
        ),
    ]


def _share_row(model: Model, sae: SAE, n_tokens: int, config: IndexConfig) -> Row:
    """The ratio is the pass's speed as a share of the bare model and encoder's."""
    token_set = _text(model, sae, n_tokens)
    return Row(
        f"{n_tokens:,} tokens, 4,096 latents: model and encoder alone / with all latents indexed",
        lambda: [encode(sae, site) for site in _sites(model, sae, token_set)],
        lambda: build_index(model, [sae], token_set, config),
        repeats=3,
    )


def _text(model: Model, sae: SAE, n_tokens: int) -> TokenSet:
    packing = default_packing(model, sae, layout="windows", max_tokens=n_tokens)
    return load_token_set(docs_sample(), model.tokenizer, packing)


@torch.no_grad()
def _sites(model: Model, sae: SAE, token_set: TokenSet) -> list[torch.Tensor]:
    tokens = torch.from_numpy(token_set.tokens.astype(np.int64))
    name = sae_hook_name(sae)
    return [cache_sites(model, rows, [name])[name] for rows in tokens.split(_BATCH_ROWS)]


@torch.no_grad()
def _a_run_for_each(
    model: Model, sae: SAE, token_set: TokenSet, n_latents: int, config: IndexConfig
) -> list[object]:
    found = []
    for latent in range(n_latents):
        dense = [encode(sae, site)[..., latent] for site in _sites(model, sae, token_set)]
        found.append(_examples(torch.cat(dense), config))
    return found


@torch.no_grad()
def _some_at_a_time(
    model: Model, sae: SAE, token_set: TokenSet, config: IndexConfig
) -> list[object]:
    found: list[object] = []
    sites = _sites(model, sae, token_set)
    for start in range(0, sae.cfg.d_sae, _LATENTS_AT_ONCE):
        columns = slice(start, start + _LATENTS_AT_ONCE)
        dense = torch.cat([encode(sae, site)[..., columns] for site in sites])
        found.extend(_examples(dense[..., i], config) for i in range(dense.shape[-1]))
    return found


def _examples(dense: torch.Tensor, config: IndexConfig) -> object:
    """Strongest rows and random examples of each band of one latent."""
    peaks, positions = dense.max(dim=1)
    top = peaks.topk(min(config.n_top, len(peaks)))
    flat = dense.flatten()
    places = flat.nonzero()[:, 0]
    bands = []
    if len(places):
        values = flat[places]
        band = (values / values.max() * config.n_quantiles).long().clamp(max=9)
        for number in range(config.n_quantiles):
            inside = places[band == number]
            bands.append(inside[torch.randperm(len(inside))[: config.per_quantile]])
    return top, positions[top.indices], bands
