"""List every task.

usage: python -m factory.tasks [plugins=[<file.py>,...]]
"""

from __future__ import annotations

import contextlib
import math
import sys
from dataclasses import dataclass, field
from typing import Any

from gymnasium.spaces import Discrete
from rich.console import Console
from rich.table import Table

from factory import cli, options
from factory.cli import task_settings
from factory.envs.core.task import TaskFacts

COLUMNS = (
    "task",
    "id",
    "robot",
    "observations",
    "actions",
    "control",
    "episode",
    "return threshold",
    "worlds",
    "env steps",
)


@dataclass(kw_only=True)
class TasksConfig:
    """Settings of the list."""

    plugins: list[str] = field(default_factory=list)
    """Python files whose tasks are listed, too."""


def describe(name: str) -> tuple[str, ...]:
    """Return one row of the table.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: a setting of the task is wrong.
    """
    settings = task_settings.read(name)
    task = settings.task
    steps = f"{settings.total_steps:,}"
    if task.example:
        # Sizes and rates are unknown before the keys that the task needs are given.
        keys = ", ".join(override.partition("=")[0] for override in task.example)
        return (name, task.id, "-", f"depends on {keys}", *"-----", steps)
    facts = task.facts or _look(name)
    threshold = "-"
    if task.return_threshold is not None:
        threshold = f"{task.return_threshold:g}"
    return (
        name,
        task.id,
        facts.robots,
        ", ".join(f"{group} {size}" for group, size in facts.observations.items()),
        facts.actions,
        f"{facts.control_hz:.0f} Hz",
        f"{task.max_episode_steps / facts.control_hz:.0f} s",
        threshold,
        str(settings.num_envs),
        steps,
    )


def _look(name: str) -> TaskFacts:
    """Return the facts of a task that does not state them, by building its environment."""
    # Imported here: it loads torch and MuJoCo, which the project's own tasks do not need in this list.
    from factory.training.build import make_env

    cfg, _ = cli.compose_config(options.example(name))
    with contextlib.closing(make_env(cfg, num_envs=cfg.task.agents_per_world)) as env:
        observations = env.single_observation_space
        groups: dict[str, Any] = getattr(observations, "spaces", {"policy": observations})
        space: Any = env.single_action_space
        actions = str(math.prod(space.shape))
        if isinstance(space, Discrete):
            actions = f"one of {space.n}"
        return TaskFacts(
            robots=env.robot_name,
            observations={name: math.prod(group.shape) for name, group in groups.items()},
            actions=actions,
            control_hz=1 / env.step_dt_s,
        )


def main() -> None:
    """Print the table."""
    if cli.prints_info(__doc__):
        return
    cli.show_warnings()
    with cli.one_line_errors():
        options.load_plugins(cli.parse(TasksConfig, sys.argv[1:]).plugins)
    table = Table(
        *COLUMNS, title="Tasks (robot=default, and the budget each trains with; gymnasium takes any env_id)"
    )
    mistakes: list[str] = []
    for name in options.choices("task"):
        # One task that a plug-in gets wrong must not hide the others.
        try:
            table.add_row(*describe(name))
        except cli.MISTAKES as error:
            prefix = f"task={name}: "
            mistakes.append(prefix + cli.one_line(error).removeprefix(prefix))
    console = Console()
    # A row that wraps cannot be read, so a narrow terminal wraps whole lines instead.
    Console(width=max(console.width, Console(width=1000).measure(table).maximum)).print(table)
    if mistakes:
        cli.fail(ValueError("; ".join(mistakes)))


if __name__ == "__main__":
    main()
