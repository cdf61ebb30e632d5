"""What fires where in one text: of all latents, or of one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.prompt import prompt_for, reading_notes
from core.lease import Lease
from core.models.hooks import Model
from core.saes import encode, sae_inputs
from core.tokens import row_texts


@dataclass(frozen=True, eq=False)
class ActiveLatents:
    """Every activation above 0 in one text, ordered by position, then latent."""

    n_positions: int
    """Positions of the prompt, a beginning-of-text token in front included."""
    position: Int[np.ndarray, " n"]
    """Where (int32); what stands in front of the text is left out: SAEs fire arbitrarily there."""
    latent: Int[np.ndarray, " n"]
    """Which latent (int32)."""
    value: Float[np.ndarray, " n"]
    """How strongly (float32)."""

    def per_latent(self) -> pd.DataFrame:
        """A row for each active latent, the strongest first: `latent`, `activation` (largest),
        `position` of it (the first of equals), `n_tokens` at which it is active, `total`."""
        order = np.lexsort((self.position, -self.value, self.latent))
        latent, value = self.latent[order], self.value[order]
        starts = np.flatnonzero(np.r_[True, latent[1:] != latent[:-1]]) if len(order) else order
        table = pd.DataFrame(
            {
                "latent": latent[starts],
                "activation": value[starts],
                "position": self.position[order][starts],
                "n_tokens": np.diff(np.r_[starts, len(latent)]),
                "total": np.add.reduceat(value, starts) if len(starts) else value,
            }
        )
        return table.sort_values("activation", ascending=False, kind="stable", ignore_index=True)

    def at(self, position: int) -> pd.DataFrame:
        """`latent` and `activation` at one position, the strongest first."""
        here = np.flatnonzero(self.position == position)
        here = here[np.argsort(-self.value[here], kind="stable")]
        return pd.DataFrame({"latent": self.latent[here], "activation": self.value[here]})

    def of(self, latent: int) -> Float[np.ndarray, " n_positions"]:
        """Activation of one latent at every position (float32)."""
        values = np.zeros(self.n_positions, dtype=np.float32)
        here = self.latent == latent
        values[self.position[here]] = self.value[here]
        return values


@torch.no_grad()
def active_latents(
    model: Model, sae: SAE, tokens: Int[Tensor, "1 pos"], *, n_leading: int = 1
) -> ActiveLatents:
    """All activations above 0 on one prompt.

    The first `n_leading` positions are no text and are left out: 1 for a prompt that begins with
    BOS, 0 for one that does not (`core.corpus.prompt_for` says which).

    Raises ValueError for several prompts, or none.
    """
    if tokens.dim() != 2 or len(tokens) != 1:
        raise ValueError(f"tokens are {list(tokens.shape)}; give one prompt as [1, pos].")
    activations = encode(sae, sae_inputs(model, sae, tokens))[0].float()
    activations[:n_leading] = 0
    position, latent = (activations > 0).nonzero(as_tuple=True)
    return ActiveLatents(
        n_positions=tokens.shape[1],
        position=position.cpu().numpy().astype(np.int32),
        latent=latent.cpu().numpy().astype(np.int32),
        value=activations[position, latent].cpu().numpy(),
    )


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

    def place(self, number: int) -> int:
        """Where the text's token of that number (from 1) stands among `tokens`."""
        return number - 1 + self.n_leading


def read_prompt(lease: Lease, text: str) -> PromptRead:
    """All activations of the lease's first SAE on `text`. Raises ValueError for an empty one."""
    with lease.turn() as (model, (sae, *_)):
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


@torch.no_grad()
def text_activations(lease: Lease, latent: int, text: str) -> TextActivations:
    """Activations of a latent of the lease's first SAE at each token of `text`.

    Raises:
        ValueError: there is no such latent, or the text is empty.
    """
    with lease.turn() as (model, (sae, *_)):
        if not 0 <= latent < sae.cfg.d_sae:
            raise ValueError(
                f"There is no latent {latent}; this SAE has {sae.cfg.d_sae}, so choose 0 to "
                f"{sae.cfg.d_sae - 1}."
            )
        prompt = prompt_for(model, [sae], text)
        # At a beginning-of-text token, an attention sink, SAEs fire arbitrarily.
        acts = encode(sae, sae_inputs(model, sae, prompt.tokens))[0, prompt.n_leading :, latent]
        texts = row_texts(model.tokenizer, prompt.text_ids)
        return TextActivations(
            tokens=texts.cells,
            activations=tuple(acts.float().cpu().tolist()),
            omitted=prompt.omitted,
            token_ids=prompt.text_ids,
            parts=texts.parts,
            n_leading=prompt.n_leading,
            notes=reading_notes(model, sae),
        )
