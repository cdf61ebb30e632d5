"""Write the locks of the image: every package with its hashes, for a CPU and for CUDA.

    uv --version && pip download --no-deps torch==2.13.0+cpu \\
        --index-url https://download.pytorch.org/whl/cpu --dest wheels
    python deploy/lock.py wheels/torch-*.whl

`requirements.lock` says which versions; this adds what a package index must not be able to change.
PyPI's torch for Linux is the one for CUDA; the one for CPUs comes from PyTorch's own index, so its
wheel is given, and its hash is taken from the file.
"""

import argparse
import hashlib
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ACCELERATOR = re.compile(r"(nvidia|cuda)-|triton==|torch==")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> None:
    """Both files, beside this one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cpu_torch", type=Path, help="wheel of torch for CPUs, Python 3.11, Linux")
    wheel = parser.parse_args().cpu_torch
    version = wheel.name.split("-")[1].replace("%2B", "+")
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    packages = compiled()
    (HERE / "requirements-cuda.lock").write_text("\n".join(packages) + "\n")
    cpu = [package for package in packages if not ACCELERATOR.match(package)]
    torch = f"torch=={version} \\\n    --hash=sha256:{digest}"
    text = "\n".join([f"--extra-index-url {CPU_INDEX}", *sorted([*cpu, torch])])
    (HERE / "requirements-cpu.lock").write_text(text + "\n")


def compiled() -> list[str]:
    """The packages of requirements.lock that the explorer needs, each with its hashes."""
    root = HERE.parent
    done = subprocess.run(
        [
            *("uv", "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate"),
            *("--generate-hashes", "--python-version", "3.11"),
            *("--python-platform", "x86_64-manylinux_2_28"),
            *("--constraint", str(root / "requirements.lock")),
            *(str(root / "requirements.txt"), str(root / "requirements-hosted.txt")),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return re.split(r"\n(?=\S)", done.stdout.strip())


if __name__ == "__main__":
    main()
