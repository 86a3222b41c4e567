"""Help, lists and mistakes answer before the heavy libraries are loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "mujoco", "numba", "mlflow", "matplotlib")
COMMANDS = {
    "factory.train --help": 0,
    "factory.train --version": 0,
    "factory.train nokey=1": 2,
    "factory.train seed=many": 2,
    "factory.train task=nope": 2,
    "factory.train resume=nowhere": 2,
    "factory.train --cfg job": 0,
    "factory.evaluate --help": 0,
    "factory.evaluate --version": 0,
    "factory.evaluate run=nowhere": 2,
    "factory.evaluate run=last seed=-1": 2,
    "factory.bench --help": 0,
    "factory.bench nokey=1": 2,
    "factory.compare --help": 0,
    "factory.compare nokey=1": 2,
    "factory.doctor --help": 0,
    "factory.site --help": 0,
    "factory.site project from=nowhere": 2,
    "factory.tasks": 0,
    "factory.tasks --version": 0,
}
SCRIPT = """
import json, os, runpy, sys
# Every command loads these first; each goes on from here in a process of its own.
from factory import cli, options
heavy, commands = json.loads(sys.argv[1])
for number, command in enumerate(commands):
    if os.fork():
        os.wait()
        continue
    os.mkdir(f"{number}")
    os.chdir(f"{number}")
    module, *arguments = command.split()
    sys.argv = [module, *arguments]
    status = 0
    with open("../log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or 0
    found = {"status": status, "loaded": [name for name in heavy if name in sys.modules]}
    with open(f"../{number}.json", "w") as file:
        json.dump(found | {"written": os.listdir()}, file)
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the outcome of every command, and a log of all they print."""
    folder = tmp_path_factory.mktemp("answers")
    asked = json.dumps([HEAVY, list(COMMANDS)])
    subprocess.run([sys.executable, "-c", SCRIPT, asked], cwd=folder, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot copy a process")
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_heavy_is_loaded(command: str, answers: Path) -> None:
    """None of torch, MuJoCo, Numba and MLflow is imported for an answer that does not need them."""
    outcome = answers / f"{list(COMMANDS).index(command)}.json"
    found = json.loads(outcome.read_text())
    assert found == {"status": COMMANDS[command], "loaded": [], "written": []}, (answers / "log").read_text()
