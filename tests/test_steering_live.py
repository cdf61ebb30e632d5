"""Texts that are told while they are written, and what is read again downstream."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sae_lens import SAE

from core.dossier.kept_steering import keep_steering, kept_of, load_steering
from core.jobs.progress import JobCancelled, Progress
from core.lease import PlainLease
from core.models import Model, cache_sites, hooks_at
from core.patch_scoping.sampling import Sampling
from core.saes import encode
from core.steering import live
from core.steering.downstream import NONE, nearest_later, reached
from core.steering.effects import plain_perplexity, reference_text
from core.steering.intervention import Intervention, Place
from core.steering.prompt import steer_prompt
from core.steering.request import SteerRequest
from core.steering.run import run_steering
from core.steering.steerer import Steerer
from core.store import Store
from core.tokens import token_texts
from tests.builders import make_sae

HERE, LATER = "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"
TEXT = "The river runs under the bridges"


@pytest.fixture(scope="module")
def later() -> SAE:
    return make_sae("standard", d_in=32, d_sae=40, hook_name=LATER)


class Watched(Progress):
    """Keeps all that is published, and may stop the work once so much was."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.seen: list = []
        self._stop_after = stop_after

    def publish(self, partial) -> None:
        super().publish(partial)
        if partial is None:
            return
        self.seen.append(partial)
        if self._stop_after is not None and len(self.seen) > self._stop_after:
            self.cancel()


def request(**others) -> SteerRequest:
    values = {
        "model": "tiny",
        "sae": ("own", HERE),
        "sae_version": "",
        "groups": ((7,), (9,)),
        "prompt": TEXT,
        "chat": False,
        "mode": "add",
        "unit": "absolute",
        "strengths": (4.0, 20.0),
        "place": Place(),
        "largest": (),
        "sampling": Sampling(temperature=1.0, n_samples=2),
        "new_tokens": 6,
        "n_random": 1,
        "after": ("own", LATER, ""),
    }
    return SteerRequest(**{**values, **others})


@pytest.fixture(scope="module")
def whole(tiny_model: Model, tiny_sae: SAE, later: SAE, tmp_path_factory):
    """A run to its end: its progress, result and store."""
    progress, store = Watched(), Store(tmp_path_factory.mktemp("steering"))
    lease = PlainLease(tiny_model, [tiny_sae, later], progress=progress)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "_SECONDS", 0.0)
        yield progress, run_steering(lease, store, request()), store


@pytest.mark.slow
def test_texts_are_told_as_they_grow_and_stay_when_the_work_is_stopped(
    tiny_model: Model, tiny_sae: SAE, later: SAE, whole
) -> None:
    progress, found, store = whole
    assert progress.partial is None, "a result that is there needs no part of it"
    assert found.is_whole
    assert len(found.rows) == found.n_rows == 9
    final = {(it["row"], it["sample"]): it["text"] for it in found.texts.to_dict("records")}
    grown: dict = {}
    for partial in progress.seen:
        assert not partial.is_whole or partial is progress.seen[-1]
        for it in partial.texts.to_dict("records"):
            key = it["row"], it["sample"]
            # A text only ever grows, and ends as what is there in the end.
            assert it["text"].startswith(grown.get(key, ""))
            grown[key] = it["text"]
    assert grown == final
    lengths = [len(it.texts["text"].iloc[0]) for it in progress.seen]
    assert len(set(lengths)) > 3, "told many times"

    # Stopped in the middle: what was there stays, and nothing counts as the result.
    stopped = Watched(stop_after=4)
    with pytest.raises(JobCancelled):
        run_steering(
            PlainLease(tiny_model, [tiny_sae, later], progress=stopped),
            store,
            request(new_tokens=7),
        )
    partial = stopped.partial
    assert not partial.is_whole
    assert partial.rows["kl"].isna().all()
    assert all(partial.texts["text"].str.len() > 0)
    # From the store nothing is told twice.
    again = Watched()
    lease = PlainLease(tiny_model, [tiny_sae, later], progress=again)
    assert run_steering(lease, store, request()).texts.equals(found.texts)
    assert not again.seen


def test_what_is_read_again_is_what_a_hook_reads(
    any_model: Model, tiny_sae: SAE, later: SAE
) -> None:
    prompt = steer_prompt(any_model, tiny_sae, TEXT)
    tokens, first = prompt.tensor(any_model), 3
    rows = [Intervention((), ()), Intervention((7,), (25.0,)), Intervention((9,), (-6.0,))]
    steerer = Steerer(any_model, tiny_sae, rows, n_prompt=len(prompt.tokens), n_leading=1)
    reference = reference_text(any_model, tokens, first)
    readers = [(tiny_sae, [7, 7, 9]), (later, [NONE, 3, 5])]
    found = reached(any_model, steerer, range(3), reference, readers)
    for number, (row, own, further) in enumerate(zip(rows, [7, 7, 9], [NONE, 3, 5], strict=True)):

        def add(activations, hook, row=row):
            changed = activations.clone()
            for latent, strength in zip(row.latents, row.strengths, strict=True):
                changed[:, 1:] += strength * tiny_sae.W_dec[latent]
            return changed

        with hooks_at(any_model, [(HERE, add)]), torch.no_grad():
            sites = cache_sites(any_model, tokens, [HERE, LATER])
        wanted = encode(tiny_sae, sites[HERE])[0, first:, own].mean()
        assert float(found[number, 0]) == pytest.approx(float(wanted), abs=1e-5)
        if further == NONE:
            assert torch.isnan(found[number, 1])
        else:
            wanted = encode(later, sites[LATER])[0, first:, further].mean()
            assert float(found[number, 1]) == pytest.approx(float(wanted), abs=1e-5)
    assert found[1, 0] > found[0, 0], "steered, it is more active"


def test_the_nearest_later_latent_is_that_of_the_highest_cosine(
    tiny_model: Model, tiny_sae: SAE, later: SAE
) -> None:
    own = torch.nn.functional.normalize(tiny_sae.W_dec[[7, 9]].detach(), dim=1)
    cosines = own @ torch.nn.functional.normalize(later.W_dec.detach(), dim=1).T
    for (latent, cosine), row in zip(
        nearest_later(tiny_model, tiny_sae, [7, 9], later), cosines, strict=True
    ):
        assert latent == int(row.argmax())
        assert cosine == pytest.approx(float(row.max()), abs=1e-5)


def test_perplexity_is_that_of_the_texts_alone(any_model: Model) -> None:
    prompt, texts = [0, 9, 17], [[30, 31, 32], [8], [40, 41, 42], []]
    found = plain_perplexity(any_model, prompt, texts)
    for number, text in enumerate(texts):
        if not text:
            assert torch.isnan(found[number])
            continue
        rows = torch.tensor([[*prompt, *text]])
        with torch.no_grad():
            log_probs = any_model(rows, return_type="logits")[0].log_softmax(-1)
        losses = [-float(log_probs[len(prompt) - 1 + i, it]) for i, it in enumerate(text)]
        assert float(found[number]) == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)


@pytest.mark.slow
def test_a_run_is_kept_for_the_dossier_of_its_latent(whole) -> None:
    asked, (_, found, store) = request(), whole
    kept = kept_of(asked, found, 9, link="/steering?x=1", who="Ada")
    keep_steering(store, "weights", 9, kept)
    assert load_steering(store, "weights", 9) == kept
    assert load_steering(store, "weights", 7) is None
    assert load_steering(store, "", 9) is None
    rows = found.rows[(found.rows["kind"] == "unsteered") | (found.rows["group"] == 1)]
    assert [it["kl"] for it in kept.rows] == pytest.approx(rows["kl"].tolist())
    assert [it["kind"] for it in kept.rows] == rows["kind"].tolist()
    shown = kept.block()
    assert "Kept by Ada" in shown.note
    assert found.later[1] in shown.note
    with pytest.raises(ValueError, match="does not steer latent 3 by itself"):
        kept_of(asked, found, 3, link="")
    partial = replace(found, rows=found.rows.head(3))
    with pytest.raises(ValueError, match="stopped before it was whole"):
        kept_of(asked, partial, 9, link="")


def test_the_token_that_ends_a_text_is_no_part_of_it(tiny_model: Model) -> None:
    told, clock = [], iter(range(10))
    writing = live.Writing(
        [{"kind": "unsteered"}, {"kind": "latent"}],
        lambda rows, texts: (rows, texts),
        told.append,
        clock=lambda: float(next(clock)),
    )
    tokens = token_texts(tiny_model.tokenizer)
    river = tiny_model.to_tokens("a river", prepend_bos=False)[0].tolist()
    writing.grows(0, tokens, [(0, 0), (1, 0)], [river, [*river, 0]], {0})
    writing.grows(0, tokens, [(1, 1)], [river[:1]], {0})
    assert [it["text"] for it in told[0][1]] == ["a river", "a river"]
    # What an earlier batch wrote stays while the next is written.
    assert [(it["row"], it["sample"]) for it in told[1][1]] == [(0, 0), (1, 0), (1, 1)]
