"""A plug-in whose environment cannot be built is answered in one line, and hides nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from factory import cli, doctor, plugins, registry, tasks
from factory.energy.registry import SOURCES
from factory.training.build import make_env

ENV = '''
from gymnasium.vector import AutoresetMode, VectorEnv

from factory.envs.tasks.cartpole import CartpoleSwingup

class Crash(CartpoleSwingup):
    """An environment with a mistake of its author."""

    def __init__(self, **settings):
        self.x = settings["nope"]

class Foreign(VectorEnv):
    """A vector environment that lacks what training needs."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    num_envs = 1

    def __init__(self, **settings):
        pass
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current folder, with a module of environments; the process stays as it was."""
    known = dict(registry.TASKS)
    sources = dict(SOURCES)
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(plugins, "_conf_dirs", [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd_env.py").write_text(ENV)
    yield tmp_path
    registry.TASKS.clear()
    registry.TASKS.update(known)
    SOURCES.clear()
    SOURCES.update(sources)
    gymnasium.registry.pop("outside/Odd-v0", None)
    for name in {"odd_task", "odd_env", "odd_source"} - modules:
        sys.modules.pop(name, None)


def write_task(env: str) -> None:
    """Write a plug-in with a task of the environment class `env`."""
    Path("odd_task.py").write_text(f'''
from dataclasses import dataclass
from typing import ClassVar

from factory.envs.core.task import TaskConfig
from factory.registry import register_task

@register_task
@dataclass(kw_only=True)
class OddConfig(TaskConfig):
    """A task."""

    env: ClassVar[str] = "{env}"
    name: str = "odd"
    id: str = "outside/Odd-v0"
''')


MISTAKES = [
    ("gone_env:Park", "gone_env:Park: ModuleNotFoundError: No module named 'gone_env'"),
    ("odd_env:Nope", "odd_env:Nope: AttributeError: module 'odd_env' has no attribute 'Nope'"),
    ("odd_env:Crash", "odd_env:Crash: line 10: KeyError: 'nope'"),
    ("odd_env:Foreign", "odd_env:Foreign is no TrainingEnv; derive it from BatchEnv or EpisodeEnv"),
]


@pytest.mark.parametrize(("env", "message"), MISTAKES)
def test_environment_that_cannot_be_built(folder: Path, env: str, message: str) -> None:
    """The message names the task, the class, the line and the error."""
    write_task(env)
    cfg, _ = cli.compose_config(["plugins=[odd_task.py]", "task=odd"])
    with pytest.raises(ValueError, match=rf"^task=odd: {message}$"):
        make_env(cfg, num_envs=1)


def test_class_without_a_module_is_refused(folder: Path) -> None:
    """The mistake is found where the task is registered."""
    write_task("odd_env")
    with pytest.raises(ValueError, match=r"line 8: OddConfig\.env=odd_env: give module:Class"):
        plugins.load(["odd_task.py"])


def test_list_shows_the_other_tasks(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then one line names the task that is missing, and the exit status is 2."""
    write_task("odd_env:Crash")
    monkeypatch.setattr(sys, "argv", ["factory-tasks", "plugins=[odd_task.py]"])
    with pytest.raises(SystemExit, match="2"):
        tasks.main()
    out, err = capsys.readouterr()
    assert "factory/QuadrupedVelocity-v0" in out
    assert "outside/Odd-v0" not in out
    assert err == "error: task=odd: odd_env:Crash: line 10: KeyError: 'nope'\n"


def test_doctor_checks_an_energy_source_of_a_file(folder: Path) -> None:
    """Its name is a value of `energy.source` once the file is named, and unknown before."""
    Path("odd_source.py").write_text(
        "from factory.energy.sources.replay import ReplaySource\n"
        "from factory.registry import register_energy_source\n\n"
        "class Odd(ReplaySource):\n    name = 'odd'\n\n"
        "register_energy_source(Odd)\n"
    )
    with pytest.raises(ValueError, match=r"energy\.source=odd: choose from"):
        cli.parse(doctor.DoctorConfig, ["energy.source=odd"])
    cfg = cli.parse(doctor.DoctorConfig, ["energy.source=odd", "plugins=[odd_source.py]"])
    assert cfg.energy.source == "odd"
    assert cfg.plugins == [str(folder / "odd_source.py")]
