"""Figures of the home page about one latent: its tokens, and where it fires in a text."""

from dataclasses import dataclass

import torch

from core.engine import Engine
from core.logit_lens import residual_directions, top_tokens
from core.models.hooks import Model, cache_sites, context_length
from core.saes import SaeCard, encode, sae_card, sae_hook_name
from core.tokens import row_texts, token_text
from core.view.selection import Selection


@dataclass(frozen=True)
class TokenEffect:
    """What a latent does to one token's score."""

    token: str
    """The token as text."""
    token_id: int
    """Its number in the vocabulary."""
    effect: float
    """Change of its logit per unit of the latent's activation."""


@dataclass(frozen=True)
class LatentTokens:
    """Tokens that a latent makes most and least likely."""

    boosted: tuple[TokenEffect, ...]
    """Highest effect first."""
    suppressed: tuple[TokenEffect, ...]
    """Lowest effect first."""


@dataclass(frozen=True)
class TextActivations:
    """One latent on one text."""

    tokens: tuple[str, ...]
    """The text's tokens, each in a cell of its own; the beginning-of-text token is left out."""
    activations: tuple[float, ...]
    """The latent's activation at each of them."""
    omitted: int
    """Tokens at the end of the text that the model has no room for."""
    token_ids: tuple[int, ...] = ()
    """Numbers of the tokens in the vocabulary."""
    parts: tuple[str, ...] = ()
    """What each token adds to the text, as `RowTexts.parts`."""


def read_card(engine: Engine, selection: Selection) -> SaeCard:
    """What the loaded SAE says about itself."""
    entry = engine.catalog.entry(*selection.sae)
    with engine.use(selection.model, [selection.sae]) as (_, (sae,)):
        return sae_card(sae, release=selection.release, sae_id=selection.sae_id, folder=entry.path)


def latent_tokens(engine: Engine, selection: Selection, *, k: int = 10) -> LatentTokens:
    """The `k` tokens that the latent pushes up most, and the `k` that it pushes down most."""
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        direction = residual_directions(model, sae, [selection.latent])
        n = min(k, model.W_U.shape[1])
        return LatentTokens(
            boosted=_effects(model, direction, n, largest=True),
            suppressed=_effects(model, direction, n, largest=False),
        )


def text_activations(engine: Engine, selection: Selection, text: str) -> TextActivations:
    """The latent's activation at each token of `text`.

    Raises:
        ValueError: there is no such latent, or the text is empty.
    """
    if not text.strip():
        raise ValueError("The text is empty; type a few words.")
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        if not 0 <= selection.latent < sae.cfg.d_sae:
            raise ValueError(
                f"There is no latent {selection.latent}; this SAE has {sae.cfg.d_sae}, so choose "
                f"0 to {sae.cfg.d_sae - 1}."
            )
        # The first position is an attention sink, at which SAEs fire arbitrarily.
        tokens = model.to_tokens(text, prepend_bos=True, truncate=False)
        room = context_length(model)
        hook_name = sae_hook_name(sae)
        site = cache_sites(model, tokens[:, :room], [hook_name])[hook_name]
        with torch.no_grad():
            acts = encode(sae, site)[0, 1:, selection.latent].float().cpu()
        ids = tokens[0, 1:room].tolist()
        texts = row_texts(model.tokenizer, ids)
        return TextActivations(
            tokens=texts.cells,
            activations=tuple(acts.tolist()),
            omitted=max(0, tokens.shape[1] - room),
            token_ids=tuple(ids),
            parts=texts.parts,
        )


def _effects(
    model: Model, direction: torch.Tensor, k: int, *, largest: bool
) -> tuple[TokenEffect, ...]:
    ids, values = top_tokens(direction, model.W_U, k, largest=largest)
    return tuple(
        TokenEffect(token=token_text(model.tokenizer, token_id), token_id=token_id, effect=value)
        for token_id, value in zip(ids[0].tolist(), values[0].tolist(), strict=True)
    )
