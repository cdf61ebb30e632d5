"""What does the model lose without a latent? Each removed in turn, all else kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.lease import Lease
from core.models.hooks import Model, run_with_replacements
from core.prompt_latents.active import PromptRead
from core.saes import encode, put_at_site, read_at_site, sae_inputs
from core.saes.writes import writes_at, written_site

_LOGIT_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}


@dataclass(frozen=True, eq=False)
class AblationEffects:
    """How the loss on each next token changes, in nats (float32), when a latent is removed."""

    latents: Int[np.ndarray, " n"]
    """The latents removed, one at a time."""
    increase: Float[np.ndarray, "n pos_minus_1"]
    """Loss of each token after the first without the latent, less the loss with it: above 0
    where the latent helped, exactly 0 before it first fires. Column j is the prediction of token
    j + 1."""
    loss: Float[np.ndarray, " pos_minus_1"]
    """Loss of each token in the undisturbed run."""

    @property
    def mean_increase(self) -> Float[np.ndarray, " n"]:
        """Mean over the text; 0 for a text without a token to predict."""
        if self.increase.shape[1] == 0:
            return np.zeros(len(self.latents), dtype=np.float32)
        return self.increase.mean(axis=1)


@torch.no_grad()
def ablation_effects(
    model: Model,
    sae: SAE,
    tokens: Int[Tensor, "1 pos"],
    latents: Sequence[int] | Int[np.ndarray, " n"],
    *,
    n_leading: int = 1,
    batch_size: int | None = None,
) -> AblationEffects:
    """Run the prompt once for each latent, with what it writes taken out of the SAE's site.

    At every position but the first `n_leading` (1 for a prompt that begins with BOS, 0 for one that
    does not), what it writes there is subtracted from the site (of a transcoder, from the one that
    it predicts), and the SAE's error stays. Several latents share a run, as rows of a batch of
    `batch_size` (by default, 64 MB of logits).

    Raises ValueError for several prompts, a latent that does not exist, or a transcoder that does
    not say which site it writes.
    """
    if tokens.dim() != 2 or len(tokens) != 1:
        raise ValueError(f"tokens are {list(tokens.shape)}; give one prompt as [1, pos].")
    chosen = np.asarray(latents, dtype=np.int64)
    wrong = chosen[(chosen < 0) | (chosen >= sae.cfg.d_sae)]
    if len(wrong):
        raise ValueError(f"There is no latent {wrong[0]}; this SAE has {sae.cfg.d_sae}.")
    n_positions = tokens.shape[1]
    target = written_site(sae)
    clean = sae_inputs(model, sae, tokens)[0]
    activations = encode(sae, clean)
    activations[:n_leading] = 0
    if batch_size is None:
        limit = _LOGIT_BYTES.get(clean.device.type, _LOGIT_BYTES["cpu"])
        batch_size = max(1, limit // (4 * n_positions * int(model.cfg.d_vocab)))
    loss = _losses(model(tokens, return_type="logits"), tokens)
    increase = np.empty((len(chosen), n_positions - 1), dtype=np.float32)
    for start in range(0, len(chosen), batch_size):
        batch = chosen[start : start + batch_size]
        removed = torch.stack([_written(sae, clean, activations, int(latent)) for latent in batch])

        def without(there: Tensor, removed: Tensor = removed) -> Tensor:
            part = read_at_site(sae, there)
            return put_at_site(sae, there, part - removed.reshape(part.shape).to(part))

        copies = tokens.expand(len(batch), -1)
        logits = run_with_replacements(model, copies, {target: without})
        changed = (_losses(logits, copies) - loss).cpu().numpy()
        # What is predicted before the latent first fires cannot change; a batch rounds otherwise.
        fired = (activations[:, batch] > 0).cumsum(dim=0)[:-1].T.cpu().numpy() > 0
        increase[start : start + len(batch)] = np.where(fired, changed, 0.0)
    return AblationEffects(chosen, increase, loss[0].cpu().numpy())


def _written(
    sae: SAE, clean: Float[Tensor, "pos ..."], activations: Float[Tensor, "pos d_sae"], latent: int
) -> Float[Tensor, "pos d_in"]:
    """What the latent adds to the reconstruction at each position; flattened where it has heads."""
    at = activations[:, latent].nonzero()[:, 0]
    written = torch.zeros(len(clean), sae.W_dec.shape[1]).to(activations)
    if not len(at):
        return written
    rows = writes_at(sae, torch.full_like(at, latent), clean[at])
    written[at] = activations[at, latent, None] * rows.to(written)
    return written


def _losses(
    logits: Float[Tensor, "n pos d_vocab"], tokens: Int[Tensor, "n pos"]
) -> Float[Tensor, "n pos_minus_1"]:
    targets = tokens[:, 1:].to(logits.device)
    chosen = logits[:, :-1].gather(-1, targets[..., None])[..., 0].float()
    return logits[:, :-1].float().logsumexp(dim=-1) - chosen


def ablation_key(model: str, sae: tuple[str, str], version: str, text: str, n: int) -> str:
    """Key of the job that removes `n` latents of an SAE from what a model makes of `text`."""
    named = json.dumps([model, sae, version, text, n])
    return "prompt-ablation:" + hashlib.sha256(named.encode()).hexdigest()[:24]


def ablate(lease: Lease, read: PromptRead, n: int) -> AblationEffects:
    """Effects of the `n` most active latents of a text, by the lease's first SAE."""
    latents = read.active.per_latent()["latent"].to_numpy()[:n]
    parts: list[AblationEffects] = []

    def remove(model: Model, saes: list[SAE], first: int, last: int) -> None:
        tokens = torch.tensor([read.token_ids], device=saes[0].W_dec.device)
        some = latents[first:last]
        parts.append(ablation_effects(model, saes[0], tokens, some, n_leading=read.n_leading))

    lease.in_turns(max(1, len(latents)), remove, unit="latents", message="Removing latents")
    return replace(
        parts[0],
        latents=np.concatenate([part.latents for part in parts]),
        increase=np.concatenate([part.increase for part in parts]),
    )
