"""The image and what stands around it: locks, what is copied, and a start in a fresh root."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from core.hosting.policy import Policy
from core.settings import Settings
from deploy.rehearse import read_stage

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGE = read_stage(DOCKERFILE, "explorer")


def pins(text: str) -> dict[str, str]:
    """Version of each package, by its normalised name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_image_installs_what_was_tested_by_its_hash(kind: str) -> None:
    text = (ROOT / "deploy" / f"requirements-{kind}.lock").read_text()
    tested = pins((ROOT / "requirements.lock").read_text())
    locked = pins(text)
    asked = pins((ROOT / "requirements.txt").read_text())
    assert set(asked) | {"authlib"} <= set(locked)
    for name, version in locked.items():
        if name in tested:
            assert version.removesuffix("+cpu") == tested[name], name
    blocks = re.split(r"\n(?=[a-z])", text.removeprefix("--extra-index-url"), flags=re.IGNORECASE)
    packages = [block for block in blocks if "==" in block]
    assert len(packages) == len(locked)
    assert all("--hash=sha256:" in package for package in packages)
    accelerated = [name for name in locked if name.startswith("nvidia-") or name == "triton"]
    assert bool(accelerated) == (kind == "cuda")


def test_what_is_copied_is_there_and_is_enough() -> None:
    copied = {source for sources, _ in STAGE.copies for source in sources}
    assert all((ROOT / source).exists() for source in copied)
    kept = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    # Not the secrets that may lie beside Streamlit's settings.
    assert [path for path in kept if path.startswith(".streamlit")] == [".streamlit/config.toml"]
    for source in copied - {".streamlit"}:
        assert source.split("/")[0] in kept, source
    for folder in ("core", "pages"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(
                r"^\s*(from|import) (make_demo|benchmarks|tests|deploy)\b",
                path.read_text(),
                re.MULTILINE,
            ), path


def test_what_is_written_goes_to_the_volume() -> None:
    settings = Settings.from_environment(STAGE.variables)
    assert settings.cache_dir == Path("/data/cache")
    assert settings.user_sae_dirs == (Path("/saes"),)
    assert STAGE.user >= 1000
    assert f"USER {STAGE.user}:" in DOCKERFILE


def test_the_composed_services_fit_the_policy_and_the_proxy() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    explorer, proxy = compose["services"]["explorer"], compose["services"]["oauth2-proxy"]
    assert explorer["read_only"]
    assert "ports" not in explorer  # only the proxy reaches it
    assert explorer["build"]["target"] in ("cpu", "cuda")
    assert f" AS {explorer['build']['target']}\n" in DOCKERFILE
    grace = int(explorer["stop_grace_period"].removesuffix("s"))
    policy = Policy.from_environment({"SAE_EXPLORER_HOSTING": str(ROOT / "docs" / "hosting.toml")})
    assert grace > policy.drain_seconds
    assert any("explorer:8501" in option for option in proxy["command"])
    subnet = compose["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    environment = (ROOT / "deploy" / "example.env").read_text()
    assert f'proxies = ["{subnet}"]' in environment
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    assert used - {"UPSTREAM"} == set(re.findall(r"^(\w+)=", environment, re.MULTILINE))
    extra = yaml.safe_load((ROOT / "deploy" / "compose.cuda.yaml").read_text())
    assert f" AS {extra['services']['explorer']['build']['target']}\n" in DOCKERFILE


def may_rehearse() -> bool:
    """Whether this machine lets a test have namespaces and mounts of its own."""
    tools = ("unshare", "setpriv", "chroot", "mount")
    if os.name != "posix" or os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    mounts = "mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && mount -t proc proc /mnt"
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", mounts]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_rehearse(), reason="needs root, and namespaces and mounts of its own")
@pytest.mark.parametrize("options", [[], ["--policy", "docs/hosting.toml"]], ids=["own", "hosted"])
def test_it_starts_in_a_read_only_root_without_a_network(options: list[str]) -> None:
    command = [sys.executable, "deploy/rehearse.py", *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It answered, wrote to /data alone, and stopped when it was told to." in done.stdout
    assert options or "It opened a latent of the demo without a network." in done.stdout
