"""Registries: the components a training job can choose by name.

A component is described by a keyword-only dataclass, its config class. Registering the class is all it takes: the
Gymnasium id, the options of `task=...`, the schema of its keys and the row of `factory.tasks` follow from it.
Importing this module loads no component.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium

if TYPE_CHECKING:
    from factory.envs.core.task import TaskConfig

Config = TypeVar("Config", bound=type)

TASKS: dict[str, type[TaskConfig]] = {}
"""Config class of every task, by its name in `task=<name>`."""


def register_task(config: type[TaskConfig]) -> type[TaskConfig]:
    """Add a task: `task=<config.name>`, and `config.id` for `gymnasium.make_vec` and `gymnasium.make`.

    Serves as a class decorator, too.

    Raises:
        ValueError: another task has the same name or id, or the config class lacks its name, id or `env`.
    """
    for attribute in ("name", "id", "env"):
        if not getattr(config, attribute):
            raise ValueError(f"{config.__qualname__}: a task needs the class attribute `{attribute}`")
    _add(TASKS, config.name, config, kind="task")
    if config.id in gymnasium.registry:
        del TASKS[config.name]
        raise ValueError(f"{config.id}: Gymnasium already has an environment of this id; choose another")
    gymnasium.register(id=config.id, entry_point=_single_version(config), vector_entry_point=config.env)
    return config


def load(reference: str) -> Any:
    """Import the object that a `module:name` reference points to."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def _add(registry: dict[str, Any], name: str, component: Any, *, kind: str) -> None:
    if name in registry:
        taken_by = registry[name]
        raise ValueError(f"{kind}={name}: already registered by {taken_by.__module__}; choose another name")
    registry[name] = component


def _single_version(config: type[TaskConfig]) -> Callable[..., gymnasium.Env]:
    """Return the entry point of the one-environment version, which imports the task when it is called."""

    def make(**kwargs: Any) -> gymnasium.Env:
        single = getattr(load(config.env), "single", None)
        if single is None:
            raise ValueError(f"{config.id}: a vector environment only; use gymnasium.make_vec")
        return single(**kwargs)

    return make
