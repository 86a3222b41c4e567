"""Files and packages outside this project add components; a mistake in one is answered in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import gymnasium
import pytest
from hydra.errors import HydraException

from factory import cli, config, options, plugins, registry
from factory.config import TrainConfig
from factory.policies.config import PolicyConfig

TASK = '''
from dataclasses import dataclass
from factory.envs.tasks.cartpole_config import CartpoleSwingupConfig
from factory.registry import register_task

@dataclass(kw_only=True)
class ParkConfig(CartpoleSwingupConfig):
    """The cart-pole under another name."""

    name: str = "park"
    id: str = "outside/Park-v0"
    width_m: float = 2.0
    """Width of the park [m]."""
'''
"""A task's config class, as it stands in a user's file."""


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave registries, search paths and modules as they were."""
    tasks = dict(registry.TASKS)
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(plugins, "_conf_dirs", [])
    monkeypatch.setattr(plugins, "_seen_entry_points", set())
    yield
    registry.TASKS.clear()
    registry.TASKS.update(tasks)
    gymnasium.registry.pop("outside/Park-v0", None)
    for name in {"park", "parks", "parks.task"} - modules:
        sys.modules.pop(name, None)


@pytest.fixture
def park(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a plug-in file and a `conf/` beside it, which is the current one."""
    (tmp_path / "park.py").write_text(TASK + "\nregister_task(ParkConfig)\n")
    experiment = tmp_path / "conf" / "experiment" / "park_small.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("# @package _global_\ndefaults:\n  - override /task: park\nnum_envs: 7\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_task_of_a_file_is_an_option_with_checked_keys(park: Path) -> None:
    """A registered class needs no YAML: its name is an option and its fields are keys."""
    cfg, _ = cli.compose_config(["plugins=[park.py]", "task=park", "task.width_m=3"])
    assert (type(cfg.task).__name__, cfg.task.width_m) == ("ParkConfig", 3.0)  # type: ignore[attr-defined]
    assert cfg.plugins == [str(park / "park.py")]
    assert "park" in options.choices("task")
    assert {"task.width_m"} <= set(options.keys())
    with pytest.raises(HydraException, match=r"task\.width_m"):
        cli.compose_config(["plugins=[park.py]", "task=park", "task.width_m=wide"])


def test_conf_folder_beside_a_file_joins_the_search_path(park: Path) -> None:
    """Experiments in it are options, and a run's configuration comes back from plain values."""
    cfg, _ = cli.compose_config(["plugins=park.py", "experiment=park_small"])
    assert (cfg.task.name, cfg.num_envs) == ("park", 7)
    assert "park_small" in options.choices("experiment")
    assert config.from_plain(config.to_plain(cfg)) == cfg


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; give the path of a Python file"),
        ("x = 1\ny = z\n", "line 2: NameError: name 'z' is not defined"),
        ("x = (\n", "line 1: SyntaxError"),
        (TASK + "\nParkConfig.env = ''\nregister_task(ParkConfig)", "line 16: ParkConfig: a task needs"),
    ],
)
def test_mistake_in_a_file_is_one_line(park: Path, content: str | None, message: str) -> None:
    """It names the file, the line in it and what is wrong."""
    (park / "park.py").unlink()
    if content is not None:
        (park / "park.py").write_text(content)
    with pytest.raises(ValueError, match=rf"^plugins={park / 'park.py'}: {message}") as caught:
        cli.compose_config(["plugins=[park.py]"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["[a.py],[b.py]", "3", "a.py,b.py", "[1]", "["])
def test_plugins_are_a_list_of_files(value: str) -> None:
    """Anything else is answered with an example."""
    with pytest.raises(
        ValueError, match=r"give a list of Python files, such as plugins=\[park\.py,gait\.py\]"
    ):
        cli.compose_config([f"plugins={value}"])


def test_file_named_as_another_module_is_refused(park: Path) -> None:
    """Classes are found again by module name, so a file cannot take the name of another module."""
    (park / "queue.py").write_text("")
    with pytest.raises(ValueError, match="there is a module 'queue' already; rename the file"):
        cli.compose_config(["plugins=[queue.py]"])


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    """Put a package `parks` with a `conf/` on the path, with `values` as its entry points for tasks."""
    package = folder / "site" / "parks"
    (package / "conf" / "experiment").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "task.py").write_text(TASK)
    (package / "conf" / "experiment" / "park_large.yaml").write_text("# @package _global_\nnum_envs: 9\n")
    monkeypatch.syspath_prepend(str(package.parent))
    points = [EntryPoint(name="park", value=value, group="robot_factory.tasks") for value in values]
    monkeypatch.setattr(plugins, "entry_points", lambda: EntryPoints(points))


def test_package_names_its_tasks_as_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task and the settings in its `conf/` are there without being asked for."""
    _install(tmp_path, monkeypatch, "parks.task:ParkConfig")
    cfg, _ = cli.compose_config(["task=park", "experiment=park_large"])
    assert (type(cfg.task).__module__, cfg.num_envs) == ("parks.task", 9)


def test_broken_package_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says which plug-in is left out and why; the others load and jobs without it go on."""
    _install(tmp_path, monkeypatch, "parks.gone:GoneConfig", "parks.task:ParkConfig")
    cfg, _ = cli.compose_config(["task=park"])
    assert cfg.task.name == "park"
    (record,) = caplog.records
    message = record.getMessage()
    assert "robot_factory.tasks: park = parks.gone:GoneConfig" in message
    assert "ModuleNotFoundError: No module named 'parks.gone'" in message
    assert "\n" not in message


@dataclass(kw_only=True)
class GruConfig(PolicyConfig):
    """A policy that shares one key with perceptrons."""

    name: str = "gru"
    cells: int = 8
    """Cells of the hidden layer."""
    init_std: float = 0.1
    """Initial standard deviation of the exploration noise [action units]."""


@pytest.fixture
def gru(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register a second policy."""
    registry.register_policy(GruConfig)
    yield
    del registry.POLICIES["gru"]


def test_policy_of_ones_own_takes_its_keys_only(gru: None) -> None:
    """Keys that a task's file sets for perceptrons are left out; a key that both have is taken from it."""
    cfg, _ = cli.compose_config(["policy=gru", "task=cartpole_swingup", "policy.cells=3"])
    assert cfg.policy == GruConfig(cells=3, init_std=0.5)
    assert type(config.from_plain(config.to_plain(cfg)).policy) is GruConfig
    assert {"policy.cells", "policy.actor_hidden"} <= set(options.keys())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.cels=3", r"policy\.cels"),
        ("policy.actor_hidden=[3]", "policy=gru has no such key; choose one of cells, "),
    ],
)
def test_key_of_another_policy_is_refused(gru: None, override: str, message: str) -> None:
    """A key given on the command line has to be one of the chosen policy's."""
    with pytest.raises((ValueError, HydraException), match=message):
        cli.compose_config(["policy=gru", "task=cartpole_swingup", override])


def test_unknown_key_in_a_file_is_refused(park: Path) -> None:
    """A file of settings cannot set a key that no policy has."""
    file = park / "conf" / "experiment" / "park_small.yaml"
    file.write_text("# @package _global_\npolicy:\n  init_sdt: 0.1\n")
    with pytest.raises(
        ValueError, match=r"policy\.init_sdt=0\.1: policy=mlp has no such key; did you mean init_std"
    ):
        cli.compose_config(["plugins=[park.py]", "experiment=park_small"])


def test_component_that_is_not_registered_is_named() -> None:
    """A run whose package is gone, and a class that nobody registered, end in one line."""
    plain = config.to_plain(cli.compose_config([])[0])
    plain["learner"]["name"] = "gone"
    with pytest.raises(
        ValueError, match="learner=gone: not registered here; install its package, or name its file"
    ):
        config.from_plain(plain)
    with pytest.raises(ValueError, match=r"policy=gru: not registered; call .*register_policy\(GruConfig\)"):
        TrainConfig(task=registry.TASKS["cartpole_swingup"](), policy=GruConfig())
