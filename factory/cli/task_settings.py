"""Settings of tasks for a list, read from their files: composing whole jobs takes ten times as long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from factory import options, plugins
from factory.cli.jobs import compose_config
from factory.config import TrainConfig
from factory.envs.core.task import TaskConfig
from factory.registry import TASKS

_HEADER = "# @package _global_"
_JOB_KEYS = ("robot", "env_id", "num_envs", "total_steps")
"""Settings of a job that the list shows or that those of a task refer to."""


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """A task and the budget with which it is trained."""

    task: TaskConfig
    num_envs: int
    total_steps: int


def read(name: str) -> TaskSettings:
    """Return the settings with which `task=<name>` is trained.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: a setting is wrong.
    """
    content = None
    if name in TASKS and not TASKS[name].example:
        content = _content(f"task/{name}")
    if content is None:
        cfg, _ = compose_config(options.example(name))
        return TaskSettings(task=cfg.task, num_envs=cfg.num_envs, total_steps=cfg.total_steps)

    job: dict[str, Any] = {key: getattr(TrainConfig, key) for key in _JOB_KEYS}
    base = OmegaConf.create(job | {"task": OmegaConf.structured(TASKS[name])})
    shown = OmegaConf.masked_copy(content, [*_JOB_KEYS, "task"])
    merged: Any = OmegaConf.merge(base, shown)
    return TaskSettings(
        task=OmegaConf.to_object(merged.task),  # type: ignore[arg-type]
        num_envs=merged.num_envs,
        total_steps=merged.total_steps,
    )


def _content(option: str) -> DictConfig | None:
    """Return the content of an option's file and of those it builds on; None if it takes Hydra to find it."""
    path = _find(option)
    if path is None:
        return OmegaConf.create({})
    content: Any = OmegaConf.load(path)
    with path.open() as file:
        has_header = file.readline().strip() == _HEADER
    defaults = content.pop("defaults", ["_self_"])
    is_plain = all(entry == "_self_" or str(entry).startswith("/") for entry in defaults)
    if not (has_header and is_plain and "_self_" in defaults):
        return None

    # As Hydra does, later entries override earlier ones.
    parts: list[DictConfig] = []
    for entry in defaults:
        part = content
        if entry != "_self_":
            part = _content(entry.removeprefix("/"))
        if part is None:
            return None
        parts.append(part)
    return OmegaConf.merge(*parts)  # type: ignore[return-value]


def _find(option: str) -> Path | None:
    """Return the file of an option, such as `task/gym/ant`, if it has one."""
    files = (folder / f"{option}.yaml" for folder in (options.CONF_DIR, *plugins.conf_dirs()))
    return next((file for file in files if file.is_file()), None)
