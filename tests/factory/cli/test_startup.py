"""Help, lists and mistakes answer before the heavy libraries are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "mujoco", "numba", "mlflow", "matplotlib")
SCRIPT = """
import runpy, sys
sys.argv = {argv!r}
try:
    runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
except SystemExit as end:
    status = end.code or 0
else:
    status = 0
print("LOADED", status, *[name for name in {heavy!r} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("factory.train --help", 0),
        ("factory.train --version", 0),
        ("factory.train nokey=1", 2),
        ("factory.train seed=many", 2),
        ("factory.train task=nope", 2),
        ("factory.train resume=nowhere", 2),
        ("factory.train --cfg job", 0),
        ("factory.evaluate --help", 0),
        ("factory.evaluate --version", 0),
        ("factory.evaluate run=nowhere", 2),
        ("factory.evaluate run=last seed=-1", 2),
        ("factory.bench --help", 0),
        ("factory.bench nokey=1", 2),
        ("factory.compare --help", 0),
        ("factory.compare nokey=1", 2),
        ("factory.doctor --help", 0),
        ("factory.site --help", 0),
        ("factory.site project from=nowhere", 2),
        ("factory.tasks", 0),
        ("factory.tasks --version", 0),
    ],
)
def test_nothing_heavy_is_loaded(command: str, status: int, tmp_path: Path) -> None:
    """None of torch, MuJoCo, Numba and MLflow is imported for an answer that does not need them."""
    module, *arguments = command.split()
    script = SCRIPT.format(argv=[module, *arguments], module=module, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == f"LOADED {status}", done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
