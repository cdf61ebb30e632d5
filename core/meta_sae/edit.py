"""A latent's row edited by its meta-latents: does the model answer otherwise, at which price?

Where the latent fires with activation a, the model's site gets a·(new row − row) on top of what
stands there: all else of the SAE, its error included, stays. Beside the edit stand the same done
with random directions, and the latent taken out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from core.corpus.prompt import prompt_for
from core.corpus.token_set import TokenSet
from core.fit_check.loss import site_replaced
from core.fit_check.sums import Figure, draws, figure
from core.lease import Lease
from core.meta_sae.meta import MetaSae
from core.models.hooks import Model, run_with_replacements
from core.sae_quality.measure import batches_of, ids_of
from core.saes import check_fits, encode, read_at_site, sae_hook_name
from core.saes.writes import input_scale, unit_writes, written_site
from core.tokens import row_texts, vocabulary_texts

N_RANDOM = 16
"""Random directions beside an edit's answer; of these, `_HELD_OUT_RANDOM` on held-out text."""
_HELD_OUT_RANDOM = 4
_BATCH_TOKENS = 1024
_LISTED = 8

Change = tuple[int, int, float]
"""(meta-latent of the row, the one that takes its place, factor of its activation)."""


@dataclass(frozen=True, eq=False)
class EditEffect:
    """What an edited row does."""

    cosine: float
    """Of the new row with the old."""
    prompt: pd.DataFrame
    """The prompt's tokens: `text`, `activation` of the latent."""
    answers: pd.DataFrame
    """Next tokens after the prompt, those that change most first: `token`, `before`, `after`,
    `change` (probabilities), `random_low` and `random_high` (the same change with random
    directions: lowest and highest of 16), `removed` (change with the latent taken out)."""
    answer_kl: float
    """KL(model ‖ edited) of the prediction after the prompt, in nats."""
    answer_kl_random: tuple[float, ...]
    """The same with random directions."""
    kl: Figure
    """Mean KL(model ‖ edited) on held-out text, in nats a token; 95 % by bootstrap over rows."""
    kl_firing: Figure
    """The same where the latent fires; NaN where it never does."""
    kl_random: float
    """Mean over random directions on held-out text."""
    kl_removed: float
    """With the latent taken out."""
    loss_change: Figure
    """Loss on held-out text less the model's own, in nats a token."""
    n_tokens: int
    """Predictions of held-out text."""
    n_firing: int
    """Of these, where the latent fires."""


def edited_row(
    meta: MetaSae, row: Float[np.ndarray, " d"], changes: Sequence[Change]
) -> Float[np.ndarray, " d"]:
    """A latent's row with some of its meta-latents scaled or swapped, as long as before.

    Raises:
        ValueError: no change, a meta-latent that does not exist or is not of the row, or a row
            without a direction or of which nothing is left.
    """
    length = float(np.linalg.norm(row))
    if not changes or not length > 0:
        raise ValueError(
            "Nothing is changed in this row; choose a meta-latent to scale or swap."
            if length > 0
            else "This latent's row is zero, so it has no meta-latents; choose another latent."
        )
    unit = (row / length).astype(np.float32)
    acts = meta.encode(unit[None]).toarray()[0]
    new = unit.copy()
    for before, after, factor in changes:
        if not (0 <= before < len(acts) and 0 <= after < len(acts)):
            raise ValueError(
                f"There is no meta-latent {before if before >= len(acts) else after}; choose 0 to "
                f"{len(acts) - 1}."
            )
        if acts[before] <= 0:
            own = ", ".join(map(str, np.flatnonzero(acts))) or "none"
            raise ValueError(f"Meta-latent {before} is not part of this latent; its own are {own}.")
        new += acts[before] * (np.float32(factor) * meta.W_dec[after] - meta.W_dec[before])
    left = float(np.linalg.norm(new))
    if left < 1e-6:
        raise ValueError("Nothing of the row is left; change less of it.")
    return (new * (length / left)).astype(np.float32)


def edit_effect(
    lease: Lease,
    latent: int,
    new_row: Float[np.ndarray, " d"],
    prompt: str,
    held_out: TokenSet,
    *,
    seed: int = 0,
) -> EditEffect:
    """What the lease's first SAE's latent does with another row, in place of `unit_writes`.

    Raises:
        ValueError: an SAE that rescales each input, a prompt that cannot be read, a text without a
            prediction.
    """
    with lease.turn() as (model, (sae, *_)):
        check_fits(sae, model)
        if input_scale(sae) is not None:
            raise ValueError(
                "This SAE multiplies what its latents write by a measure of each input "
                f"({sae.cfg.normalize_activations}), so one row cannot be put in another's place; "
                "choose an SAE without that."
            )
        row = unit_writes(sae, [latent])[0].float().cpu()
        arms = _arms(row, torch.from_numpy(new_row), seed)
        shown, answers, kls = _answers(model, sae, latent, arms, prompt)
    batches = batches_of(held_out, _BATCH_TOKENS)
    few = [0, 1, *range(2, 2 + _HELD_OUT_RANDOM)]
    parts: list[np.ndarray] = []

    def read(model: Model, saes: list[SAE], first: int, last: int) -> None:
        for rows in batches[first:last]:
            lease.progress.check()
            parts.append(_sums(model, saes[0], latent, arms[few], held_out, rows))

    lease.in_turns(len(batches), read, unit="batches", message="Reading held-out text")
    sums = np.concatenate(parts)
    sums = sums[sums[:, 0, 2] > 0]
    if len(sums) == 0:
        raise ValueError("The held-out text has nothing to predict; choose a longer one.")
    weights, whole = draws(len(sums)), sums.sum(0)

    def shown_figure(column: int, count: int) -> Figure:
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = (weights @ sums[:, 0, column]) / (weights @ sums[:, 0, count])
            value = float(whole[0, column] / whole[0, count])
        return figure(value, samples, rows=len(sums))

    per_token = whole[:, 0] / whole[0, 2]
    return EditEffect(
        cosine=float(F.cosine_similarity(row, torch.from_numpy(new_row), dim=0)),
        prompt=shown,
        answers=answers,
        answer_kl=kls[0],
        answer_kl_random=tuple(kls[2:]),
        kl=shown_figure(0, 2),
        kl_firing=shown_figure(1, 3),
        kl_random=float(per_token[2:].mean()),
        kl_removed=float(per_token[1]),
        loss_change=shown_figure(4, 2),
        n_tokens=int(whole[0, 2]),
        n_firing=int(whole[0, 3]),
    )


def _arms(row: Tensor, new_row: Tensor, seed: int) -> Float[Tensor, "arms d"]:
    """What is added for each unit of activation: the edit, the removal, and random directions as
    long as the edit."""
    change = new_row - row
    drawn = torch.randn(N_RANDOM, len(row), generator=torch.Generator().manual_seed(seed))
    drawn = drawn / drawn.norm(dim=1, keepdim=True) * change.norm()
    return torch.cat([change[None], -row[None], drawn])


def _replaced(
    sae: SAE, latent: int, arms: Tensor, mask: Tensor, n_texts: int
) -> tuple[dict[str, object], list[Tensor]]:
    """Hooks for a batch of `arms` times `n_texts` rows, texts within arms; and where the
    activations of the latent on the texts will be found."""
    seen: list[Tensor] = []

    def make(read: Tensor, site: Tensor) -> Tensor:
        part = read_at_site(sae, site)
        a = encode(sae, read_at_site(sae, read[:n_texts])).to_dense()[..., latent]
        seen.append(a)
        added = a[None, ..., None] * arms.to(a)[:, None, None]
        return part + added.flatten(0, 1).reshape(part.shape).to(part)

    hook, out = sae_hook_name(sae), written_site(sae)
    return dict(site_replaced(sae, mask, hook, out, make)), seen


@torch.no_grad()
def _answers(
    model: Model, sae: SAE, latent: int, arms: Tensor, text: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[float]]:
    prompt = prompt_for(model, [sae], text)
    if prompt.omitted:
        raise ValueError(
            f"The prompt is {prompt.omitted} tokens longer than the model takes; shorten it."
        )
    tokens = prompt.tokens
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[:, : prompt.n_leading] = False
    replaced, seen = _replaced(sae, latent, arms, mask.expand(len(arms), -1), 1)
    clean = run_with_replacements(model, tokens, {})[0, -1].float().log_softmax(-1)
    copies = tokens.expand(len(arms), -1)
    other = run_with_replacements(model, copies, replaced)[:, -1].float().log_softmax(-1)  # type: ignore[arg-type]
    kls = F.kl_div(other, clean.expand_as(other), reduction="none", log_target=True).sum(-1)
    before, after = clean.exp(), other.exp()
    change = after - before
    chosen = torch.cat(
        [it.topk(min(_LISTED, len(it))).indices for it in (before, after[0], change[0].abs())]
    ).unique()
    chosen = chosen[change[0, chosen].abs().argsort(descending=True, stable=True)]
    texts = vocabulary_texts(model).array
    answers = pd.DataFrame(
        {
            "token": texts[chosen.cpu().numpy()],
            "before": before[chosen].cpu().numpy(),
            "after": after[0, chosen].cpu().numpy(),
            "change": change[0, chosen].cpu().numpy(),
            "random_low": change[2:, chosen].min(0).values.cpu().numpy(),
            "random_high": change[2:, chosen].max(0).values.cpu().numpy(),
            "removed": change[1, chosen].cpu().numpy(),
        }
    )
    a = seen[0][0].float().cpu().numpy() * mask[0].cpu().numpy()
    shown = pd.DataFrame({"text": row_texts(model.tokenizer, prompt.ids).cells, "activation": a})
    return shown, answers, [float(it) for it in kls.clamp_min(0)]


@torch.no_grad()
def _sums(
    model: Model, sae: SAE, latent: int, arms: Tensor, tokens: TokenSet, rows: slice
) -> Float[np.ndarray, "rows arms 5"]:
    """Of each row and arm: KL, KL where the latent fires, predictions, those where it fires, and
    the change of the loss."""
    ids, mask = ids_of(model, tokens, rows)
    mask = mask.to(ids.device)
    clean = run_with_replacements(model, ids, {})[:, :-1].float().log_softmax(-1)
    counts = mask[:, 1:].double()
    found = []
    for arm in arms:
        replaced, seen = _replaced(sae, latent, arm[None], mask, len(ids))
        other = run_with_replacements(model, ids, replaced)[:, :-1].float().log_softmax(-1)  # type: ignore[arg-type]
        kl = F.kl_div(other, clean, reduction="none", log_target=True).sum(-1).double() * counts
        fires = (seen[0][:, :-1] > 0).double() * mask[:, :-1] * counts
        own = ids[:, 1:, None].long()
        loss = (clean.gather(2, own) - other.gather(2, own))[..., 0].double() * counts
        found.append(
            torch.stack(
                [kl.sum(1), (kl * fires).sum(1), counts.sum(1), fires.sum(1), loss.sum(1)], 1
            )
        )
    return torch.stack(found, 1).cpu().numpy()
