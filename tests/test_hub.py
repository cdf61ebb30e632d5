"""Downloads, through the real loaders of sae_lens and transformers, from a hub on loopback.

All scenarios run in two processes (one with HF_HUB_OFFLINE=1), because huggingface_hub reads its
environment when it is imported; see hub_scenarios.py. The tests judge what happened there.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.catalog.pretrained import read_pretrained
from core.hub import DownloadPlan, PlannedFile, explain_hub_error
from core.hub.files import files_of_model, files_of_sae
from tests.hub_contents import GEMMA_REPO, RES_JB_REPO, SPLITTING_REPO

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parent.parent
RES_JB_FILES = ("cfg.json", "sae_weights.safetensors", "sparsity.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the private HF_HOME of both processes."""
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def online(folder: Path) -> dict[str, Any]:
    return run_scenarios("online", folder)


@pytest.fixture(scope="module")
def offline(online: dict[str, Any], folder: Path) -> dict[str, Any]:
    return run_scenarios("offline", folder)


def run_scenarios(mode: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hub_scenarios", mode, str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / f"{mode}.json").read_text())


def on_files(requests: list[str]) -> list[str]:
    """`METHOD filename` of the requests for files, in order."""
    words = [request.split() for request in requests if "/resolve/" in request]
    return [f"{method} {path.rsplit('/', 1)[-1]}" for method, path, *_ in words]


def test_plan_knows_sizes_without_fetching(online: dict[str, Any]) -> None:
    plan = online["planned"]
    assert on_files(plan["requests"]) == [f"HEAD {name}" for name in RES_JB_FILES]
    assert plan["value"]["total"] > 17_000
    assert plan["value"]["cached"] == 0
    assert plan["value"]["complete"] is False


def test_cold_load_makes_the_requests_of_the_real_log(online: dict[str, Any]) -> None:
    expected = [f"{method} {name}" for name in RES_JB_FILES for method in ("HEAD", "GET")]
    assert on_files(online["cold"]["requests"]) == expected
    assert online["cold"]["value"]["neuronpedia_id"] == "gpt2-small/1-res-jb"


def test_cached_load_fetches_nothing(online: dict[str, Any]) -> None:
    assert on_files(online["cached"]["requests"]) == [f"HEAD {name}" for name in RES_JB_FILES]
    assert online["cached"]["value"] == online["cold"]["value"]


def test_plan_of_what_is_cached_asks_nobody(online: dict[str, Any]) -> None:
    plan = online["planned_cached"]
    assert plan["requests"] == []
    assert plan["value"]["complete"] is True
    assert plan["value"]["cached"] == plan["value"]["total"] == online["planned"]["value"]["total"]


def test_progress_counts_every_byte_once(online: dict[str, Any]) -> None:
    calls, total = online["progress"]["value"]["calls"], online["progress"]["value"]["total"]
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == total
    assert {call[1] for call in calls} == {total}
    # Inside the one large file too, not only between files.
    assert len({value for value in done if 600 < value < 17_000}) > 5
    assert any("sae_weights.safetensors" in call[2] and "B/s" in call[2] for call in calls)


def test_a_plan_is_outdated_once_its_files_have_come(online: dict[str, Any]) -> None:
    for name in ("progress", "model_download"):
        assert online[name]["value"]["outdated"] == [False, True]


def test_loading_after_a_download_fetches_nothing(online: dict[str, Any]) -> None:
    assert online["splitting"]["value"]["hook_name"] == "blocks.8.hook_resid_pre"
    assert not any(request.startswith("GET") for request in online["splitting"]["requests"])
    model = online["model"]
    assert model["value"] == {"d_model": 32, "d_vocab": 300}
    fetched = [it for it in model["requests"] if it.startswith("GET") and "/resolve/" in it]
    assert fetched == []


def test_model_plan_leaves_out_what_transformers_does_not_read(online: dict[str, Any]) -> None:
    plan = online["model_plan"]
    assert plan["requests"] == ["GET /api/models/gpt2?blobs=true -> 200"]
    assert "model.safetensors" in plan["value"]["files"]
    assert not {"README.md", "flax_model.msgpack"} & set(plan["value"]["files"])
    # Stated: 12,345 parameters, float32, two copies while loading.
    assert plan["value"]["memory"] == 12_345 * 4 * 2
    cached = online["model_cached_plan"]
    assert cached["requests"] == []
    assert cached["value"]["complete"] is True


def test_hook_z_checkpoint_loads(online: dict[str, Any]) -> None:
    assert online["hook_z"]["value"]["hook_name"] == "blocks.1.attn.hook_z"
    assert online["hook_z"]["value"]["d_sae"] == 64


def test_gated_repositories_are_explained(online: dict[str, Any]) -> None:
    without = online["gated"]
    assert without["error"] == "GatedRepoError"
    for words in (GEMMA_REPO, "accept its licence", "HF_TOKEN"):
        assert words in without["sentence"]
    wrong = online["gated_with_wrong_token"]["sentence"]
    assert "your account has no access yet" in wrong
    assert online["gated_with_token"]["value"]["neuronpedia_id"] == "gemma-2b/6-res-jb"


def test_missing_things_are_explained(online: dict[str, Any]) -> None:
    assert "blocks.3.hook_resid_pre/cfg.json" in online["missing_file"]["sentence"]
    assert "has moved or removed" in online["missing_file"]["sentence"]
    assert "EleutherAI/pythia-70m-deduped does not exist" in online["missing_repo"]["sentence"]


def test_too_little_disk_is_refused_with_figures(online: dict[str, Any]) -> None:
    refusal = online["too_large"]
    assert refusal["error"] == "ValueError"
    assert "1000.0 TB more on the disk" in refusal["sentence"]
    assert "free" in refusal["sentence"]
    assert not any(request.startswith("GET") for request in refusal["requests"])


def test_cut_connection_is_resumed_where_it_broke(online: dict[str, Any]) -> None:
    cut = online["cut_once"]
    weights = [it for it in cut["requests"] if it.startswith("GET") and "sae_weights" in it]
    assert [it.rsplit(" ", 1)[-1] for it in weights] == ["200", "206"]
    assert cut["value"]["calls"][-1][0] == cut["value"]["total"]


def test_connection_that_stays_cut_is_explained_and_leaves_nothing(online: dict[str, Any]) -> None:
    cut = online["cut_always"]
    assert "cut in the middle of a file" in cut["sentence"]
    assert cut["left"] == []
    repaired = online["cut_repaired"]
    assert repaired["value"]["d_sae"] == 64
    # The config had arrived, and is not fetched again.
    assert "GET cfg.json" not in on_files(repaired["requests"])


def test_garbled_arrival_is_noticed_and_removed(online: dict[str, Any]) -> None:
    garbled = online["garbled_arrival"]
    assert "checksum" in garbled["sentence"]
    assert "blocks.7.hook_resid_pre/sae_weights.safetensors" in garbled["sentence"]
    assert "GET sae_weights.safetensors" in on_files(online["garbled_repaired"]["requests"])
    assert online["garbled_repaired"]["value"]["d_sae"] == 64


def test_damage_in_the_cache_is_named_and_repaired_by_force(online: dict[str, Any]) -> None:
    damaged = online["damaged_cache"]
    assert damaged["error"] == "SafetensorError"
    assert "blocks.7.hook_resid_pre/sae_weights.safetensors is corrupted" in damaged["sentence"]
    assert "force" in damaged["sentence"]
    assert "GET sae_weights.safetensors" in on_files(online["forced"]["requests"])
    assert online["forced_load"]["value"] == online["garbled_repaired"]["value"]


def test_progress_can_cancel_and_a_later_load_works(online: dict[str, Any]) -> None:
    cancelled = online["cancelled"]
    assert cancelled["error"] == "Cancelled"
    assert "GET sparsity.safetensors" not in on_files(cancelled["requests"])
    assert online["after_cancel"]["value"]["d_sae"] == 64


def test_malicious_pickle_is_refused_and_never_run(online: dict[str, Any]) -> None:
    malicious = online["malicious"]
    assert malicious["executed"] is False
    assert "gpt2-small_L0_Hcat_z" in malicious["sentence"]
    assert "refused" in malicious["sentence"]


def test_full_disk_is_explained(online: dict[str, Any]) -> None:
    assert "HF_HOME" in online["disk_full"]["sentence"]
    assert "is full" in online["disk_full"]["sentence"]


def test_offline_uses_the_cache_and_asks_nobody(
    online: dict[str, Any], offline: dict[str, Any]
) -> None:
    assert all(outcome["requests"] == [] for outcome in offline.values())
    assert offline["cached"]["value"] == online["cold"]["value"]
    assert offline["hook_z"]["value"] == online["hook_z"]["value"]
    assert offline["model"]["value"] == online["model"]["value"]
    assert offline["plan"]["value"]["complete"] is True


def test_offline_says_what_is_not_here(offline: dict[str, Any]) -> None:
    for name in ("not_cached_plan", "not_cached", "model_not_cached"):
        assert "HF_HUB_OFFLINE" in offline[name]["sentence"], name
    assert "blocks.10.hook_resid_pre/cfg.json" in offline["not_cached_plan"]["sentence"]


def plan_of(**fields: Any) -> DownloadPlan:
    file = PlannedFile(repo_id="a/b", filename="model.safetensors", size=10**9)
    enough = {"disk_free": 10**12, "memory_needed": 1, "memory_free": 2}
    return DownloadPlan(name="model tiny", files=(file,), **{**enough, **fields})


def test_plan_refuses_what_memory_cannot_hold() -> None:
    plan_of().check()
    plan = plan_of(memory_needed=3 * 10**9, memory_free=2 * 10**9)
    with pytest.raises(ValueError, match=r"about 3\.0 GB of memory on cpu .* and 2\.0 GB is free"):
        plan.check()


def test_plan_keeps_a_margin_on_the_disk() -> None:
    with pytest.raises(ValueError, match=r"1\.0 GB more on the disk"):
        plan_of(disk_free=1_100_000_000).check()
    plan_of(disk_free=1_600_000_000).check()


def test_files_are_known_for_every_published_sae() -> None:
    for entries in read_pretrained().entries.values():
        for entry in entries:
            assert any(not file.optional for file in files_of_sae(entry)), entry.key


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["pytorch_model.bin", "config.json"], ["pytorch_model.bin"]),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "consolidated.safetensors",
            ],
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
        ),
    ],
)
def test_model_weights_are_taken_in_one_format(names: list[str], weights: list[str]) -> None:
    chosen = files_of_model(names)
    assert [name for name in chosen if "model" in name] == weights


def test_model_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        files_of_model(["config.json", "model.safetensors.index.json"])


def test_unreachable_hub_is_explained_through_the_chain_of_causes() -> None:
    httpx = pytest.importorskip("httpx2")
    error = OSError("We couldn't connect to the hub to load the files")
    error.__cause__ = httpx.ConnectError("[Errno 111] Connection refused")
    assert "cannot be reached; check the network" in explain_hub_error(error)


def test_other_errors_keep_their_words() -> None:
    assert explain_hub_error(ValueError("choose another")) == "choose another"
    assert explain_hub_error(KeyError("x")) == "KeyError: 'x'"


def test_repositories_in_scenarios_are_those_of_sae_lens() -> None:
    releases = read_pretrained().releases
    assert releases["gpt2-small-res-jb"].repo_id == RES_JB_REPO
    assert releases["gpt2-small-res-jb-feature-splitting"].repo_id == SPLITTING_REPO
