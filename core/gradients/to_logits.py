"""How latents feed the logits after the last position."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.bos import n_leading
from core.gradients.ends import (
    KeepError,
    add_sae_error,
    decoder_entries,
    fit_at,
    latent_name,
    latents_at,
)
from core.gradients.jacobian import Entries
from core.gradients.prompt import checked_tokens
from core.gradients.reconstruction import SaeFit
from core.gradients.route import GradientOptions, Route, freezing, narrowing, pass_options
from core.gradients.segment import LOGIT_SITE, open_segment
from core.gradients.sparse import SparseTensor
from core.models.hooks import Model, run_with_replacements
from core.saes import check_fits, sae_hook_name
from core.saes.writes import written_site


@dataclass(frozen=True)
class LogitRoute:
    """A route from latents to logits."""

    route: Route
    """From the active latents to the chosen tokens' logits at the last position."""
    acts: SparseTensor
    """The latents on the clean prompt, [batch, pos, d_sae]."""
    logits: Float[Tensor, " vocab"]
    """The model's logits after the last position."""
    logits_recon: Float[Tensor, " vocab"]
    """Those with the SAE's reconstruction at its site."""
    token_ids: list[int] | None
    """The chosen tokens; None for the whole vocabulary."""
    fit: SaeFit
    """How well the SAE reconstructs its site."""


def latent_to_logit_gradients(
    tokens: Int[Tensor, "1 pos"],
    sae: SAE,
    model: Model,
    k: int | None = None,
    *,
    token_ids: Sequence[int] | None = None,
    **options: Unpack[GradientOptions],
) -> tuple[
    Float[Tensor, "k n_active"],
    Float[Tensor, " vocab"],
    Float[Tensor, " vocab"],
    list[int] | None,
    SparseTensor,
]:
    """Gradients of the logits at the last position with respect to all active latents.

    Logits are taken as they are, not centred. They are those of the `k` likeliest tokens, of
    `token_ids`, or of the whole vocabulary when neither is given.

    Returns:
        gradients [k, n_active]; column j belongs to entry j of acts
        logits: the model's own, [vocab]
        logits_recon: those downstream of the SAE's reconstruction, [vocab]
        token_ids: the tokens of the rows, likeliest first; None for the whole vocabulary
        acts: the latents on the clean prompt

    `options` are those of `GradientOptions`; positions and max_from keep only some latents (in
    acts as well); which tokens, k or token_ids say.

    Raises:
        ValueError: more than one prompt, a k beyond the vocabulary, a prompt the model cannot
            take, or an SAE that does not fit it.
    """
    found = logit_route(
        tokens,
        sae,
        model,
        k,
        token_ids=token_ids,
        **freezing(options),
        keep_error=options.get("keep_error", "nowhere"),
    )
    kept = narrowing(found.route, options)["sources"]
    if kept is not None:
        found = replace(found, route=found.route.restrict(sources=kept), acts=found.acts.keep(kept))
    gradients = found.route.gradients(**pass_options(options))
    return gradients, found.logits, found.logits_recon, found.token_ids, found.acts


@torch.no_grad()
def logit_route(
    tokens: Int[Tensor, "1 pos"],
    sae: SAE,
    model: Model,
    k: int | None = None,
    *,
    token_ids: Sequence[int] | None = None,
    freeze_attention: bool = False,
    freeze_layer_norm: bool = False,
    keep_error: KeepError = "nowhere",
) -> LogitRoute:
    """The route from an SAE's latents to logits, not yet differentiated."""
    tokens = checked_tokens(model, tokens)
    if len(tokens) != 1:
        raise ValueError(
            f"There are {len(tokens)} prompts; logits are explained for one at a time."
        )
    check_fits(sae, model)
    with torch.inference_mode(False):
        segment, clean = open_segment(
            model,
            tokens,
            written_site(sae),
            LOGIT_SITE,
            freeze_attention=freeze_attention,
            freeze_layer_norm=freeze_layer_norm,
            also_cache=[sae_hook_name(sae)],
        )
        logits = run_with_replacements(model, tokens, {})[0, -1]
        head = Unembedding(model)
        head.check(clean["target"][0, -1:], logits)
        chosen = _chosen(logits, k, token_ids)
        read = clean[sae_hook_name(sae)]
        acts = latents_at(sae, read)
        reconstruction, sources = decoder_entries(sae, acts, read)
        base = add_sae_error(reconstruction, clean["source"], keep_error)
        reached = segment.run(base, torch.zeros(1, dtype=torch.long, device=tokens.device))
        logits_recon = head(reached[0, -1:])[0]
        ids = torch.arange(len(logits)) if chosen is None else torch.tensor(chosen)
        ids = ids.to(logits.device)
        last = torch.full_like(ids, tokens.shape[1] - 1)
        items = torch.zeros_like(ids)
        route = Route(
            segment=segment,
            base=base,
            sources=sources,
            source_indices=acts.sparse[1],
            source_values=acts.sparse[0],
            source_name=latent_name(sae),
            targets=Entries(items, last, head.rows(ids, logits_recon)),
            target_indices=torch.stack([items, last, ids], dim=-1),
            target_values=logits_recon[ids],
            target_name="logit",
            read=head.read,
        )
    fit = fit_at(sae, clean["source"], reconstruction, n_leading=n_leading(model, [sae], tokens))
    return LogitRoute(route, acts, logits, logits_recon, chosen, fit)


class Unembedding:
    """The unembedding of a model, with the cap that some put on their logits."""

    def __init__(self, model: Model) -> None:
        self._weight, self._bias = model.W_U, model.b_U
        cap = getattr(model.cfg, "output_logits_soft_cap", None)
        self._cap = float(cap) if cap is not None and cap > 0 else None

    def __call__(self, final: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
        return self._capped(final @ self._weight + self._bias)

    def read(
        self, final: Float[Tensor, "m d_model"], ids: Int[Tensor, " m"]
    ) -> Float[Tensor, " m"]:
        """Logit of token `ids[i]` for `final[i]`."""
        return self._capped((final * self._weight.T[ids]).sum(-1) + self._bias[ids])

    def rows(
        self, ids: Int[Tensor, " n"], logits: Float[Tensor, " vocab"]
    ) -> Float[Tensor, "n d_model"]:
        """Derivative of each token's logit with respect to what the unembedding reads."""
        rows = self._weight.T[ids]
        if self._cap is None:
            return rows
        return rows * (1 - (logits[ids] / self._cap).square())[:, None].to(rows)

    def check(self, final: Float[Tensor, "1 d_model"], logits: Float[Tensor, " vocab"]) -> None:
        """Raise ValueError unless these are the logits the model itself has for `final`."""
        error = (self(final)[0] - logits).abs().max()
        coarse = self._weight.dtype in (torch.float16, torch.bfloat16)
        if error > (0.1 if coarse else 1e-3) * (1 + logits.abs().max()):
            raise ValueError(
                "This model turns its last activations into logits in a way that is not known "
                "here (beyond unembedding, bias and soft cap); explain its latents instead."
            )

    def _capped(self, logits: Tensor) -> Tensor:
        return logits if self._cap is None else self._cap * torch.tanh(logits / self._cap)


def _chosen(logits: Tensor, k: int | None, token_ids: Sequence[int] | None) -> list[int] | None:
    vocab = len(logits)
    if token_ids is not None:
        ids = [int(token) for token in token_ids]
        wrong = [token for token in ids if not 0 <= token < vocab]
        if wrong or not ids:
            raise ValueError(f"Tokens {wrong or ids} are not in the vocabulary of {vocab}.")
        return ids
    if k is None:
        return None
    if not 1 <= k <= vocab:
        raise ValueError(f"k is {k}; the vocabulary has {vocab} tokens, so ask for 1 to {vocab}.")
    return [int(token) for token in logits.topk(k).indices.tolist()]
