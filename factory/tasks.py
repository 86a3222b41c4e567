"""List every task.

usage: python -m factory.tasks [plugins=[<file.py>,...]]
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

from gymnasium.spaces import Discrete
from rich.console import Console
from rich.table import Table

from factory import cli, config, options
from factory.config import TrainConfig
from factory.training.build import make_env

COLUMNS = (
    "task",
    "id",
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
    """What to list."""

    plugins: list[str] = field(default_factory=list)
    """Python files whose tasks are listed, too."""


def describe(cfg: TrainConfig) -> tuple[str, ...]:
    """Return one row of the table; builds one world of the task."""
    env = make_env(cfg, num_envs=1)
    row = (
        config.label(cfg),
        cfg.task.id,
        _sizes(env.single_observation_space),
        _choices(env.single_action_space),
        f"{1 / env.unwrapped.step_dt_s:.0f} Hz",
        f"{env.unwrapped.max_episode_steps * env.unwrapped.step_dt_s:.0f} s",
        "-" if cfg.task.return_threshold is None else f"{cfg.task.return_threshold:g}",
        str(cfg.num_envs),
        f"{cfg.total_steps:,}",
    )
    env.close()
    return row


def _sizes(space: Any) -> str:
    groups = space.spaces.items() if hasattr(space, "spaces") else [("policy", space)]
    return ", ".join(f"{name} {math.prod(group.shape)}" for name, group in groups)


def _choices(space: Any) -> str:
    return f"one of {space.n}" if isinstance(space, Discrete) else str(math.prod(space.shape))


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
