"""The SAE as a whole: quality beside the model alone, stitching beside one by one, absorption
beside a word at a time, a meta-SAE beside dense steps.

Where the straightforward way would take too long, some of it is timed and multiplied.
"""

import sys

import numpy as np
import torch
from sae_lens import SAE
from sklearn.linear_model import LogisticRegression

from benchmarks.table import DEVICE, Row, print_table, seconds_of
from core.absorption import Concept, Sites, absorption_of, text_sites, token_concepts
from core.corpus import TokenSet, default_packing, docs_sample, load_token_set
from core.enrichment.builtin import builtin_sets
from core.lease import PlainLease
from core.meta_sae import MetaConfig, train_meta_sae
from core.models import Model, cache_sites, load_model
from core.sae_quality import measure_quality
from core.saes import encode, load_sae_from_disk, sae_hook_name
from core.saes.writes import unit_writes
from core.settings import REPOSITORY
from core.stitching import insertion_deltas
from core.tokens import vocabulary_texts

DEMO = REPOSITORY / "demo"
_TOKENS = 100_000
_FEW_TOKENS, _ONE_BY_ONE = 8192, 16
_CONCEPTS, _ABSORPTION_TOKENS, _SOME = 30, 50_000, 2
_META_STEPS = 60
_BATCH_ROWS = 16


def print_sae_quality() -> None:
    """The table."""
    print_table([quality_row(), stitching_row(), meta_sae_row()])
    print_absorption()


def quality_row() -> Row:
    """All figures of quality beside the model and a dense encoder on the same text."""
    model, sae = _model(), _sae(4096)
    tokens = _text(model, sae, _TOKENS)
    return Row(
        f"{_TOKENS:,} tokens: model and encoder of 4,096 latents alone / with all of its quality",
        lambda: [encode(sae, site) for site in _sites(model, sae, tokens)],
        lambda: measure_quality(PlainLease(model, [sae]), tokens),
        repeats=1,
    )


def stitching_row() -> Row:
    """Each latent put into the narrow SAE on its own, from the time of 16, or all in one pass."""
    model, narrow, wide = _model(), _sae(1024), _sae(4096)
    tokens = _text(model, narrow, _FEW_TOKENS)

    @torch.no_grad()
    def one_by_one() -> object:
        found = []
        for latent in range(_ONE_BY_ONE):
            total = 0.0
            for site in _sites(model, narrow, tokens):
                x = site.flatten(0, 1)
                rest = x - narrow(x)
                added = encode(wide, x)[:, latent, None] * wide.W_dec[latent]
                total += float((rest - added).pow(2).sum() - rest.pow(2).sum())
            found.append(total)
        return found

    return Row(
        f"Stitching, {_FEW_TOKENS:,} tokens: {_ONE_BY_ONE} latents put in one by one / all 4,096",
        one_by_one,
        lambda: insertion_deltas(PlainLease(model, [narrow, wide]), tokens),
        repeats=1,
    )


def meta_sae_row() -> Row:
    """Some steps of a meta-SAE of 4,096 rows: autograd with a dense top-k, or the sparse ones."""
    rows = unit_writes(_sae(4096), range(4096)).cpu().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    config = MetaConfig(steps=_META_STEPS)
    return Row(
        f"Meta-SAE of 4,096 rows, {_META_STEPS} of 1,500 steps: dense top-k and autograd / "
        "`core.meta_sae`",
        lambda: _dense_training(rows, config),
        lambda: train_meta_sae(rows, config),
        repeats=1,
    )


def _dense_training(rows: np.ndarray, config: MetaConfig) -> None:
    """The same steps as one would write them first."""
    generator = torch.Generator().manual_seed(config.seed)
    centred = torch.from_numpy(rows - rows.mean(0))
    start = torch.randn(config.width(len(rows)), rows.shape[1], generator=generator)
    W_dec = (start / start.norm(dim=1, keepdim=True)).requires_grad_()
    W_enc = W_dec.detach().T.clone().requires_grad_()
    b_enc = torch.zeros(len(start), requires_grad=True)
    adam = torch.optim.Adam([W_enc, b_enc, W_dec], lr=config.lr, betas=(0.9, config.beta2))
    for _ in range(config.steps):
        x = centred[torch.randint(len(centred), (config.batch,), generator=generator)]
        scores = torch.relu(x @ W_enc + b_enc)
        best = scores.flatten().topk(config.batch * config.k)
        acts = torch.zeros_like(scores).flatten().scatter(0, best.indices, best.values)
        loss = (acts.view_as(scores) @ W_dec - x).pow(2).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            W_dec /= W_dec.norm(dim=1, keepdim=True)


def print_absorption() -> None:
    """A concept after the other and a word after the other, as SAEBench describes it, or batched.

    Theirs is timed on some concepts and multiplied to as many as ours has; ours has three nulls
    and intervals besides, each of which repeats the whole analysis.
    """
    model, sae = _model(), _sae(2048)
    lease = PlainLease(model, [sae])
    tokens = _text(model, sae, _ABSORPTION_TOKENS)
    sites = text_sites(lease, tokens)
    found, _ = token_concepts(builtin_sets(vocabulary_texts(model)), sites)
    concepts = [found[it] for it in np.linspace(0, len(found) - 1, _CONCEPTS).astype(int)]
    some = concepts[:: len(concepts) // _SOME][:_SOME]
    ours = seconds_of(lambda: absorption_of(text_sites(lease, tokens), concepts))
    plain = seconds_of(lambda: [_word_by_word(sites, it) for it in some])
    plain *= len(concepts) / len(some)
    claim = (
        f"Absorption of {len(concepts)} concepts in 2,048 latents: word by word, from the time for "
        f"{len(some)} / batched, with nulls and intervals"
    )
    write = sys.stdout.write
    write(f"| {claim} | {plain:.0f} s | {ours:.1f} s | {plain / ours:.1f}× |\n")


def _word_by_word(sites: Sites, concept: Concept) -> tuple[float, float]:
    """Rates of one concept: sklearn's probes on dense activations, Python's loop over words."""
    dense = sites.acts.toarray()
    label = concept.label
    probe = LogisticRegression(max_iter=500, class_weight="balanced").fit(sites.x, label)
    p = probe.coef_[0] / np.linalg.norm(probe.coef_[0])
    chosen = LogisticRegression(
        penalty="l1", solver="liblinear", C=0.1, class_weight="balanced", max_iter=50
    ).fit(dense, label)
    order = np.argsort(-chosen.coef_[0])
    best, mains = 0.0, order[:1]
    for k in range(1, 11):
        some = dense[:, order[:k]]
        score = LogisticRegression(max_iter=500, class_weight="balanced").fit(some, label)
        f1 = score.score(some, label)
        if f1 < best + 0.03:
            break
        best, mains = f1, order[:k]
    cosine = sites.rows @ p / np.linalg.norm(sites.rows, axis=1)
    full, fraction, n = 0, 0.0, 0
    for i in np.flatnonzero(label & probe.predict(sites.x).astype(bool)):
        n += 1
        projection = float(sites.x[i] @ p)
        added = {j: dense[i, j] * cosine[j] for j in range(len(cosine)) if j not in mains}
        ranked = sorted(added, key=lambda j: -added[j])
        silent = bool((dense[i, mains] < 1e-8).all())
        if silent and projection > 0 and added[ranked[0]] / projection >= 0.4:
            full += 1
        others = sum(added[j] for j in ranked[:3] if cosine[j] >= 0.1 and dense[i, j] > 0)
        own = float(dense[i, mains] @ cosine[mains])
        if projection > 0 and own < projection and others / projection >= 0.4:
            least = min(others, projection - own)
            fraction += 1.0 if own <= 0 else least / (least + own)
    return full / max(1, n), fraction / max(1, n)


def _model() -> Model:
    return load_model(DEMO / "models/docs-small", device=DEVICE)


def _sae(width: int) -> SAE:
    folder = DEMO / f"saes/docs-small-res-splitting/blocks.2.hook_resid_pre_{width}"
    return load_sae_from_disk(folder, device=DEVICE)


def _text(model: Model, sae: SAE, n_tokens: int) -> TokenSet:
    packing = default_packing(model, sae, layout="windows", max_tokens=n_tokens)
    return load_token_set(docs_sample(), model.tokenizer, packing)


@torch.no_grad()
def _sites(model: Model, sae: SAE, token_set: TokenSet) -> list[torch.Tensor]:
    tokens = torch.from_numpy(token_set.tokens.astype(np.int64)).to(DEVICE)
    name = sae_hook_name(sae)
    return [cache_sites(model, rows, [name])[name] for rows in tokens.split(_BATCH_ROWS)]
