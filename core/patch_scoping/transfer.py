"""Does an SAE of the base model still fit the tuned model that is to explain its latents?

ARENA explains latents of an SAE trained on the base model with the tuned model. That holds as
far as the SAE reconstructs the tuned model's activations: measured on both models, on one text.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.lease import Lease
from core.models import Model, cache_sites, run_with_replacements
from core.saes import encode, put_at_site, read_at_site, reconstruct, sae_hook_name
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec

SAMPLE_TOKENS = 20_000
"""Tokens on which an SAE's fit is measured."""
_VERSION = 2


@dataclass(frozen=True)
class QualitySums:
    """Sums over positions, which add up over batches of text."""

    n: float = 0.0
    """Positions."""
    active: float = 0.0
    """Latents that fire, summed."""
    error: float = 0.0
    """Squared reconstruction errors."""
    squares: float = 0.0
    """Squared norms of the activations."""
    total: Float[np.ndarray, " d_in"] | float = 0.0
    """Sum of the activations."""
    cosine: float = 0.0
    """Cosines of activations with their reconstructions."""
    norm: float = 0.0
    """Norms of the activations."""
    n_predicted: float = 0.0
    """Next tokens that were predicted."""
    loss: float = 0.0
    """Their losses, in nats."""
    loss_spliced: float = 0.0
    """Losses with the reconstruction in the activations' place."""
    loss_ablated: float = 0.0
    """Losses with zeros in the activations' place."""

    def __add__(self, other: "QualitySums") -> "QualitySums":
        """The sums over both."""
        return QualitySums(
            **{
                field.name: getattr(self, field.name) + getattr(other, field.name)
                for field in fields(self)
            }
        )


@dataclass(frozen=True)
class Quality:
    """How well an SAE reconstructs one model's activations."""

    n_tokens: int
    """Positions measured."""
    l0: float
    """Latents that fire, a position."""
    explained_variance: float
    """1 - squared error / variance; can be negative."""
    cosine: float
    """Mean cosine of an activation with its reconstruction."""
    norm: float
    """Mean norm of the activations."""
    loss: float
    """Mean next-token loss of the model, in nats."""
    loss_spliced: float
    """The same with the reconstruction in the activations' place."""
    loss_recovered: float
    """1 where splicing costs nothing, 0 where it costs as much as zeros in that place."""


_QUALITY = dataclass_codec(Quality)


def quality_sums(
    model: Model,
    sae: SAE,
    tokens: Int[Tensor, "batch pos"],
    counts: Bool[Tensor, "batch pos"],
    *,
    losses: bool = True,
) -> QualitySums:
    """Run rows of tokens three times: as they are, with the SAE spliced in, and with zeros.

    Positions that do not count (BOS, padding) are neither measured nor changed. Without `losses`
    the model runs once, up to the SAE's site, and no loss is known.
    """
    name = sae_hook_name(sae)
    with torch.no_grad():
        site, loss = _as_it_is(model, sae, tokens, counts, losses=losses)
        x = site[counts]
        acts = encode(sae, x)
        flat = x.reshape(len(x), -1).double()
        error = reconstruct(sae, x).reshape(len(x), -1).double() - flat
        norms = flat.norm(dim=1)
        cosine = torch.cosine_similarity(flat, flat + error, dim=1)
        place = counts.reshape(*counts.shape, *(1 for _ in site.shape[2:]))

        def spliced(activations: Tensor) -> Tensor:
            part = read_at_site(sae, activations)
            rebuilt = reconstruct(sae, part).reshape(part.shape)
            return put_at_site(sae, activations, torch.where(place, rebuilt.to(part), part))

        def ablated(activations: Tensor) -> Tensor:
            part = read_at_site(sae, activations)
            return put_at_site(sae, activations, torch.where(place, torch.zeros_like(part), part))

        with_sae, without = (
            _loss(run_with_replacements(model, tokens, {name: it}), tokens, counts)
            if losses
            else float("nan")
            for it in (spliced, ablated)
        )
    return QualitySums(
        n=float(len(x)),
        active=float((acts > 0).sum()),
        error=float(error.pow(2).sum()),
        squares=float(flat.pow(2).sum()),
        total=flat.sum(0).cpu().numpy(),
        cosine=float(cosine.sum()),
        norm=float(norms.sum()),
        n_predicted=float(counts[:, 1:].sum()),
        loss=loss,
        loss_spliced=with_sae,
        loss_ablated=without,
    )


def _as_it_is(
    model: Model, sae: SAE, tokens: Tensor, counts: Tensor, *, losses: bool
) -> tuple[Tensor, float]:
    """What the SAE reads, and the summed loss of the model unchanged; both from one run."""
    name = sae_hook_name(sae)
    if not losses:
        return read_at_site(sae, cache_sites(model, tokens, [name])[name]), float("nan")
    seen: list[Tensor] = []

    def look(activations: Tensor) -> Tensor:
        seen.append(activations.clone())  # what comes after may write in place
        return activations

    logits = run_with_replacements(model, tokens, {name: look})
    return read_at_site(sae, seen[0]), _loss(logits, tokens, counts)


def _loss(logits: Tensor, tokens: Tensor, counts: Tensor) -> float:
    label = tokens[:, 1:].masked_fill(~counts[:, 1:], -100)
    each = logits[:, :-1].float().flatten(0, 1)
    return float(F.cross_entropy(each, label.flatten(), reduction="sum"))


def quality(sums: QualitySums) -> Quality:
    """The figures that the sums amount to.

    Raises ValueError when nothing was measured.
    """
    n, m = sums.n, sums.n_predicted
    if n < 2 or m < 1:
        raise ValueError("There is no text to measure the SAE on; give a few sentences or more.")
    variance = sums.squares - float(np.square(sums.total).sum()) / n
    worst = sums.loss_ablated - sums.loss
    return Quality(
        n_tokens=int(n),
        l0=sums.active / n,
        explained_variance=1 - sums.error / variance if variance > 0 else float("nan"),
        cosine=sums.cosine / n,
        norm=sums.norm / n,
        loss=sums.loss / m,
        loss_spliced=sums.loss_spliced / m,
        loss_recovered=(sums.loss_ablated - sums.loss_spliced) / worst if worst else float("nan"),
    )


def transfer_sentence(base: Quality, tuned: Quality) -> str:
    """What the two qualities say about explaining the base model's latents with the tuned model."""
    lost = base.explained_variance - tuned.explained_variance
    figures = (
        f"it explains {tuned.explained_variance:.0%} of the variance there and "
        f"{base.explained_variance:.0%} on the model it was trained on"
    )
    if lost <= 0.05:
        return f"The SAE carries over to the tuned model: {figures}."
    if lost <= 0.2:
        return f"The SAE carries over in part: {figures}. Read the texts with some care."
    return f"The SAE does not carry over: {figures}. The texts may be about something else."


def measure_quality(lease: Lease, store: Store, corpus: Corpus, *, losses: bool = True) -> Quality:
    """How well the lease's SAE reconstructs its model's activations on a sample of the corpus.

    Without `losses`, which cost several runs of the whole model, they may be NaN.

    Raises ValueError for a corpus that cannot be read.
    """
    with lease.turn() as (model, (sae,)):
        packing = default_packing(model, sae, max_tokens=SAMPLE_TOKENS)
    tokens = load_token_set(corpus, lease.tokenizer, packing, store=store, progress=lease.progress)
    parameters = {
        "model": lease.model_fingerprint,
        "sae": lease.sae_fingerprints[0],
        "tokens": tokens.digest,
    }
    key = Key("sae-quality", _VERSION, parameters)
    kept = store.get(key, _QUALITY)
    if kept is None and not losses:
        key = Key("sae-quality", _VERSION, {**parameters, "losses": False})
        kept = store.get(key, _QUALITY)
    if kept is not None:
        return kept
    sums = QualitySums()

    def measure(model: Model, saes: list[SAE], first: int, last: int) -> None:
        nonlocal sums
        device = next(model.parameters()).device
        rows = torch.from_numpy(tokens.tokens[first:last].astype(np.int64)).to(device)
        counts = torch.from_numpy(tokens.mask[first:last]).to(device)
        sums = sums + quality_sums(model, saes[0], rows, counts, losses=losses)

    lease.in_turns(tokens.n_rows, measure, unit="rows", message="Reading a text")
    measured = quality(sums)
    store.keep(key, measured, _QUALITY)
    return measured
