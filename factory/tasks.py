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

from factory import cli, config, options
from factory.config import TrainConfig
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


def describe(cfg: TrainConfig) -> tuple[str, ...]:
    """Return one row of the table."""
    if cfg.task.example:
        # Sizes and rates are unknown before the keys that the task needs are given.
        keys = ", ".join(override.partition("=")[0] for override in cfg.task.example)
        return (cfg.task.name, cfg.task.id, "-", f"depends on {keys}", *"-----", f"{cfg.total_steps:,}")
    facts = cfg.task.facts or _look(cfg)
    threshold = "-"
    if cfg.task.return_threshold is not None:
        threshold = f"{cfg.task.return_threshold:g}"
    return (
        config.label(cfg),
        cfg.task.id,
        facts.robots,
        ", ".join(f"{name} {size}" for name, size in facts.observations.items()),
        facts.actions,
        f"{facts.control_hz:.0f} Hz",
        f"{cfg.task.max_episode_steps / facts.control_hz:.0f} s",
        threshold,
        str(cfg.num_envs),
        f"{cfg.total_steps:,}",
    )


def _look(cfg: TrainConfig) -> TaskFacts:
    """Return the facts of a task that does not state them, by building its environment."""
    # Imported here: it loads torch and MuJoCo, which the project's own tasks do not need in this list.
    from factory.training.build import make_env

    with contextlib.closing(make_env(cfg, num_envs=1)) as env:
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
    arguments = sys.argv[1:]
    if cli.prints_info(__doc__):
        return
    cli.show_warnings()
    with cli.one_line_errors():
        files = cli.parse(TasksConfig, arguments).plugins
        options.load_plugins(files)
    table = Table(
        *COLUMNS, title="Tasks (robot=default, and the budget each trains with; gymnasium takes any env_id)"
    )
    for name in options.choices("task"):
        table.add_row(*describe(cli.compose_config(options.example(name))[0]))
    console = Console()
    # A row that wraps cannot be read, so a narrow terminal wraps whole lines instead.
    Console(width=max(console.width, Console(width=1000).measure(table).maximum)).print(table)


if __name__ == "__main__":
    main()
