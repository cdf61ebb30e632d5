"""Latents of the demo whose nature is known beforehand: does the dossier say it?

One-word latents, a dead one, and random directions in place of latents, on little text.
"""

import numpy as np
import pytest

from core.autointerp.controls import control_sae
from core.corpus.docs import docs_sample
from core.dossier import scoring, shared
from core.dossier.conclude import conclude
from core.dossier.request import DossierRequest
from core.dossier.run import run_dossiers
from core.dossier.shared import Shared
from core.lease import PlainLease
from core.models import load_model
from core.patch_scoping.reading import peak_words
from core.saes import load_sae_from_disk
from core.settings import REPOSITORY
from core.store import Store

pytestmark = pytest.mark.slow

DEMO = REPOSITORY / "demo"
RELEASE, HOOK = "docs-small-res", "blocks.1.hook_resid_pre"
PARTS = ("reads", "says")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Shared evidence on the real SAE, and a function that gives dossiers of latents of an SAE."""
    patch = pytest.MonkeyPatch()
    for module, name, value in (
        (shared, "HELD_OUT_TOKENS", 12_000),
        (shared, "SAMPLE_TOKENS", 8_000),
        (scoring, "SCORE_TOKENS", 30_000),
    ):
        patch.setattr(module, name, value)
    model = load_model(DEMO / "models" / "docs-small")
    saes = {"real": load_sae_from_disk(DEMO / "saes" / RELEASE / HOOK)}
    store = Store(tmp_path_factory.mktemp("dossier-demo"))

    def lease_of(name, names):
        return PlainLease(model, [saes[sae_id] for _, sae_id in names])

    def request(sae_id, latent=0):
        return DossierRequest(
            "docs-small", ("r", sae_id, "1"), latent, docs_sample(), tokens=30_000
        )

    common = Shared(lease_of, store, request("real"))
    tokens = common.own.index.token_set
    saes["random"], _ = control_sae(
        "random directions", model, saes["real"], common.peers.tolist(), tokens, seed=5
    )

    def dossiers(sae_id, latents):
        wanted = [request(sae_id, int(latent)) for latent in latents]
        return run_dossiers(lease_of, store, wanted, parts=PARTS)

    yield common, dossiers
    patch.undo()


def test_known_latents_are_called_what_they_are(made) -> None:
    common, dossiers = made
    counts = common.own.index.summary["count"].to_numpy()
    whole, tokens = common.own.whole, common.own.index.token_set
    peaks = np.where(whole.top_places >= 0, tokens.tokens.ravel()[whole.top_places], -1)
    words = peak_words(peaks[:, :15], common.own.index.vocabulary, min_share=0.95)
    often = sorted(words, key=lambda it: -counts[it.latent])[:4]
    dead = int(np.flatnonzero(counts == 0)[0])
    rare = int(np.flatnonzero((counts > 0) & (counts < 10))[0])
    dense = int(counts.argmax())
    assert counts[dense] > 0.1 * common.own.index.n_tokens
    found = dossiers("real", [*(it.latent for it in often), rare, dense, dead])
    told = [(word.word, conclude(one)) for word, one in zip(often, found, strict=False)]
    for word, end in told:
        assert f"one word: “{word}”".casefold() in " ".join(end.sorts).casefold(), told
        assert {line.name: line.stand for line in end.lines}["examples"] == "agrees", told
    few, everywhere, never = (conclude(one) for one in found[-3:])
    assert (few.kind, everywhere.kind, never.kind) == ("too few", "dense", "silent")
    assert [few.name, everywhere.name, never.name] == ["", "", ""]
    assert "never fires" in found[-1].not_run["says"]


def test_random_directions_are_like_chance(made) -> None:
    _, dossiers = made
    found = [conclude(one) for one in dossiers("random", range(10, 26, 3))]
    assert not [end for end in found if end.kind in ("clear", "mostly clear")]
    assert sum(end.kind == "like chance" for end in found) >= len(found) // 2, [
        (end.kind, end.sentence) for end in found
    ]
