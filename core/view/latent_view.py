"""Figures of the home page about one latent: its tokens, and where it fires in a text."""

from dataclasses import dataclass

import torch

from core.corpus.prompt import prompt_for, reading_notes
from core.engine import Engine
from core.logit_lens import top_tokens
from core.models.hooks import Model
from core.saes import SaeCard, encode, sae_card, sae_inputs
from core.saes.writes import logit_notes, residual_directions
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
    notes: tuple[str, ...] = ()
    """What has to be known to read the effects, a sentence each."""


@dataclass(frozen=True)
class TextActivations:
    """One latent on one text."""

    tokens: tuple[str, ...]
    """The text's tokens, each in a cell of its own; a beginning-of-text token that was put in front
    is left out."""
    activations: tuple[float, ...]
    """The latent's activation at each of them."""
    omitted: int
    """Tokens at the end of the text for which there is no room."""
    token_ids: tuple[int, ...] = ()
    """Numbers of the tokens in the vocabulary."""
    parts: tuple[str, ...] = ()
    """What each token adds to the text, as `RowTexts.parts`."""
    n_leading: int = 0
    """Positions that were run in front of these: 1 for a beginning-of-text token, or 0."""
    notes: tuple[str, ...] = ()
    """What a reader should know about how the text was read, in sentences."""


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
            notes=logit_notes(model, sae),
        )


def text_activations(engine: Engine, selection: Selection, text: str) -> TextActivations:
    """The latent's activation at each token of `text`.

    Raises:
        ValueError: there is no such latent, or the text is empty.
    """
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        if not 0 <= selection.latent < sae.cfg.d_sae:
            raise ValueError(
                f"There is no latent {selection.latent}; this SAE has {sae.cfg.d_sae}, so choose "
                f"0 to {sae.cfg.d_sae - 1}."
            )
        prompt = prompt_for(model, [sae], text)
        with torch.no_grad():
            # At a beginning-of-text token, an attention sink, SAEs fire arbitrarily.
            read = sae_inputs(model, sae, prompt.tokens)
            acts = encode(sae, read)[0, prompt.n_leading :, selection.latent].float().cpu()
        texts = row_texts(model.tokenizer, prompt.text_ids)
        return TextActivations(
            tokens=texts.cells,
            activations=tuple(acts.tolist()),
            omitted=prompt.omitted,
            token_ids=prompt.text_ids,
            parts=texts.parts,
            n_leading=prompt.n_leading,
            notes=reading_notes(model, sae),
        )


def _effects(
    model: Model, direction: torch.Tensor, k: int, *, largest: bool
) -> tuple[TokenEffect, ...]:
    ids, values = top_tokens(direction, model.W_U, k, largest=largest)
    return tuple(
        TokenEffect(token=token_text(model.tokenizer, token_id), token_id=token_id, effect=value)
        for token_id, value in zip(ids[0].tolist(), values[0].tolist(), strict=True)
    )
