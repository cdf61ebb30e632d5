"""Vectors that stand for a word: mean residuals of its contexts, and decoder directions of SAEs."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from tokenizers import Tokenizer
from torch import Tensor

from core.models import Model, cache_sites
from core.saes import encode

_MAX_CONTEXTS = 60


def word_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Vocabulary entries that are one word of three letters or more, by id, without the space."""
    words = {}
    for token_id in range(tokenizer.get_vocab_size()):
        word = tokenizer.decode([token_id]).strip()
        if re.fullmatch(r"[A-Za-z]{3,}", word):
            words[token_id] = word
    return words


@dataclass
class ResidualSample:
    """Residuals of many corpus positions at one layer's input."""

    tokens: Int[Tensor, " n"]
    """Token at each position."""
    residuals: Float[Tensor, "n d_model"]
    """Residuals at `blocks.L.hook_resid_pre`."""

    def __post_init__(self) -> None:
        self.mean = self.residuals.mean(0)
        self.typical_norm = float(self.residuals.norm(dim=1).mean())
        centred = self.residuals - self.mean
        self.directions = centred / centred.norm(dim=1, keepdim=True)
        self.positions: dict[int, list[int]] = defaultdict(list)
        for position, token in enumerate(self.tokens.tolist()):
            if len(self.positions[token]) < _MAX_CONTEXTS:
                self.positions[token].append(position)


def sample_residuals(
    model: Model, windows: Int[Tensor, "n context"], layers: Sequence[int], *, skip: int = 4
) -> dict[int, ResidualSample]:
    """Residuals at the input of each layer; the first `skip` positions of a window are left out."""
    names = {layer: f"blocks.{layer}.hook_resid_pre" for layer in layers}
    parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for rows in windows.split(32):
        cache = cache_sites(model, rows, list(names.values()))
        for layer, name in names.items():
            parts[layer].append(cache[name][:, skip:].flatten(0, 1).cpu())
    tokens = windows[:, skip:].flatten()
    return {layer: ResidualSample(tokens, torch.cat(parts[layer])) for layer in layers}


@dataclass(frozen=True)
class LatentWord:
    """A latent that fires on one word."""

    latent: int
    """Index in the SAE."""
    token: int
    """The token at most of its strongest positions."""
    agreement: int
    """At how many of them."""


@torch.no_grad()
def latent_words(
    sae: SAE, sample: ResidualSample, *, n_top: int = 15, chunk: int = 8192
) -> list[LatentWord]:
    """The most frequent token among each latent's `n_top` strongest positions.

    Latents with fewer than `n_top` firings in the sample are left out.
    """
    device = sae.W_dec.device
    best = torch.full((n_top, sae.cfg.d_sae), -1.0, device=device)
    places = torch.zeros((n_top, sae.cfg.d_sae), dtype=torch.long, device=device)
    for start in range(0, len(sample.tokens), chunk):
        acts = encode(sae, sample.residuals[start : start + chunk].to(device))
        values, rows = acts.topk(min(n_top, len(acts)), dim=0)
        best, order = torch.cat([best, values]).topk(n_top, dim=0)
        places = torch.cat([places, rows + start]).gather(0, order)
    found = []
    tokens = sample.tokens[places.cpu()]
    for latent in (best[-1] > 0).nonzero().flatten().tolist():
        token, count = Counter(tokens[:, latent].tolist()).most_common(1)[0]
        found.append(LatentWord(latent, token, count))
    return found


def word_latents(
    found: Sequence[LatentWord], words: Mapping[int, str], *, min_agreement: int = 10
) -> list[LatentWord]:
    """Those whose strongest positions mostly hold one and the same of `words`."""
    return [item for item in found if item.agreement >= min_agreement and item.token in words]
