"""Run what the Dockerfile describes, where no Docker can: in a fresh root, read-only, offline.

    sudo python deploy/rehearse.py            # until it answers; exit status 0
    sudo python deploy/rehearse.py --policy docs/hosting.toml

Reads the stage `explorer` of the Dockerfile: what it copies goes to a root of its own (a tmpfs with
the system's folders mounted read-only), its variables, its user and its start are those of the
file, and its health check decides. There is no network but the loopback, and nothing can be written
except /data and /tmp. Only the packages are not installed: the virtual environment that runs this
is mounted as /opt/venv. Linux, as root.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")
START_SECONDS = 180
OPEN_THE_DEMO = """
import logging, os, sys, time
from streamlit.testing.v1 import AppTest
logging.disable()
app = AppTest.from_file("/app/app.py", default_timeout=120)
app.switch_page("pages/latent.py")
app.query_params["latent"] = "7"
for _ in range(60):
    app.run()
    if app.error or app.exception:
        sys.exit(f"The page of a latent says: {[*app.error, *app.exception]}")
    if any("Makes more likely" in text.value for text in app.markdown):
        print("It opened a latent of the demo without a network.", flush=True)
        os._exit(0)  # libraries' threads need not be waited for
    time.sleep(1)
sys.exit("The page of a latent did not appear.")
"""
"""In the same root, as the same user: a page that loads the demo's model and an SAE."""


@dataclass
class Stage:
    """What one stage of a Dockerfile says."""

    copies: list[tuple[list[str], str]] = field(default_factory=list)
    """Files and folders of the repository, and where they go below /app."""
    variables: dict[str, str] = field(default_factory=dict)
    """Of ENV."""
    user: int = 0
    """Number of the user that `useradd` makes."""
    start: list[str] = field(default_factory=list)
    """Of ENTRYPOINT."""
    check: list[str] = field(default_factory=list)
    """Of HEALTHCHECK."""


def read_stage(dockerfile: str, name: str) -> Stage:
    """The stage of that name; its own instructions, not those of the stage it begins from."""
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", dockerfile)).splitlines()
    begin = next(i for i, line in enumerate(lines) if re.match(rf"FROM .* AS {name}$", line))
    stage = Stage()
    for line in lines[begin + 1 :]:
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            break
        if word == "COPY":
            *sources, target = rest.split()
            stage.copies.append((sources, target))
        elif word == "ENV":
            stage.variables.update(item.split("=", 1) for item in shlex.split(rest))
        elif word == "RUN" and (found := re.search(r"useradd --uid (\d+)", rest)):
            stage.user = int(found[1])
        elif word == "ENTRYPOINT":
            stage.start = json.loads(rest)
        elif word == "HEALTHCHECK":
            stage.check = json.loads(rest[rest.index("[") :])
    return stage


def assemble(stage: Stage, root: Path) -> None:
    """Folders of the root, and in /app what the stage copies."""
    for folder in ("app", "data", "saes", "tmp", "proc", "dev", "opt/venv"):
        (root / folder).mkdir(parents=True)
    for path in Path(sys.prefix).iterdir():
        if path.is_file():
            shutil.copy2(path, root / "opt/venv")
    for sources, target in stage.copies:
        for source in sources:
            into = root / "app" / target
            path = REPOSITORY / source
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, into, ignore=ignored, dirs_exist_ok=True)
            else:
                into = into / path.name if target.endswith("/") else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, into)


def script(stage: Stage, root: Path, policy: Path | None, commands: str) -> str:
    """A shell script for a mount and network namespace of its own."""
    where = shlex.quote(str(root))
    lines = ["set -eu", "mount --make-rprivate /", "ip link set lo up 2>/dev/null || true"]
    # One by one: the environment's own folder may be closed to other users.
    packages = {str(it): f"/opt/venv/{it.name}" for it in Path(sys.prefix).iterdir() if it.is_dir()}
    folders = {path: path for path in (*SYSTEM, sys.base_prefix)}
    for path, target in {**folders, **packages}.items():
        if Path(path).exists():
            lines += [
                f"mkdir -p {where}{target}",
                f"mount --rbind {shlex.quote(path)} {where}{target}",
                f"mount -o remount,ro,bind {where}{target}",
            ]
    lines += [f"mount -t proc proc {where}/proc", f"mount --rbind /dev {where}/dev"]
    if policy is not None:
        lines.append(f"cp {shlex.quote(str(policy))} {where}/app/hosting.toml")
    lines.append(f"mount --bind {where}/app {where}/app; mount -o remount,ro,bind {where}/app")
    for folder in ("data", "tmp"):
        lines.append(f"mount -t tmpfs -o mode=1777 tmpfs {where}/{folder}")
    variables = {**stage.variables, "PATH": "/opt/venv/bin:/usr/bin:/bin", "PORT": "8501"}
    if policy is not None:
        variables["SAE_EXPLORER_HOSTING"] = "/app/hosting.toml"
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    drop = f"setpriv --reuid {stage.user} --regid {stage.user} --clear-groups --no-new-privs"
    inside = f"cd /app; exec {drop} env -i {settings} sh -euc {shlex.quote(commands)}"
    lines.append(f"exec chroot {where} sh -euc {shlex.quote(inside)}")
    return "\n".join(lines)


def rehearse(policy: Path | None) -> int:
    """Start it, ask the health check until it passes, try to write, and stop it; 0 if all held."""
    stage = read_stage((REPOSITORY / "Dockerfile").read_text(), "explorer")
    commands = f"""
{shlex.join(stage.start)} & server=$!
n=0
until {shlex.join(stage.check)} 2>/dev/null; do
    n=$((n + 1))
    if [ $n -gt {START_SECONDS} ] || ! kill -0 $server; then echo "It does not answer."; exit 3; fi
    sleep 1
done
if touch /app/written 2>/dev/null; then echo "The tree can be written to."; exit 4; fi
if [ "$(id -u)" = 0 ]; then echo "It runs as root."; exit 5; fi
if [ -z "${{SAE_EXPLORER_HOSTING:-}}" ]; then
    python -c {shlex.quote(OPEN_THE_DEMO)} || exit 6
    test -d /data/cache || {{ echo "There is no store in /data."; exit 7; }}
fi
kill -TERM $server
wait $server || test $? = 143
echo "It answered, wrote to /data alone, and stopped when it was told to."
"""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        root = Path(folder) / "root"
        root.mkdir(mode=0o755)
        os.chmod(folder, 0o755)
        assemble(stage, root)
        namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        began = time.monotonic()
        done = subprocess.run(
            [*namespaces, "sh", "-c", script(stage, root, policy, commands)], check=False
        )
        print(f"Exit status {done.returncode} after {time.monotonic() - began:.0f} s.")
        return done.returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", type=Path, help="start it for several people, with this policy")
    sys.exit(rehearse(parser.parse_args().policy))
