"""What may import what: pages are light, and core knows no Streamlit."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.demo_bundle import write_demo

REPOSITORY = Path(__file__).resolve().parent.parent
APP = str(REPOSITORY / "app.py")


def test_first_page_imports_nothing_heavy(tmp_path: Path) -> None:
    demo = write_demo(tmp_path)
    code = f"""
import sys
from dataclasses import replace
from pathlib import Path
from streamlit.testing.v1 import AppTest
from core import resources
from core.view import warm_up
from core.view.selection import PARAMETERS
from core.settings import Settings
settings = replace(Settings(), demo_dir=Path({str(demo)!r}))
resources.settings = lambda: settings
warm_up.WarmUp.start = lambda self: None
app = AppTest.from_file({APP!r}, default_timeout=60).run()
assert not app.exception and not app.error, app.error
assert app.metric[0].value == "64"
heavy = {{"torch", "sae_lens", "transformer_lens", "transformers", "huggingface_hub", "pandas"}}
sys.exit(", ".join(heavy & set(sys.modules)) or None)
"""
    done = _python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_core_works_without_streamlit() -> None:
    files = [path.relative_to(REPOSITORY) for path in (REPOSITORY / "core").rglob("*.py")]
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    wanted = sorted(modules - {"core.resources"})
    assert len(wanted) > 30
    code = f"""
import importlib, sys
sys.modules["streamlit"] = None
for name in {wanted!r}:
    importlib.import_module(name)
"""
    done = _python(code)
    assert done.returncode == 0, done.stderr


def test_packages_of_core_import_each_other_in_no_circle() -> None:
    """`core.autointerp` may use `core.patch_scoping`; then the latter must not use the former."""
    needs: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "core").rglob("*.py")):
        own = path.relative_to(REPOSITORY).with_suffix("").parts[:2]
        if own[1] == "__init__":
            continue
        package = needs.setdefault(".".join(own), set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            package.update(
                ".".join(name.split(".")[:2]) for name in names if name.startswith("core.")
            )
        package.discard(".".join(own))
    assert len(needs) > 20
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
