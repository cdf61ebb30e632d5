"""Drives the real loading code against the loopback hub; run by test_hub.py in a fresh process.

    python -m tests.hub_scenarios online|offline FOLDER

huggingface_hub reads its environment when imported, hence the process of its own. What happened
in each scenario is written to FOLDER/{online,offline}.json, for the tests to judge.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.hub_contents import (
    GEMMA,
    GEMMA_REPO,
    HOOK_Z,
    HOOK_Z_REPO,
    RES_JB,
    RES_JB_REPO,
    SPLITTING,
    entry,
    fill,
    hook_z_config,
    malicious_pickle,
)
from tests.loopback_hub import LoopbackHub, loopback_hub


class Cancelled(Exception):
    """What the progress callback raises in the cancelling scenario."""


def main(mode: str, folder: Path) -> None:
    """Run all scenarios of `mode` and write what happened."""
    with loopback_hub() as hub:
        os.environ |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_OFFLINE": "1" if mode == "offline" else "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        os.environ.pop("HF_TOKEN", None)
        results = (offline if mode == "offline" else online)(hub, folder)
    (folder / f"{mode}.json").write_text(json.dumps(results))


def online(hub: LoopbackHub, folder: Path) -> dict[str, Any]:
    """Everything that needs the hub to answer; leaves a cache for `offline`."""
    fill(hub, folder)
    from huggingface_hub import constants, file_download

    # Between retries huggingface_hub sleeps a second each; nothing is learnt from waiting.
    file_download.time = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})  # type: ignore[assignment]
    constants.DOWNLOAD_CHUNK_SIZE = 1000
    results = {
        "planned": attempt(hub, lambda: plan_facts(RES_JB)),
        "cold": attempt(hub, lambda: load_facts(RES_JB)),
        "cached": attempt(hub, lambda: load_facts(RES_JB)),
        "planned_cached": attempt(hub, lambda: plan_facts(RES_JB)),
        "progress": attempt(hub, lambda: progress_facts(SPLITTING)),
        "splitting": attempt(hub, lambda: load_facts(SPLITTING)),
        "hook_z": attempt(hub, lambda: load_facts(HOOK_Z)),
        "model_plan": attempt(hub, lambda: plan_facts("gpt2-small")),
        "model_download": attempt(hub, lambda: progress_facts("gpt2-small")),
        "model": attempt(hub, model_facts),
        "model_cached_plan": attempt(hub, lambda: plan_facts("gpt2-small")),
    }
    results |= refusals(hub)
    results |= damages(hub, folder)
    return results


def refusals(hub: LoopbackHub) -> dict[str, Any]:
    """The hub says no."""
    hub.gated.add(GEMMA_REPO)
    results = {"gated": attempt(hub, lambda: load_facts(GEMMA))}
    os.environ["HF_TOKEN"] = "other-token"
    results["gated_with_wrong_token"] = attempt(hub, lambda: plan_facts(GEMMA))
    os.environ["HF_TOKEN"] = "good-token"
    results["gated_with_token"] = attempt(hub, lambda: load_facts(GEMMA))
    del os.environ["HF_TOKEN"]
    layer_3 = ("gpt2-small-res-jb", "blocks.3.hook_resid_pre")
    results["missing_file"] = attempt(hub, lambda: load_facts(layer_3))
    results["missing_repo"] = attempt(hub, lambda: plan_facts("pythia-70m-deduped"))
    weights = "blocks.4.hook_resid_pre/sae_weights.safetensors"
    layer_4 = ("gpt2-small-res-jb", "blocks.4.hook_resid_pre")
    hub.sizes[weights] = 10**15
    results["too_large"] = attempt(hub, lambda: plan_facts(layer_4))
    return results


def damages(hub: LoopbackHub, folder: Path) -> dict[str, Any]:
    """Files do not arrive as they are."""
    from core.hub import download, plan_download
    from core.saes import load_sae

    results = {}
    layer_5 = ("gpt2-small-res-jb", "blocks.5.hook_resid_pre")
    weights = "blocks.5.hook_resid_pre/sae_weights.safetensors"
    hub.cuts[weights] = [3000]
    results["cut_once"] = attempt(hub, lambda: progress_facts(layer_5))
    layer_6 = ("gpt2-small-res-jb", "blocks.6.hook_resid_pre")
    hub.cuts["blocks.6.hook_resid_pre/sae_weights.safetensors"] = [0] * 20
    results["cut_always"] = attempt(hub, lambda: load_facts(layer_6))
    results["cut_always"]["left"] = [path.name for path in (folder / "hf").rglob("*.incomplete")]
    hub.cuts.clear()
    results["cut_repaired"] = attempt(hub, lambda: load_facts(layer_6))

    layer_7 = ("gpt2-small-res-jb", "blocks.7.hook_resid_pre")
    weights = "blocks.7.hook_resid_pre/sae_weights.safetensors"
    good = hub.repos[RES_JB_REPO][weights]
    hub.garbled[weights] = good[:-4] + b"\xff\xff\xff\xff"
    results["garbled_arrival"] = attempt(hub, lambda: download(plan_download(entry(layer_7))))
    hub.garbled.clear()
    results["garbled_repaired"] = attempt(hub, lambda: load_facts(layer_7))

    # A file that is damaged in the cache, as by a full disk.
    plan = plan_download(entry(layer_7))
    path = next(file.path for file in plan.files if file.filename == weights)
    assert path is not None
    path.resolve().write_bytes(good[: len(good) // 2])
    results["damaged_cache"] = attempt(hub, lambda: load_sae(*layer_7, device="cpu"), plan=plan)
    hub.take_requests()
    results["forced"] = attempt(hub, lambda: download(plan, force=True))
    results["forced_load"] = attempt(hub, lambda: load_facts(layer_7))

    def cancel(done: int, _: int | None, __: str) -> None:
        if done > 3000:
            raise Cancelled(f"at {done}")

    layer_9 = ("gpt2-small-res-jb", "blocks.9.hook_resid_pre")
    results["cancelled"] = attempt(
        hub, lambda: download(plan_download(entry(layer_9)), progress=cancel)
    )
    results["after_cancel"] = attempt(hub, lambda: load_facts(layer_9))

    layer_0 = ("gpt2-small-hook-z-kk", "blocks.0.hook_z")
    path_0 = entry(layer_0).repo_path or ""
    trap = folder / "executed"
    hub.repos[HOOK_Z_REPO][path_0] = malicious_pickle(trap)
    config = hook_z_config("blocks.0.attn.hook_z")
    hub.repos[HOOK_Z_REPO][path_0.removesuffix(".pt") + "_cfg.json"] = config
    trap_plan = plan_download(entry(layer_0))
    results["malicious"] = attempt(hub, lambda: load_facts(layer_0), plan=trap_plan)
    results["malicious"]["executed"] = trap.exists()

    disk_plan = plan_download(entry(RES_JB))
    no_space = OSError(28, "No space left on device")
    results["disk_full"] = attempt(hub, lambda: raise_(no_space), plan=disk_plan)
    return results


def offline(hub: LoopbackHub, folder: Path) -> dict[str, Any]:
    """HF_HUB_OFFLINE=1 with the cache that `online` left; the hub would answer if asked."""
    fill(hub, folder)
    return {
        "cached": attempt(hub, lambda: load_facts(RES_JB)),
        "hook_z": attempt(hub, lambda: load_facts(HOOK_Z)),
        "model": attempt(hub, model_facts),
        "plan": attempt(hub, lambda: plan_facts(RES_JB)),
        "not_cached_plan": attempt(
            hub, lambda: plan_facts(("gpt2-small-res-jb", "blocks.10.hook_resid_pre"))
        ),
        "not_cached": attempt(
            hub, lambda: load_facts(("gpt2-small-res-jb", "blocks.10.hook_resid_pre"))
        ),
        "model_not_cached": attempt(hub, lambda: plan_facts("gpt2-medium")),
    }


def attempt(hub: LoopbackHub, action: Callable[[], Any], *, plan: Any = None) -> dict[str, Any]:
    """What `action` returned or raised, in words, and the requests that it made."""
    from core.hub import explain_hub_error

    hub.take_requests()
    outcome: dict[str, Any] = {}
    try:
        outcome["value"] = action()
    except Exception as error:  # noqa: BLE001 (whatever it is, the tests judge it)
        outcome["error"] = type(error).__name__
        outcome["sentence"] = explain_hub_error(error, plan=plan)
    outcome["requests"] = hub.take_requests()
    if not isinstance(outcome.get("value"), dict | type(None)):
        outcome["value"] = str(type(outcome["value"]))
    return outcome


def raise_(error: BaseException) -> None:
    """Raise, as an expression."""
    raise error


def plan_facts(target: Any) -> dict[str, Any]:
    """The figures of a plan, after its check."""
    from core.hub import plan_download

    plan = plan_download(entry(target) if isinstance(target, tuple) else target)
    plan.check()
    return {
        "files": [file.filename for file in plan.files],
        "total": plan.bytes_total,
        "cached": plan.bytes_cached,
        "memory": plan.memory_needed,
        "complete": plan.complete,
    }


def load_facts(name: tuple[str, str]) -> dict[str, Any]:
    """Load an SAE with the explorer's loader, which is sae_lens', and say what came."""
    from core.saes import load_sae

    sae = load_sae(*name, device="cpu")
    return {
        "d_sae": sae.cfg.d_sae,
        "hook_name": sae.cfg.metadata.hook_name,
        "neuronpedia_id": sae.cfg.metadata.neuronpedia_id,
        "sum": float(sae.W_dec.double().sum()),
    }


def progress_facts(target: Any) -> dict[str, Any]:
    """Download an SAE or a model and return everything the progress callback heard."""
    from core.hub import download, plan_download

    calls: list[tuple[int, int | None, str]] = []
    plan = plan_download(entry(target) if isinstance(target, tuple) else target)
    outdated = [plan.outdated]
    download(plan, progress=lambda done, total, message: calls.append((done, total, message)))
    outdated.append(plan.outdated)
    return {"calls": calls, "total": plan.bytes_total, "outdated": outdated}


def model_facts() -> dict[str, Any]:
    """Load gpt2-small (a tiny one) with the explorer's loader and run it."""
    from core.models import load_model

    model = load_model("gpt2-small", device="cpu")
    logits = model(model.to_tokens("The Eiffel tower"), return_type="logits")
    return {"d_model": model.cfg.d_model, "d_vocab": logits.shape[-1]}


if __name__ == "__main__":
    target = Path(sys.argv[2])
    if sys.argv[1] == "online":
        shutil.rmtree(target / "hf", ignore_errors=True)
    main(sys.argv[1], target)
