"""Meta-SAEs kept and gone on with, their tables and words, and edits of a latent's row."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sae_lens import SAE
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, hypergeom

from core.corpus.documents import pasted_text
from core.corpus.load import default_packing, load_token_set
from core.jobs import JobCancelled, Progress
from core.lease import PlainLease
from core.meta_sae import MetaConfig, edit_effect, edited_row, train_meta_sae
from core.meta_sae.edit_run import EditRequest, run_edit
from core.meta_sae.found import MetaFound
from core.meta_sae.run import MetaRequest, mark_decomposed, run_meta_sae, was_decomposed
from core.meta_sae.tables import (
    evidence_table,
    members_table,
    meta_table,
    neighbours_table,
    parts_table,
    pursuit_table,
)
from core.meta_sae.train import Checkpoint
from core.meta_sae.view import LINK, read_changes, write_changes
from core.meta_sae.words import telling_words
from core.models import Model
from core.saes.writes import residual_directions, unit_writes
from core.store import Store
from tests.builders import make_sae

HOOK = "blocks.1.hook_resid_pre"
WORDS = "The river runs under the bridges of the city. Mary gave a drink to John in 1998; who?"
CONFIG = MetaConfig(share=0.25, k=3, steps=60, batch=64, lr=1e-2)
REQUEST = MetaRequest("tiny", ("r", "a", ""), ("r", "b", ""), CONFIG)


def sae_of(d_sae: int, seed: int = 0, **options: object) -> SAE:
    return make_sae("topk", d_in=32, d_sae=d_sae, hook_name=HOOK, seed=seed, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> MetaFound:
    store = Store(tmp_path_factory.mktemp("meta"))
    lease = PlainLease(tiny_model, [sae_of(96), sae_of(40, seed=1)])
    return run_meta_sae(lease, store, REQUEST)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    config = MetaConfig(share=0.3, k=2, steps=400, batch=32, lr=1e-2)
    kept: list[Checkpoint] = []

    def stop(step: int) -> None:
        if step >= 325:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        train_meta_sae(rows, config, check=stop, keep=kept.append)
    assert [it.step for it in kept] == [250, 325]
    whole = train_meta_sae(rows, config)
    for start in kept:
        told: list[int] = []
        again = train_meta_sae(rows, config, start=start, check=told.append)
        assert told[0] >= start.step
        for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
            np.testing.assert_array_equal(getattr(again, name), getattr(whole, name), err_msg=name)


def test_what_was_trained_is_kept_and_a_cancelled_run_goes_on(
    tiny_model: Model, tmp_path: object, found: MetaFound
) -> None:
    store = Store(tmp_path)  # type: ignore[arg-type]
    saes = [sae_of(96), sae_of(40, seed=1)]

    class Told(Progress):
        """Notes the steps of training, and cancels itself where it is told to."""

        def __init__(self, last: float) -> None:
            super().__init__()
            self.last, self.steps = last, list[float]()

        def update(self, done: float, total: float | None = None, **named: str) -> None:
            if named.get("unit") == "steps":
                self.steps.append(done)
                if done > self.last:
                    self.cancel()
            super().update(done, total, **named)

    with pytest.raises(JobCancelled):
        run_meta_sae(
            PlainLease(tiny_model, saes, progress=Told(2.5 * CONFIG.steps)), store, REQUEST
        )
    assert not was_decomposed(store, REQUEST)
    told = Told(np.inf)
    again = run_meta_sae(PlainLease(tiny_model, saes, progress=told), store, REQUEST)
    assert min(told.steps) > 2 * CONFIG.steps, "two trainings are not done again"
    np.testing.assert_array_equal(again.made.meta.W_dec, found.made.meta.W_dec)
    np.testing.assert_array_equal(again.made.matched, found.made.matched)
    mark_decomposed(store, REQUEST)
    assert was_decomposed(store, REQUEST)
    assert not was_decomposed(store, replace(REQUEST, config=replace(CONFIG, seed=1)))
    stored = run_meta_sae(PlainLease(tiny_model, saes), store, REQUEST)
    np.testing.assert_array_equal(stored.made.acts.toarray(), again.made.acts.toarray())
    assert stored.tokens == again.tokens


def test_tokens_are_those_that_a_meta_latent_boosts(tiny_model: Model, found: MetaFound) -> None:
    sae = sae_of(96)
    assert found.no_tokens == ""
    logits = torch.from_numpy(found.made.meta.W_dec) @ tiny_model.W_U
    best = [tiny_model.tokenizer.decode([int(it)]) for it in logits.argmax(1)]  # type: ignore[union-attr]
    assert all(repr(it)[1:-1] in text for it, text in zip(best, found.tokens, strict=True))
    own = (residual_directions(tiny_model, sae, range(96)) @ tiny_model.W_U).argmax(1)
    first = tiny_model.tokenizer.decode([int(own[5])])  # type: ignore[union-attr]
    assert repr(first)[1:-1] in found.latent_tokens[5]
    assert len(found.latent_tokens) == 96


def test_tables_say_what_the_sparse_matrix_holds(found: MetaFound) -> None:
    made = found.made
    dense = made.acts.toarray()
    texts, words = [f"latent {it}" for it in range(96)], [""] * dense.shape[1]
    table = meta_table(found, words)
    assert list(table["latents"]) == sorted((dense > 0).sum(0), reverse=True)
    top = int(table["meta"].iloc[0])
    members = members_table(made, top, texts)
    assert set(members["latent"]) == set(np.flatnonzero(dense[:, top]))
    assert str(members["latent"].iloc[0]) == table["strongest"].iloc[0].split()[0]
    np.testing.assert_allclose(
        members["share"],
        (dense[:, top] ** 2 / (dense**2).sum(1))[members["latent"]],
        rtol=1e-5,
    )
    place = int((dense > 0).sum(1).argmax())
    parts = parts_table(found, place, words)
    assert set(parts["meta"]) == set(np.flatnonzero(dense[place]))
    assert parts["activation"].is_monotonic_decreasing
    near = neighbours_table(made, place, texts)
    unit = dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(near["likeness"], (unit @ unit[place])[near["latent"]], rtol=1e-4)
    both = ((dense > 0) & (dense[place] > 0)).sum(1)
    np.testing.assert_array_equal(near["shared"], both[near["latent"]])
    assert place not in set(near["latent"])
    evidence = evidence_table(made)
    assert list(evidence["n"]) == [96] * 4
    assert (evidence["low"] <= evidence["explained"]).all()
    assert (evidence["explained"] <= evidence["high"]).all()
    np.testing.assert_allclose(evidence["excess"], evidence["explained"] - evidence["null"])
    assert made.narrower is not None
    assert len(pursuit_table(made.narrower, place, None)) <= CONFIG.k
    with pytest.raises(ValueError, match="no meta-latent"):
        members_table(made, 999, texts)


def test_telling_words_are_those_of_a_test_by_hand() -> None:
    generator = np.random.default_rng(0)
    n, width = 120, 6
    members = csr_array((generator.random((n, width)) < 0.2).astype(float))
    texts = [
        ("rivers and lakes" if members[[row], :].toarray()[0, 2] else "other things")
        + f" number{row % 7}"
        for row in range(n)
    ]
    found = telling_words(members, texts)
    assert "rivers" in found[2]
    size = int(members[:, [2]].sum())
    assert f"rivers ({size})" in found[2]
    assert all("rivers" not in it for at, it in enumerate(found) if at != 2)
    p = hypergeom.sf(size - 1, n, size, size)
    assert false_discovery_control([p, 1.0])[0] < 0.05
    assert telling_words(members, [""] * n) == [""] * width
    with pytest.raises(ValueError, match="one for each"):
        telling_words(members, texts[:3])


def test_an_edited_row_is_the_old_one_with_another_part(found: MetaFound) -> None:
    meta, made = found.made.meta, found.made
    row = 3 * unit_writes(sae_of(96), [7])[0].numpy()
    unit = row / np.linalg.norm(row)
    acts = meta.encode(unit[None].astype(np.float32)).toarray()[0]
    own = int(acts.argmax())
    assert acts[own] > 0
    other = int(acts.argmin())
    same = edited_row(meta, row, [(own, own, 1.0)])
    np.testing.assert_allclose(same, row, rtol=1e-4, atol=1e-6)
    swapped = edited_row(meta, row, [(own, other, 2.0)])
    by_hand = unit - acts[own] * meta.W_dec[own] + 2 * acts[own] * meta.W_dec[other]
    by_hand *= np.linalg.norm(row) / np.linalg.norm(by_hand)
    np.testing.assert_allclose(swapped, by_hand, rtol=1e-4, atol=1e-6)
    assert made.place(7) == 7
    for changes, words in (
        ([], "Nothing is changed"),
        ([(other, own, 1.0)], "not part of this latent"),
        ([(own, 10_000, 1.0)], "no meta-latent"),
    ):
        with pytest.raises(ValueError, match=words):
            edited_row(meta, row, changes)
    with pytest.raises(ValueError, match="row is zero"):
        edited_row(meta, 0 * row, [(own, own, 0.0)])


@pytest.mark.parametrize("site", [HOOK, "blocks.1.attn.hook_z"])
def test_an_edit_does_what_a_hook_by_hand_does(tiny_model: Model, site: str) -> None:
    sae = make_sae("jumprelu", d_in=32, d_sae=64, hook_name=site, seed=3)
    packing = replace(default_packing(tiny_model, sae, context=16), max_tokens=200)
    text = load_token_set(pasted_text("\n\n".join([WORDS] * 9)), tiny_model.tokenizer, packing)
    ids = torch.from_numpy(text.tokens.astype(np.int64))
    mask = torch.from_numpy(text.mask)
    _, cache = tiny_model.run_with_cache(ids)
    acts = sae.encode(cache[site])
    latent = int((acts > 0).float()[mask].mean(0).sub(0.4).abs().argmin())
    row = unit_writes(sae, [latent])[0]
    new = row + torch.randn(32, generator=torch.Generator().manual_seed(1))
    effect = edit_effect(PlainLease(tiny_model, [sae]), latent, new.numpy(), "The river", text)

    def edited(there: torch.Tensor, hook: object) -> torch.Tensor:
        added = acts[..., latent, None] * (new - row) * mask[..., None]
        return there + added.view(there.shape)

    clean = tiny_model(ids)[:, :-1].log_softmax(-1)
    other = tiny_model.run_with_hooks(ids, fwd_hooks=[(site, edited)])[:, :-1].log_softmax(-1)
    kl = (clean.exp() * (clean - other)).sum(-1)
    counts = mask[:, 1:]
    assert effect.n_tokens == int(counts.sum())
    assert effect.kl.value == pytest.approx(float(kl[counts].mean()), rel=1e-3, abs=1e-7)
    fires = counts & mask[:, :-1] & (acts[:, :-1, latent] > 0)
    assert 0 < effect.n_firing == int(fires.sum()) < effect.n_tokens
    assert effect.kl_firing.value == pytest.approx(float(kl[fires].mean()), rel=1e-3, abs=1e-7)
    own = ids[:, 1:, None]
    change = (clean.gather(2, own) - other.gather(2, own))[..., 0]
    assert effect.loss_change.value == pytest.approx(float(change[counts].mean()), abs=1e-6)
    assert effect.kl_random > 0
    assert effect.kl.low <= effect.kl.value <= effect.kl.high
    assert np.abs(effect.answers["change"]).is_monotonic_decreasing
    sums = effect.answers["after"] - effect.answers["before"] - effect.answers["change"]
    np.testing.assert_allclose(sums, 0, atol=1e-6)
    nothing = edit_effect(PlainLease(tiny_model, [sae]), latent, row.numpy(), "The river", text)
    assert nothing.kl.value == pytest.approx(0, abs=1e-6)
    assert nothing.kl_removed > 0


def test_an_edit_is_kept_and_what_cannot_be_edited_is_refused(
    tiny_model: Model, tmp_path: object
) -> None:
    store, sae = Store(tmp_path), sae_of(96)  # type: ignore[arg-type]
    lease = PlainLease(tiny_model, [sae])
    meta = replace(REQUEST, narrower=None)
    made = run_meta_sae(lease, store, meta).made
    latent = int(made.latents[np.diff(made.acts.indptr).argmax()])
    own = int(made.acts[[latent]].indices[0])
    corpus = pasted_text(" ".join([WORDS] * 9))
    request = EditRequest(meta, latent, ((own, own, 0.0),), "The river", corpus, 200)
    first, again = run_edit(lease, store, request), run_edit(lease, store, request)
    assert first.kl == again.kl
    assert list(again.prompt["text"]) == list(first.prompt["text"])
    assert request.key != replace(request, prompt="A").key
    with pytest.raises(ValueError, match="empty"):
        run_edit(lease, store, replace(request, prompt=" "))
    scaled = make_sae(
        "standard", d_in=32, d_sae=96, hook_name=HOOK, normalize_activations="layer_norm"
    )
    text = load_token_set(corpus, tiny_model.tokenizer, default_packing(tiny_model, scaled))
    with pytest.raises(ValueError, match="in another's place"):
        edit_effect(PlainLease(tiny_model, [scaled]), 0, np.ones(32, np.float32), "A", text)
    elsewhere = make_sae("topk", d_in=32, d_sae=40, hook_name="blocks.2.hook_resid_pre")
    with pytest.raises(ValueError, match="of the same site"):
        run_meta_sae(PlainLease(tiny_model, [sae, elsewhere]), store, REQUEST)
    with pytest.raises(ValueError, match="choose a wider SAE"):
        run_meta_sae(PlainLease(tiny_model, [sae_of(12)]), store, meta)


def test_a_link_carries_the_decomposition_and_its_edit() -> None:
    changes = ((12, 12, 0.0), (40, 55, 1.5))
    assert read_changes(write_changes(changes)) == changes
    assert write_changes(changes) == "12:0,40>55:1.5"
    view, problems = LINK.parse({"as": "paper", "change": "3:2", "ask": "Hello", "meta": "9"})
    assert problems == ()
    assert view.changes == ((3, 3, 2.0),)
    assert view.config.lr == 1e-3
    assert LINK.to_parameters(view)["change"] == "3:2"
    for text in ("a:1", "3:x", "3:1,3:2", "-1:1", ",".join(f"{it}:1" for it in range(20))):
        _, problems = LINK.parse({"change": text})
        assert problems, text
