"""Settings that the list of tasks reads from files are those that Hydra composes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from factory import cli, options, plugins
from factory.cli import task_settings
from factory.envs.tasks.cartpole_config import CartpoleSwingupConfig
from factory.registry import TASKS

GLOBAL = "# @package _global_\n"


@dataclass(kw_only=True)
class OtherConfig(CartpoleSwingupConfig):
    """The cart-pole under another name."""

    name: str = "other"


def composed(name: str) -> task_settings.TaskSettings:
    """Return the settings of the whole job."""
    cfg, _ = cli.compose_config(options.example(name))
    return task_settings.TaskSettings(task=cfg.task, num_envs=cfg.num_envs, total_steps=cfg.total_steps)


@pytest.mark.parametrize("name", list(TASKS))
def test_settings_are_those_of_the_job(name: str) -> None:
    """Every task of the package."""
    assert task_settings.read(name) == composed(name)


def test_nothing_is_composed_for_tasks_that_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Composing takes a tenth of a second for each task, and the list has to answer at once."""

    def compose(overrides: list[str]) -> None:
        raise AssertionError(overrides)

    monkeypatch.setattr(task_settings, "compose_config", compose)
    for name, schema in TASKS.items():
        if not schema.example:
            task_settings.read(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "budget", "steps"),
    [
        (None, (1024, 4_000_000), 1000),
        (f"{GLOBAL}num_envs: 7\ntask:\n  max_episode_steps: 12\n", (7, 4_000_000), 12),
        (f"{GLOBAL}defaults: [_self_, /more]\nnum_envs: 7\ntotal_steps: 99\n", (8, 99), 30),
        (f"{GLOBAL}defaults: [/more, _self_]\nnum_envs: 7\ntotal_steps: ${{num_envs}}\n", (7, 7), 30),
        (f"{GLOBAL}defaults:\n  - override /policy: mlp\n  - _self_\nnum_envs: 9\n", (9, 4_000_000), 1000),
        ("max_episode_steps: 15\n", (1024, 4_000_000), 15),
    ],
    ids=["no file", "values", "a file on top", "a file below", "another policy", "package of the group"],
)
def test_file_of_a_plugin(
    content: str | None,
    budget: tuple[int, int],
    steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each way to write one, also those that are left to Hydra."""
    (tmp_path / "task").mkdir()
    (tmp_path / "more.yaml").write_text(f"{GLOBAL}num_envs: 8\ntask:\n  max_episode_steps: 30\n")
    if content is not None:
        (tmp_path / "task" / "other.yaml").write_text(content)
    # An option without a file is put into Hydra's store, which is global.
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", copy.deepcopy(store.repo))
    monkeypatch.setattr(plugins, "_conf_dirs", [])
    plugins._add_conf_dir(tmp_path)
    monkeypatch.setitem(TASKS, "other", OtherConfig)
    options.register()
    found = task_settings.read("other")
    assert (found.num_envs, found.total_steps) == budget
    assert found.task.max_episode_steps == steps
    assert found == composed("other")
